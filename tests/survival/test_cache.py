"""A cache that takes no files costs time, and no run."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_batch.core.kernel_cache import PREFIX, kernel_folder
from backtest_batch.ownership import temporary_folder_name
from tests.support.commands import Command


@pytest.fixture
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system without room."""
    folder = tmp_path_factory.mktemp("full")
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_batch_does_without_a_cache_whose_disk_is_full(
    command: Command, full_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    command.environment = {
        **command.environment,
        "BACKTEST_BATCH_CACHE": str(full_disk),
        "NUMBA_CACHE_DIR": "",
        "TMPDIR": str(temporary),
    }
    done = command.run(*command.hostile("strategy.number=0,1"))
    assert done.returncode == 0, done.stderr
    assert set(command.recorded().statuses.values()) == {"FINISHED"}
    assert "takes no files (No space left on device)" in done.stderr
    assert list(temporary.rglob("*.nbc"))


def test_kernels_stand_where_files_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert kernel_folder() == tmp_path / "cache" / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert kernel_folder() == tmp_path / "chosen"
    assert not list((tmp_path / "chosen").iterdir())
    assert not caplog.text
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    found = kernel_folder()
    assert found.parent.parent == tmp_path
    assert found.is_dir()
    assert "takes no files (Not a directory)" in caplog.text


def test_a_killed_process_leaves_no_folder_of_kernels_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a process that could not tidy up goes with the next that needs one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    temporary_folder_name().touch()  # somebody else holds the name of our own folder
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    left = tmp_path / f"{PREFIX}{killed.pid}-left" / "numba"
    left.mkdir(parents=True)
    first = kernel_folder()
    assert first.is_dir()
    assert left.is_dir()
    killed.kill()
    killed.wait()
    assert kernel_folder().is_dir()
    assert first.is_dir()
    assert not left.parent.exists()
