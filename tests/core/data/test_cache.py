import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.cache import cache_dir, open_panel, own_cache_dir, store
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Synthetic
from backtest_batch.core.kernel_cache import kernel_folder
from backtest_batch.errors import DataError, DataNotFoundError
from backtest_batch.ownership import temporary_folder_name


@pytest.fixture
def close():
    index = pd.bdate_range("2020-01-01", periods=40, tz="America/New_York")
    values = 50.0 + np.arange(120, dtype=float).reshape(40, 3) % 7
    return pd.DataFrame(values, index=index, columns=["C", "A", "Ä ∑"])


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    """A cache that cannot be written, even by root, and a temporary folder of its own."""
    (tmp_path / "a file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "a file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def entry(panel):
    return cache_dir() / "panels" / panel.fingerprint


def prices_file(tmp_path, close):
    close.tz_localize(None).to_csv(tmp_path / "prices.csv")
    return Csv(path=str(tmp_path / "prices.csv"))


def test_a_stored_panel_comes_back_as_it_was(close):
    panel = panel_from_frames(close, volume=close * 10)
    for again in (store(panel), open_panel(panel.fingerprint)):
        assert again == panel
        assert again.symbols == ("C", "A", "Ä ∑")
        assert again.index.equals(panel.index)
        assert (again.index.tz.key, again.index.unit) == ("America/New_York", "ns")
        assert list(again.fields) == ["close", "volume"]
        for name, values in again.fields.items():
            np.testing.assert_array_equal(values, panel.fields[name])
            assert type(values) is np.ndarray
            assert isinstance(values.base, np.memmap)
            assert values.flags.c_contiguous
            assert not values.flags.writeable


def test_zones_come_back(close):
    for zone in (None, "UTC", "UTC-05:00", "Europe/Berlin"):
        panel = store(panel_from_frames(close.tz_localize(None).tz_localize(zone)))
        again = open_panel(panel.fingerprint)
        assert again.index.equals(panel.index)
        assert str(again.index.tz) == str(zone)


def test_the_files_are_plain_numpy_and_json(close, cache_folder):
    panel = store(panel_from_frames(close))
    folder = cache_folder / "panels" / panel.fingerprint
    assert sorted(item.name for item in folder.iterdir()) == ["close.npy", "index.npy", "meta.json"]
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["unit"], meta["tz"], meta["symbols"]) == (
        "ns",
        "America/New_York",
        ["C", "A", "Ä ∑"],
    )
    assert np.load(folder / "close.npy").shape == (40, 3)


def test_the_first_bars_of_a_stored_panel_take_no_space(close):
    panel = store(panel_from_frames(close))
    cut = panel.until("2020-01-31")
    again = store(cut)
    assert [item.name for item in entry(cut).iterdir()] == ["meta.json"]
    assert again == open_panel(cut.fingerprint) == cut
    assert open_panel(cut.fingerprint).base == panel.fingerprint
    np.testing.assert_array_equal(again.fields["close"], cut.fields["close"])
    shorter = store(again.until("2020-01-10"))
    assert shorter.base == panel.fingerprint
    assert open_panel(shorter.fingerprint).n_bars == 8


def test_the_first_bars_of_a_panel_that_is_not_stored_are_stored_whole(close):
    cut = panel_from_frames(close).until("2020-01-31")
    assert store(cut) == cut
    assert (entry(cut) / "close.npy").exists()


def test_load_panel_with_an_end_date(tmp_path, close):
    source = prices_file(tmp_path, close)
    panel = load_panel(source, end_date="2020-01-10")
    expected = panel_from_frames(close.tz_localize(None).loc[:"2020-01-10"])
    assert panel == expected
    assert open_panel(panel.fingerprint) == expected
    assert load_panel(source, end_date="2030") == load_panel(source)


def test_other_processes_open_it(close):
    panel = store(panel_from_frames(close))
    program = """
import sys
from backtest_batch.core.data.cache import open_panel
panel = open_panel(sys.argv[1])
print(panel.fingerprint, float(panel.fields["close"].sum()))
"""
    command = [sys.executable, "-c", program, panel.fingerprint]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [panel.fingerprint, str(float(close.to_numpy().sum()))]


@pytest.mark.parametrize("fingerprint", ["0" * 64, "", "../../etc", "A" * 64, "x"])
def test_panels_that_are_not_there(fingerprint):
    with pytest.raises(DataNotFoundError, match=f"the cache has no panel {fingerprint}"):
        open_panel(fingerprint)


# from a source to its panel


