"""The examples and commands in docs/statistics.md run as they stand."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "statistics.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text("utf-8"), re.S)


def test_there_are_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_example(code, output):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {})
    assert printed.getvalue() == output


@pytest.mark.benchmark
@pytest.mark.parametrize(("options", "rows"), [(["--small"], 6), (["--small", "--scale"], 7)])
def test_the_benchmark_runs(options, rows):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overfitting", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n|") == rows
