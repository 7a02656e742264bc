"""Working folders of batches that were killed before they could be resumed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backtest_batch.store.folders import new_batch_id, open_workspace, remove_abandoned
from tests.support.commands import SMALL_MARKET

KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from backtest_batch.store.folders import open_workspace
run = SimpleNamespace(run_key="a" * 64, n_bars=3)
open_workspace(sys.argv[1], Path(sys.argv[2]), [run], {})
os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED_COMMAND = """
import os, signal, sys
from backtest_batch.batch import session
session.provenance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from backtest_batch.cli.main import main
main(sys.argv[1:])
"""


class Run:
    run_key, n_bars = "a" * 64, 3


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def leave_behind(output_dir: Path, batch_id: str) -> Path:
    """Return the working folder of a process that was killed once it had made it."""
    code = [sys.executable, "-c", KILLED, batch_id, str(output_dir)]
    assert subprocess.run(code, check=False).returncode == -signal.SIGKILL
    scratch = output_dir / f".scratch-{batch_id}"
    assert scratch.is_dir()
    return scratch


def test_a_killed_process_leaves_an_empty_folder_which_is_removed(tmp_path: Path) -> None:
    scratch = leave_behind(tmp_path / "mine", new_batch_id())
    (tmp_path / "mine" / "rankings.csv").touch()
    remove_abandoned(tmp_path / "mine")
    assert not scratch.exists()
    assert (tmp_path / "mine" / "rankings.csv").exists()


def test_one_in_the_working_directory_goes_with_the_folder_of_its_batch(tmp_path: Path) -> None:
    batch_id = new_batch_id()
    leave_behind(tmp_path / "mlruns" / "batches" / batch_id, batch_id)
    remove_abandoned(tmp_path / "elsewhere")
    assert list((tmp_path / "mlruns" / "batches").iterdir()) == []


def test_the_folder_of_a_process_that_lives_stays(tmp_path: Path) -> None:
    workspace = open_workspace(new_batch_id(), tmp_path / "mine", [Run()], {})
    remove_abandoned(tmp_path / "mine")
    assert workspace.start_files.is_dir()


def can_be_resumed(scratch: Path) -> None:
    (scratch / "start" / "batch_config.yaml").touch()


def has_a_result(scratch: Path) -> None:
    (scratch / "returns.dat").touch()


def is_of_another_host(scratch: Path) -> None:
    file = scratch / "process.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"host": "elsewhere"}))


def names_no_process(scratch: Path) -> None:
    (scratch / "process.json").unlink()


def is_cut_off(scratch: Path) -> None:
    (scratch / "process.json").write_text('{"host"')


def is_a_link(scratch: Path) -> None:
    scratch.replace(scratch.with_name("target"))
    scratch.symlink_to(scratch.with_name("target"))


@pytest.mark.parametrize(
    "change",
    [
        can_be_resumed,
        has_a_result,
        is_of_another_host,
        names_no_process,
        is_cut_off,
        is_a_link,
    ],
)
def test_one_that_may_be_in_use_or_of_use_stays(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    scratch = leave_behind(tmp_path / "mine", new_batch_id())
    change(scratch)
    remove_abandoned(tmp_path / "mine")
    assert (scratch / "start").is_dir()


def test_an_old_one_that_names_no_process_goes(tmp_path: Path) -> None:
    scratch = leave_behind(tmp_path / "mine", new_batch_id())
    (scratch / "process.json").unlink()
    os.utime(scratch, (1_700_000_000, 1_700_000_000))
    remove_abandoned(tmp_path / "mine")
    assert not scratch.exists()


def test_a_folder_whose_name_holds_no_batch_id_stays(tmp_path: Path) -> None:
    scratch = leave_behind(tmp_path / "mine", "thesis")
    remove_abandoned(tmp_path / "mine")
    assert scratch.is_dir()


def test_the_next_batch_clears_away_after_a_command_that_was_killed_at_its_beginning(
    tmp_path: Path,
) -> None:
    arguments = ["-m", *SMALL_MARKET, "commission_bps=1,2", "output_dir=mine", "n_jobs=1"]
    killed = subprocess.run([sys.executable, "-c", KILLED_COMMAND, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "mine").glob(".scratch-*"))) == 1
    code = [sys.executable, "-m", "backtest_batch", *arguments]
    ended = subprocess.run(code, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "mine").glob(".scratch-*")) == []
    assert (tmp_path / "mine" / "rankings.csv").exists()