def test_a_second_load_does_not_parse_the_file(tmp_path, close):
    source = prices_file(tmp_path, close)
    panel = load_panel(source)
    stamps = {item: item.stat().st_mtime_ns for item in entry(panel).iterdir()}
    assert load_panel(source) == panel
    assert {item: item.stat().st_mtime_ns for item in entry(panel).iterdir()} == stamps


def test_a_rewritten_file_never_passes_for_the_old_one(tmp_path, close):
    source = prices_file(tmp_path, close)
    file = Path(source.path)
    before = file.stat()
    panel = load_panel(source)
    text = file.read_text()
    file.write_text(text.replace("50.0", "60.0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time
    assert file.stat().st_size == before.st_size
    changed = load_panel(source)
    assert changed != panel
    assert changed.fields["close"][0, 0] == 60.0
    file.write_text(text)
    assert load_panel(source) == panel


def test_the_place_of_a_file_does_not_matter(tmp_path, close):
    source = prices_file(tmp_path, close)
    panel = load_panel(source)
    moved = tmp_path / "moved"
    moved.mkdir()
    Path(source.path).rename(moved / "prices.csv")
    assert load_panel(Csv(path=str(moved))) == panel
    assert len(list((cache_dir() / "sources").iterdir())) == 1


def test_options_and_symbols_lead_to_panels_of_their_own(tmp_path, close):
    file = prices_file(tmp_path, close).path
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("A\nC\n")
    panels = [
        load_panel(Csv(path=file)),
        load_panel(Csv(path=file, symbols=["A"])),
        load_panel(Csv(path=file, symbols_file=str(wanted))),
        load_panel(Csv(path=file, timezone="UTC")),
    ]
    assert len({panel.fingerprint for panel in panels}) == 4
    wanted.write_text("C\n")
    assert load_panel(Csv(path=file, symbols_file=str(wanted))).symbols == ("C",)


def test_options_that_change_nothing_lead_to_the_same_panel(tmp_path, close):
    file = prices_file(tmp_path, close).path
    filled = load_panel(Csv(path=file, missing="ffill"))
    assert filled == load_panel(Csv(path=file))
    assert len(list((cache_dir() / "panels").iterdir())) == 1


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path, close):
    class Rewritten(Csv):
        def read(self, wanted):
            reading = super().read(wanted)
            Path(self.path).write_text("date,A\n2020-01-01,1\n")
            return reading

    with pytest.raises(DataError, match="changed while they were being read"):
        load_panel(Rewritten(path=prices_file(tmp_path, close).path))


def test_two_source_classes_with_the_same_options_are_kept_apart(tmp_path, close):
    class Doubled(Synthetic):
        def read(self, wanted):
            reading = super().read(wanted)
            for bars in reading.bars:
                bars.fields["close"] = bars.fields["close"] * 2
            return reading

    plain, doubled = (load_panel(kind(n_bars=9)) for kind in (Synthetic, Doubled))
    np.testing.assert_array_equal(doubled.fields["close"], plain.fields["close"] * 2)


# damage


def damage_truncate(folder):
    content = (folder / "close.npy").read_bytes()
    (folder / "close.npy").write_bytes(content[:-8])


def damage_lengthen(folder):
    with (folder / "close.npy").open("ab") as out:
        out.write(b"\0" * 8)


def damage_remove_field(folder):
    (folder / "close.npy").unlink()


def damage_empty_index(folder):
    (folder / "index.npy").write_bytes(b"")


def damage_meta(folder):
    (folder / "meta.json").write_text('{"format": 1, "symbols": [')


def damage_meta_type(folder):
    (folder / "meta.json").write_text("[1, 2]")


def damage_meta_zone(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"tz": "America/Gotham"}))


def damage_no_meta(folder):
    (folder / "meta.json").unlink()


def damage_type(folder):
    np.save(folder / "close.npy", np.load(folder / "close.npy").astype(np.float32))


def damage_header(folder):
    content = (folder / "close.npy").read_bytes()
    (folder / "close.npy").write_bytes(content.replace(b"}", b" ", 1))


def damage_header_text(folder):
    content = (folder / "index.npy").read_bytes()
    (folder / "index.npy").write_bytes(content.replace(b"'descr'", b"\xff(((('", 1))


def damage_view_of_itself(folder):
    meta = json.loads((folder / "meta.json").read_text())
    view = {"view_of": folder.name, "n_bars": 40}
    (folder / "meta.json").write_text(json.dumps(meta | view))


def damage_depth(folder):
    (folder / "meta.json").write_text("[" * 100_000)


def damage_field_names(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"fields": ["../../../close"]}))


SHOWN_BY_SIZE = [
    damage_header,
    damage_header_text,
    damage_view_of_itself,
    damage_depth,
    damage_field_names,
    damage_truncate,
    damage_lengthen,
    damage_remove_field,
    damage_empty_index,
    damage_meta,
    damage_meta_type,
    damage_meta_zone,
    damage_no_meta,
    damage_type,
]


