import os

import pytest

from backtest_batch.ownership import (
    is_own_file,
    is_own_folder,
    make_own_folder,
    own_temporary_folder,
)

is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="gives files to another user, as root may")


def test_what_others_may_write_is_nobodys(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(0o644)
    assert is_own_file(file)
    file.chmod(0o646)
    assert not is_own_file(file)
    file.chmod(0o644)
    tmp_path.chmod(0o777)
    assert not is_own_file(file)
    assert not is_own_folder(tmp_path)


def test_a_link_is_no_file_of_ones_own(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").symlink_to(tmp_path)

    assert not is_own_file(tmp_path / "link")
    assert not is_own_folder(tmp_path / "folder")
    with pytest.raises(PermissionError, match="you alone may change"):
        make_own_folder(tmp_path / "folder")


def test_folders_that_are_made_are_private(tmp_path):
    make_own_folder(tmp_path / "a" / "b")

    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert folder.stat().st_mode & 0o777 == 0o700


@needs_root
def test_what_somebody_else_made_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = own_temporary_folder(create=True)
    assert mine is not None
    assert own_temporary_folder() == mine
    os.chown(mine, 12_345, 12_345)

    assert own_temporary_folder(create=True) is None
    assert not is_own_folder(mine)
