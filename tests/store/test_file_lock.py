import subprocess
import sys
import time

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.store.sqlite_file import locked

COUNT = """
import sys, time
from pathlib import Path
from backtest_batch.store.sqlite_file import locked
lock, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    with locked(lock):
        number = int(counter.read_text())
        time.sleep(0.0005)
        counter.write_text(str(number + 1))
"""

HOLD = """
import sys, time
from pathlib import Path
from backtest_batch.store.sqlite_file import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_only_one_process_is_inside_at_a_time(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNT, tmp_path / "lock", counter])
        for _ in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert counter.read_text() == "120"
    assert not (tmp_path / "lock").exists()


def test_a_killed_holder_does_not_hold_it_any_longer(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(StoreError, match=r"Another process has locked .* for 0 seconds"),
        locked(lock, timeout_seconds=0.1),
    ):
        pass
    holder.kill()
    holder.communicate()
    started = time.monotonic()
    with locked(lock, timeout_seconds=10):
        assert time.monotonic() - started < 10
    assert not lock.exists()


def test_an_exception_inside_releases_it(tmp_path):
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "lock"):
        raise ValueError("inside")
    with locked(tmp_path / "lock", timeout_seconds=0.1):
        pass


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing" / "lock"):
        pass
    assert not (tmp_path / "missing").exists()