@pytest.mark.parametrize("damage", SHOWN_BY_SIZE)
def test_a_damaged_entry_is_refused_and_built_again(tmp_path, close, damage):
    source = prices_file(tmp_path, close)
    panel = load_panel(source)
    expected = np.array(panel.fields["close"])
    del panel
    fingerprint = load_panel(source).fingerprint
    damage(cache_dir() / "panels" / fingerprint)
    with pytest.raises(DataNotFoundError, match="was deleted or is damaged"):
        open_panel(fingerprint)
    again = load_panel(source)
    assert again.fingerprint == fingerprint
    np.testing.assert_array_equal(again.fields["close"], expected)
    assert open_panel(fingerprint) == again


def test_a_flipped_byte_is_found_by_the_next_load(tmp_path, close):
    source = prices_file(tmp_path, close)
    fingerprint = load_panel(source).fingerprint
    file = cache_dir() / "panels" / fingerprint / "close.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert open_panel(fingerprint).fields["close"][-1, -1] != close.iloc[-1, -1]
    assert load_panel(source).fields["close"][-1, -1] == close.iloc[-1, -1]


def test_a_damaged_entry_is_replaced_by_store(close):
    panel = panel_from_frames(close)
    store(panel)
    damage_truncate(entry(panel))
    np.testing.assert_array_equal(store(panel).fields["close"], close.to_numpy())


def test_the_first_bars_of_a_damaged_panel_are_refused(close):
    panel = store(panel_from_frames(close))
    cut = store(panel.until("2020-01-31"))
    damage_truncate(entry(panel))
    with pytest.raises(DataNotFoundError):
        open_panel(cut.fingerprint)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"fingerprint": 3, "notes": 4}', "nonsense"])
def test_a_damaged_link_is_built_again(tmp_path, close, text):
    source = prices_file(tmp_path, close)
    panel = load_panel(source)
    (link,) = (cache_dir() / "sources").iterdir()
    link.write_text(text)
    assert load_panel(source) == panel
    assert json.loads(link.read_text())["fingerprint"] == panel.fingerprint


# what others may write

is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="gives files to another user, as root may")


def test_a_link_that_leads_to_another_panel_is_not_believed(tmp_path, close):
    source = prices_file(tmp_path, close)
    panel = load_panel(source)
    (link,) = (cache_dir() / "sources").iterdir()
    other = store(panel_from_frames(close.tz_localize(None) * 2))
    signed = json.loads(link.read_text())

    for changed in ({"fingerprint": other.fingerprint}, {"notes": ["\x1b[2J"]}, {"signature": ""}):
        link.write_text(json.dumps(signed | changed))
        assert load_panel(source) == panel
        assert json.loads(link.read_text()) == signed


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_in_a_shared_cache_what_is_believed_lies_in_a_folder_of_ones_own(
    cache_folder, close, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cache_folder.mkdir()
    cache_folder.chmod(0o1777)
    own = cache_folder / f"user-{os.geteuid()}"
    assert own_cache_dir() == own
    assert own.stat().st_mode & 0o777 == 0o700

    load_panel(prices_file(tmp_path, close))
    assert list((own / "sources").iterdir())
    assert not (cache_folder / "sources").exists()
    assert list((cache_folder / "panels").iterdir())
    # Where others could put another folder in its place, it lies elsewhere.
    cache_folder.chmod(0o777)
    assert own_cache_dir() == temporary_folder_name()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_kernels_lie_where_nobody_else_may_write(cache_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert kernel_folder() == cache_folder / "numba"
    cache_folder.chmod(0o1777)
    own = kernel_folder()
    assert own == cache_folder / f"user-{os.geteuid()}" / "numba"
    assert own.stat().st_mode & 0o077 == 0
    # Neither does a folder that was named for them count when others may write to it.
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))
    assert kernel_folder() == chosen
    chosen.chmod(0o777)
    assert kernel_folder() == temporary_folder_name() / "numba"
    assert "others may write there" in caplog.text


@needs_root
def test_the_panel_of_another_user_is_compared_before_it_is_used(close):
    panel = store(panel_from_frames(close))
    os.chown(entry(panel), 12_345, 12_345)
    file = entry(panel) / "close.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)

    with pytest.raises(DataNotFoundError):
        open_panel(panel.fingerprint)
    content[-3] ^= 1
    file.write_bytes(content)
    assert open_panel(panel.fingerprint) == panel


# kills and other processes

