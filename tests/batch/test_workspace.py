import os
import tempfile

import numpy as np
import pytest

from backtest_batch.batch.returns import ResumeNotes
from backtest_batch.errors import ConfigurationError
from backtest_batch.ownership import temporary_folder_name
from backtest_batch.rows import is_whole, row_writer
from backtest_batch.store.folders import new_batch_id, open_workspace, scratch_folder, spare_folders
from backtest_batch.workers.chunks import RETURNS, array_file, make_working_folder

KEYS = ("a" * 64, "b" * 64)


class Run:
    def __init__(self, key):
        self.run_key, self.n_bars = key, 3


RUNS = [Run(key) for key in KEYS]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def workspace(tmp_path, cache):
    return open_workspace("id", tmp_path / "mlruns" / "batches" / "id", RUNS, {"c" * 64: 2})


def write_row(folder, row, key, value):
    folder.mkdir(parents=True, exist_ok=True)
    with row_writer(array_file(folder, RETURNS), 3) as write:
        write(row, key, 0, np.full(3, value))


def test_a_batch_id_is_a_time_and_six_digits():
    day, rest = new_batch_id().split("T")
    assert len(day) == 8
    assert len(rest) == len("120000Z-abcdef")


def test_returns_are_mapped_without_their_marks(workspace):
    write_row(workspace.scratch.folder, 1, KEYS[1], 0.5)
    returns = workspace.returns(3)
    assert returns.shape == (3, 3)
    np.testing.assert_array_equal(returns[1], [0.5, 0.5, 0.5])
    assert not workspace.is_spread


def test_rows_in_several_places_are_gathered(workspace):
    near, far = workspace.scratch.spares
    write_row(workspace.scratch.folder, 0, KEYS[0], 0.1)
    write_row(near, 1, KEYS[1], 0.2)
    write_row(far, 2, "c" * 64, 0.3)
    assert workspace.is_spread
    workspace.gather()
    rows = workspace.whole_rows(RETURNS, 3)
    assert [is_whole(rows[row], key) for row, key in enumerate(workspace.keys)] == [True] * 3
    np.testing.assert_array_equal(workspace.returns(3)[:, 0], [0.1, 0.2, 0.3])
    workspace.close()
    assert not any(folder.exists() for folder in workspace.scratch.folders)


def test_reports_move_to_a_spare_place(workspace):
    assert workspace.reports == workspace.scratch.folder / "reports"
    assert workspace.make_spare_reports()
    assert workspace.reports == workspace.scratch.spares[0] / "reports"


def test_a_new_batch_is_discarded_with_the_folders_that_it_made(workspace, tmp_path):
    workspace.discard()
    assert not (tmp_path / "mlruns").exists()


def test_folders_that_others_use_stay(tmp_path, cache):
    output_dir = tmp_path / "mine"
    (output_dir / "logs").mkdir(parents=True)
    (output_dir / "logs" / "other.log").touch()
    open_workspace("id", output_dir, RUNS, {}).discard()
    assert (output_dir / "logs" / "other.log").exists()
    assert not list(output_dir.glob(".scratch*"))


def test_what_an_earlier_attempt_has_left_is_never_discarded(workspace):
    write_row(workspace.scratch.folder, 0, KEYS[0], 0.1)
    again = open_workspace("id", workspace.output_dir, RUNS, {"c" * 64: 2})
    again.discard()
    assert array_file(workspace.scratch.folder, RETURNS).exists()


def test_a_folder_that_cannot_be_made(tmp_path, cache):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be written .* nothing was run"):
        open_workspace("id", tmp_path / "file" / "batch", RUNS, {})


# what others may have put there


def test_links_that_were_planted_are_not_written_through(tmp_path, cache):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("mine")
    output_dir = tmp_path / "mine"
    scratch = scratch_folder(output_dir, "id")
    scratch.mkdir(parents=True)
    (scratch / "start").symlink_to(precious)
    (scratch / "kept.jsonl").symlink_to(precious / "thesis")
    (output_dir / "logs").symlink_to(precious)

    workspace = open_workspace("id", output_dir, RUNS, {})
    (workspace.start_files / "trials.json").write_text("x")
    (workspace.logs / "batch.log").write_text("x")
    ResumeNotes(workspace.scratch.folders).add("benchmark", {"key": {"sharpe": 1.0}})

    assert [path.name for path in precious.iterdir()] == ["thesis"]
    assert (precious / "thesis").read_text() == "mine"
    assert workspace.scratch.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_spare_folders_that_somebody_else_has_made_are_none(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    near, far = spare_folders("id")
    assert far == temporary_folder_name() / "backtest_batch-scratch" / "id"
    temporary_folder_name().mkdir()
    temporary_folder_name().chmod(0o777)
    assert spare_folders("id") == (near,)
    # Nor is one that is put there meanwhile used.
    with pytest.raises(PermissionError, match="you alone may change"):
        make_working_folder(far, is_spare=True)
    make_working_folder(near, is_spare=True)
    assert near.stat().st_mode & 0o777 == 0o700
