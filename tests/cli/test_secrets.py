"""No secret stays in anything that a sweep and a comparison leave behind or print."""

import subprocess
import sys

import pytest

STRATEGY = """
import numpy as np

class Remote:
    def __init__(self, url: str = "", api_key: str = "", fail: bool = False):
        self.url, self.fail = url, fail
    def target_weights(self, panel, decisions):
        if self.fail:
            raise RuntimeError(f"cannot reach {self.url}")
        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)
"""


@pytest.mark.slow
def test_secrets_in_labels_keys_and_errors_stay_nowhere(tmp_path):
    (tmp_path / "remote.py").write_text(STRATEGY)
    labels = (
        "batch_name='of https://u:SECRET@wiki/x'",
        "description='see https://u:SECRET@wiki/x?token=SECRET'",
        "tags.link='https://u:SECRET@wiki/x'",
        "tags.password=SECRET",
        "+tags.nested.api_key=SECRET",
    )
    swept = (
        "strategy.url='https://u:SECRET@one/x','https://u:SECRET@two/y'",
        "strategy.api_key=SECRET,SECRET2",
        "strategy.fail=true,false",
    )
    small = ("data=synthetic", "data.n_bars=60", "data.n_assets=3", "n_jobs=1")
    target = ("strategy=custom", "strategy._target_=remote.Remote")

    sweep = run(tmp_path, "backtest_batch", "-m", *small, *target, *labels, *swept)
    assert sweep.returncode == 1, sweep.stderr
    wrong = run(tmp_path, "backtest_batch", "-m", *small, "strategy.api_key=SECRET,SECRET2")
    assert wrong.returncode == 2
    comparison = run(tmp_path, "backtest_batch.compare", "output_dir=compared")
    assert comparison.returncode == 0, comparison.stderr

    printed = "".join(done.stdout + done.stderr for done in (sweep, wrong, comparison))
    assert "strategy.api_key=***" in printed
    assert "SECRET" not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "report.html" for path in files)
    assert [path for path in files if b"SECRET" in path.read_bytes()] == []


def run(folder, module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