WRITER = """
import sys, time
import numpy as np, pandas as pd
from backtest_batch.core.data.cache import store
from backtest_batch.core.data.panel import panel_from_frames

index = pd.date_range("2000-01-01", periods=2000, freq="D")
close = pd.DataFrame(np.full((2000, 200), 7.0), index=index, columns=[f"S{n}" for n in range(200)])
panel = panel_from_frames(close, volume=close)
print(panel.fingerprint, flush=True)
store(panel)
print(panel.fields["close"].sum(), flush=True)
"""


def start_writer(**environment):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_store_the_same_panel_at_once(cache_folder):
    writers = [start_writer() for _ in range(4)]
    try:
        answers = [writer.communicate(timeout=500) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
    assert [error for _, error in answers] == [""] * 4
    fingerprints = {printed.split()[0] for printed, _ in answers}
    (fingerprint,) = fingerprints
    assert open_panel(fingerprint).fields["close"].sum() == 7.0 * 2000 * 200
    names = sorted(item.name for item in (cache_folder / "panels" / fingerprint).iterdir())
    assert names == ["close.npy", "index.npy", "meta.json", "volume.npy"]


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005])
def test_a_writer_that_is_killed_leaves_nothing_that_passes_for_a_panel(cache_folder, delay):
    writer = start_writer()
    fingerprint = writer.stdout.readline().strip()
    time.sleep(delay)
    writer.kill()
    writer.communicate(timeout=500)
    with contextlib.suppress(DataNotFoundError):
        assert open_panel(fingerprint).fields["volume"].sum() == 7.0 * 2000 * 200
    second = start_writer()
    assert second.communicate(timeout=500)[1] == ""
    assert open_panel(fingerprint).fields["close"].sum() == 7.0 * 2000 * 200


def test_what_killed_processes_left_is_removed_when_it_is_old(close):
    panel = panel_from_frames(close)
    folder = entry(panel)
    folder.mkdir(parents=True)
    old, young = folder / "close.npy.1-aa.tmp", folder / "close.npy.2-bb.tmp"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    store(panel)
    assert not old.exists()
    assert young.exists()


# a cache that cannot be written


def test_a_temporary_folder_stands_in_for_a_cache_that_cannot_be_written(no_cache, close, caplog):
    source = prices_file(no_cache, close)
    panel = load_panel(source)
    stand_in = temporary_folder_name()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("backtest_batch.market", logging.WARNING)
    assert "cannot be written" in record.message
    assert str(stand_in) in record.message
    assert (stand_in / "panels" / panel.fingerprint / "close.npy").exists()
    assert open_panel(panel.fingerprint) == panel
    cut = load_panel(source, end_date="2020-01-10")
    assert open_panel(cut.fingerprint) == cut
    assert load_panel(source) == panel
    if hasattr(os, "getuid"):
        assert stand_in.stat().st_mode & 0o777 == 0o700


def test_the_temporary_folder_is_not_made_unless_it_is_needed(tmp_path, monkeypatch, close):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    panel = load_panel(prices_file(tmp_path, close))
    open_panel(panel.fingerprint)
    with pytest.raises(DataNotFoundError):
        open_panel("0" * 64)
    assert not list((tmp_path / "tmp").iterdir())


def test_where_nothing_can_be_written_the_panel_stays_in_memory(no_cache, close, caplog):
    (no_cache / "tmp").rmdir()
    (no_cache / "tmp").touch()
    panel = load_panel(prices_file(no_cache, close))
    assert panel == panel_from_frames(close.tz_localize(None))
    assert "the prices stay in this process alone" in caplog.text
    with pytest.raises(DataNotFoundError):
        open_panel(panel.fingerprint)


def test_a_disk_that_is_full_in_the_middle_of_a_file(tmp_path, cache_folder):
    (tmp_path / "tmp").mkdir()
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    command = [sys.executable, "-c", limited + WRITER]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == str(7.0 * 2000 * 200)
    assert "the prices stay in this process alone" in done.stderr
    assert not [item for item in tmp_path.rglob("*") if item.is_file()]


def test_a_folder_that_somebody_else_planted_is_not_used(no_cache, close, caplog):
    elsewhere = no_cache / "elsewhere"
    elsewhere.mkdir()
    temporary_folder_name().symlink_to(elsewhere)
    load_panel(prices_file(no_cache, close))
    assert not list(elsewhere.iterdir())
    assert "this process alone" in caplog.text


# where the cache is


def test_the_folder_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", "relative folder")
    monkeypatch.chdir(tmp_path)
    assert cache_dir() == tmp_path / "relative folder"
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have folders of their own")
def test_the_folder_of_the_cache_on_linux(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "backtest_batch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "backtest_batch"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_dir() == tmp_path / ".cache" / "backtest_batch"
