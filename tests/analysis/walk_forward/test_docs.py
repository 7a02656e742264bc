"""The example and the settings in docs/walk-forward.md are true, and its benchmark runs."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backtest_batch.core.split_settings import parse
from tests.support.walk_forward_cases import daily

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "walk-forward.md").read_text("utf-8")


def test_the_worked_example_prints_what_it_says():
    ((code, output),) = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.S)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/walk-forward.md", "exec"), {})
    assert printed.getvalue() == output


def test_the_dates_are_read():
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    settings = parse(yaml.safe_load(block)["walk_forward"], *daily(2_000, "2000-01-03"))

    assert settings.splits[1].test == ("2007-01-01", "2007-12-31")


def test_every_key_of_the_moving_methods_is_explained():
    keys = yaml.safe_load((ROOT / "conf" / "walk_forward" / "rolling.yaml").read_text("utf-8"))
    rows = " ".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))

    assert set(re.findall(r"`(\w+)`", rows)) == set(keys) - {"method"}


@pytest.mark.benchmark
def test_the_benchmark_runs():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.walk_forward", "--small"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n|") == 7
