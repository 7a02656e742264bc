"""Standard streams that are closed, full, or read by nobody."""

import os
import subprocess
import sys

import pytest

PRINTING = """
import os, subprocess, sys
from backtest_batch.streams import forgiving_output
with forgiving_output() as output:
    file = os.open("results.txt", os.O_WRONLY | os.O_CREAT)
    print("x" * 100_000, flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    # Neither is there anything wrong with the streams of what it starts.
    child = subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('child')"])
with open("said.txt", "w") as said:
    said.write(f"{child.returncode} {output.lost}")
assert sys.stdin.read() == ""
"""


@pytest.mark.parametrize(
    ("streams", "lost"),
    [
        ("<&-", ""),
        (">&-", ""),
        ("2>&-", ""),
        ("<&- >&- 2>&-", ""),
        ("2>/dev/full", ""),
        (">/dev/full", "No space left on device"),
        ("| true", ""),
    ],
)
def test_nothing_fails_by_its_streams(streams, lost, tmp_path):
    (tmp_path / "print.py").write_text(PRINTING)
    program = f"{sys.executable} print.py {'' if '<' in streams else '< /dev/null'} {streams}"
    done = subprocess.run(
        ["bash", "-c", f"{program}; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    child = 1 if streams == "2>/dev/full" else 0
    assert (tmp_path / "said.txt").read_text() == f"{child} {lost}"
    # Nothing of what was printed went where a file of ours had been opened.
    assert (tmp_path / "results.txt").read_text() == ""


def test_names_that_a_terminal_cannot_show_are_shown_as_they_can(tmp_path):
    program = (
        "from backtest_batch.streams import forgiving_output\n"
        "with forgiving_output():\n"
        "    print('caf\\xe9 \\udce4')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "caf\\xe9 \\udce4\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_goes_wrong_is_said_before_what_is_printed_later(unbuffered):
    program = (
        "import sys\n"
        "from backtest_batch.streams import forgiving_output\n"
        "with forgiving_output():\n"
        "    print('first', file=sys.stderr)\n"
        "    print('second', flush=True)\n"
        "    print('third', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.stdout.split() == ["first", "second", "third"]
