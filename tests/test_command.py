import os
import subprocess
import sys

import pytest

LEAVING = """
import atexit, sys, threading, time
from backtest_batch.command import end_process

atexit.register(lambda: print("told"))
threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
print("written", end="")
end_process({code})
"""


def left(code):
    text = LEAVING.format(code=code)
    # What measures the coverage is a tool that a command does not leave behind.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-c", text],
        input="",
        env=alone,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_what_is_written_arrives_threads_end_and_others_are_told(code):
    done = left(code)
    assert done.returncode == code
    assert done.stdout == "writtenthread\ntold\n"


@pytest.mark.parametrize("code", [130, 143])
def test_an_interrupted_command_leaves_threads_behind(code):
    done = left(code)
    assert done.returncode == code
    assert done.stdout == "writtentold\n"


def test_a_profiler_around_the_command_goes_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LEAVING.format(code=4))
    command = [sys.executable, "-m", "cProfile", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "function calls" in done.stdout
