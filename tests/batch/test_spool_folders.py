"""Folders in which unrecorded results are kept come and go without leaving others behind."""

from pathlib import Path

import pytest

from backtest_batch.batch.resume import make_spool_folder, remove_spool_folder, spool_folders

FIRST, SECOND = "20260101T120000Z-a1b2c3", "20260101T120000Z-d4e5f6"


def test_a_spool_in_a_shared_folder_takes_the_empty_folder_above_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    _, first, *_ = spool_folders(FIRST, tmp_path / "reports")
    _, second, *_ = spool_folders(SECOND, tmp_path / "reports")
    for folder in (first, second):
        make_spool_folder(folder)
        (folder / "batch.json").touch()
    remove_spool_folder(first)
    assert (second / "batch.json").exists()
    assert not first.exists()
    remove_spool_folder(second)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_spool_among_the_reports_leaves_them(tmp_path: Path) -> None:
    beside, *_ = spool_folders(FIRST, tmp_path)
    make_spool_folder(beside)
    remove_spool_folder(beside)
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []
