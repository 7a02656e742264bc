"""Folders in which unrecorded results are kept come and go without leaving others behind."""

from pathlib import Path

import pytest

from backtest_batch.batch.resume import make_spool_place, remove_spool_place, spool_places

FIRST, SECOND = "20260101T120000Z-a1b2c3", "20260101T120000Z-d4e5f6"


def test_a_spool_in_a_shared_place_takes_the_empty_folder_above_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    _, first, *_ = spool_places(FIRST, tmp_path / "reports")
    _, second, *_ = spool_places(SECOND, tmp_path / "reports")
    for place in (first, second):
        make_spool_place(place)
        (place / "batch.json").touch()
    remove_spool_place(first)
    assert (second / "batch.json").exists()
    assert not first.exists()
    remove_spool_place(second)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_spool_among_the_reports_leaves_them(tmp_path: Path) -> None:
    beside, *_ = spool_places(FIRST, tmp_path)
    make_spool_place(beside)
    remove_spool_place(beside)
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []
