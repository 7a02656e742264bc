"""Strategies that no file holds: of a notebook, a script, or a function."""

import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.code import live_code_fingerprint

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


def test_the_code_of_a_local_class_is_its_source_and_what_it_uses():
    frame = pd.DataFrame({"A": [1.0, 2.0]})
    first = live_code_fingerprint(made(0.5, frame))
    assert live_code_fingerprint(made(0.5, frame.copy())) == first
    assert live_code_fingerprint(made(0.6, frame)) != first
    assert live_code_fingerprint(made(0.5, frame * 2)) != first


CELL = """
import functools
from dataclasses import dataclass

LEVEL = 3
NAMES = {"a", "b", "c"}
returns = 1


@dataclass(frozen=True)
class Settings:
    n: int = 20


SETTINGS = Settings()


def logged(function):
    @functools.wraps(function)
    def wrapper(*values):
        return function(*values) + 0
    return wrapper


@functools.lru_cache(maxsize=8)
def cached(n):
    return n * 2


@logged
def helper(x):
    return x > LEVEL and "a" in NAMES


class Rising:
    factor = 2

    def backtest(self, panel, conditions, scale=1.0):
        returns = panel.close.pct_change()
        best = max([1, 2], key=lambda value: value * 3)
        return helper(returns) * scale * SETTINGS.n * cached(best)
"""


def code_of_cell(cell, after=""):
    """Return the fingerprint of Rising, in a process that runs a cell and some more lines."""
    lines = [
        "import sys, linecache",
        f"text = {cell!r}",
        "linecache.cache['<cell>'] = (len(text), None, text.splitlines(True), '<cell>')",
        "exec(compile(text, '<cell>', 'exec'))",
        after,
        "from backtest_batch.core.code import live_code_fingerprint",
        "print(live_code_fingerprint(Rising))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def code_of_the_cell():
    return code_of_cell(CELL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEVEL = 3", "LEVEL = 4"),
        ('"a", "b", "c"', '"a", "b"'),
        ("n: int = 20", "n: int = 21"),
        ("Settings()", "Settings(5)"),
        ("function(*values) + 0", "function(*values) + 1"),
        ("return n * 2", "return n * 3"),
        ("x > LEVEL", "x < LEVEL"),
        ("factor = 2", "factor = 3"),
        ("scale=1.0", "scale=2.0"),
        ("value * 3", "value * 4"),
    ],
)
def test_another_value_or_function_beside_a_strategy_is_another_code(code_of_the_cell, old, new):
    assert old in CELL
    assert code_of_cell(CELL.replace(old, new)) != code_of_the_cell


def test_what_is_set_after_a_class_was_defined_is_another_code(code_of_the_cell):
    assert code_of_cell(CELL, "Rising.factor = 3") != code_of_the_cell


def test_the_same_cell_is_the_same_code_in_every_process(code_of_the_cell):
    assert code_of_cell(CELL) == code_of_the_cell
    other = CELL.replace("class Rising:", "# another word\nclass Rising:")
    # A variable that only has the name of a local one is not used.
    assert code_of_cell(other.replace("returns = 1\n", "returns = 2\n")) == code_of_the_cell


def test_modules_below_a_package_are_followed_where_they_are_used(working_dir):
    (working_dir / "research").mkdir()
    (working_dir / "research" / "__init__.py").write_text("")
    found = []
    for level in (1, 2):
        (working_dir / "research" / "signals.py").write_text(f"def rule(): return {level}\n")
        lines = [
            "import research.signals",
            "class Rising:",
            "    def backtest(self, panel): return research.signals.rule()",
            "from backtest_batch.core.code import code_fingerprint",
            "print(code_fingerprint('__main__.Rising'))",
        ]
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
        )
        found.append(done.stdout)
    assert found[0] != found[1]


def test_two_strategies_of_one_name_are_two(with_store):
    def make(symbol):
        class Hold:
            def target_weights(self, panel, decisions):
                weights = np.zeros((len(decisions), panel.n_assets))
                weights[:, panel.symbols.index(symbol)] = 1.0
                return weights

        return Hold

    steps = np.random.default_rng(3).normal(0.0, 0.01, (300, 2))
    index = pd.date_range("2015-01-01", periods=300, freq="B")
    prices = pd.DataFrame(100 * np.exp(steps.cumsum(axis=0)), index=index, columns=["A", "B"])
    sweep = bb.run_sweep(
        {"commission_bps": [0, 5]}, data=prices, strategy=make("A"), benchmark=make("B"), n_jobs=1
    )
    returns = sweep.returns.dropna()
    expected = prices.pct_change(fill_method=None).reindex(returns.index)
    held = returns.index > returns.index[40]
    for column, symbol in (("run_0.0", "A"), ("benchmark", "B")):
        np.testing.assert_allclose(returns[column][held], expected[symbol][held], atol=1e-3)
    assert bb.rerun(sweep, verify=True).exit_code == 0


def test_a_function_with_a_cache_is_sent_too(working_dir):
    (working_dir / "study.py").write_text(
        FIRST
        + "import functools\n\n@functools.lru_cache\ndef share(n):\n    return 1 / n\n"
        + STRATEGY.replace("signal / panel.n_assets", "signal * share(panel.n_assets)")
        + 'if __name__ == "__main__":'
        + (SWEEP + 'print(*sweep.table["status"])').replace("\n", "\n    ")
    )
    done = subprocess.run([sys.executable, "study.py"], capture_output=True, text=True)
    assert done.stdout.split() == ["FINISHED", "FINISHED"], done.stderr


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
