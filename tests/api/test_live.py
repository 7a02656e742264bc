"""Strategies that no file holds: of a notebook, a script, or a function."""

import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.code import code_fingerprint

FIRST = """
import numpy as np
import pandas as pd
import backtest_batch as bb

LOOK_BACK = 30


def rising(close, window):
    return close.pct_change(window).to_numpy() > 0
"""
STRATEGY = """
class Rising:
    warmup_bars = LOOK_BACK

    def __init__(self, window: int = 20):
        self.window = window

    def target_weights(self, panel, decisions):
        signal = rising(panel.close, self.window)[decisions]
        return signal / panel.n_assets
"""
SWEEP = """
steps = np.random.default_rng(0).normal(0.0, 0.01, (600, 3))
index = pd.date_range("2015-01-01", periods=600, freq="B")
prices = pd.DataFrame(100 * np.exp(steps.cumsum(axis=0)), index=index, columns=list("ABC"))
sweep = bb.run_sweep({"strategy.window": [10, 20]}, data=prices, strategy=Rising, n_jobs=2)
"""
AGAIN = """
resumed = bb.run_sweep(resume=sweep.batch_id)
again = bb.rerun(sweep, verify=True)
print(sweep.exit_code, resumed.exit_code, again.exit_code, *sweep.table["status"])
"""


def test_a_strategy_of_a_notebook_s_cell_runs_in_processes(working_dir, recorded_runs):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbconvert")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook()
    cells = (FIRST, STRATEGY, SWEEP, AGAIN)
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, "notebook.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--inplace", "notebook.ipynb"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read("notebook.ipynb", as_version=4)
    printed = "".join(
        output["text"]
        for output in executed.cells[-1]["outputs"]
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )
    assert printed.split() == ["0", "0", "0", "FINISHED", "FINISHED"]
    codes = {run.tags["code_fingerprint"] for run in recorded_runs(working_dir).values()}
    assert len(codes) == 1  # the runs, and the one that was run again


def test_a_strategy_of_a_script_and_what_the_command_says_of_it(working_dir):
    (working_dir / "study.py").write_text(
        FIRST + STRATEGY + 'if __name__ == "__main__":' + (SWEEP + AGAIN).replace("\n", "\n    ")
    )
    done = subprocess.run([sys.executable, "study.py"], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0", "0", "FINISHED", "FINISHED"], done.stderr
    best = next(working_dir.glob("mlruns/batches/*/best_params.json"))
    assert "__main__.Rising" in best.read_text()
    command = [sys.executable, "-m", "backtest_batch", f"best={best}"]
    repeated = subprocess.run(command, capture_output=True, text=True)
    assert repeated.returncode == 2
    assert "Rising was defined in a notebook or a script" in repeated.stderr
    assert "rerun where it is defined" in repeated.stderr


def made(scale, prices=None):
    """Return a class that no module holds, and that uses what is around it."""

    class Scaled:
        def target_weights(self, panel, decisions):
            return np.full((len(decisions), panel.n_assets), scale / panel.n_assets)

        @property
        def data(self):
            return prices

    return Scaled


def fingerprint(strategy):
    from backtest_batch.core.live import register

    return code_fingerprint(register(strategy))


def test_the_code_of_a_local_class_is_its_source_and_what_it_uses():
    frame = pd.DataFrame({"A": [1.0, 2.0]})
    first = fingerprint(made(0.5, frame))
    assert fingerprint(made(0.5, frame.copy())) == first
    assert fingerprint(made(0.6, frame)) != first
    assert fingerprint(made(0.5, frame * 2)) != first


def test_a_changed_function_beside_it_is_another_code(monkeypatch):
    namespace = {"__name__": "__main__", "np": np}
    main = sys.modules["__main__"]

    def code_with(helper):
        exec(compile(f"LOOK_BACK = 3\n{helper}\n{STRATEGY}", "<cell>", "exec"), namespace)
        for name in ("LOOK_BACK", "rising", "Rising"):
            monkeypatch.setattr(main, name, namespace[name], raising=False)
        return fingerprint(namespace["Rising"])

    first = code_with("def rising(close, n): return close > n")
    assert code_with("def rising(close, n): return close > n") == first
    assert code_with("def rising(close, n): return close < n") != first
    assert code_with("def rising(close, n): return close > n + 1") != first


def test_what_cannot_be_sent_is_said_before_anything_runs(working_dir):
    lock = threading.Lock()

    class Locked:
        def target_weights(self, panel, decisions):
            with lock:
                return np.ones((len(decisions), panel.n_assets))

    with pytest.raises(bb.ConfigurationError, match="Locked: refers to something that cannot be"):
        bb.run_sweep({"seed": [1, 2]}, data="synthetic", strategy=Locked)
    assert list(working_dir.iterdir()) == []


def test_a_strategy_with_much_data_of_its_own_is_refused(working_dir):
    large = np.zeros(9 * 1024 * 1024)

    class Large:
        def target_weights(self, panel, decisions):
            return np.full((len(decisions), panel.n_assets), large[0])

    with pytest.raises(bb.ConfigurationError, match="has 72 MiB with the data that it refers to"):
        bb.run_sweep({"seed": [1, 2]}, data="synthetic", strategy=Large)
    assert list(working_dir.iterdir()) == []
