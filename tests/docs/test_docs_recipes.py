"""The recipes of docs/extending.md, applied to a copy of the tree: its checks pass, and it runs."""

import inspect
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from backtest_batch.core.data.sources import Source

ROOT = Path(__file__).parents[2]
FENCED = r"^```(?:python|yaml|html|js|markdown|text)\n(.*?)^```$"
BLOCK = re.compile(FENCED, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def block(page: str, start: str) -> str:
    """Return the one block of a page in which a line begins so."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = [code for code in BLOCK.findall(text) if re.search(start, code, re.MULTILINE)]
    assert len(found) == 1, f"{page}: {len(found)} blocks with {start}"
    return found[0]


class Tree:
    """A copy of the tree to which recipes are applied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "conf", "docs", "tests"):
            skipped = shutil.ignore_patterns("__pycache__", "expected")
            shutil.copytree(ROOT / name, folder / name, ignore=skipped)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        self.package = folder / "src" / "backtest_batch"

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        assert not target.exists()
        target.write_text(text, "utf-8")

    def insert(self, path: str, after: str, text: str) -> None:
        """Put text behind the one place in a file where another text stands."""
        target = self.folder / path
        content = target.read_text("utf-8")
        assert content.count(after) == 1, f"{path}: {after!r} stands {content.count(after)} times"
        target.write_text(content.replace(after, after + text), "utf-8")

    def run(self, *arguments: str) -> str:
        """Run Python on the copy; what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=550,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def check(self, *tests: str) -> None:
        self.run("-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests)


def add_strategy(tree: Tree) -> None:
    rooms = "src/backtest_batch/core/strategies"
    tree.write(f"{rooms}/below_average.py", block("extending.md", "^class BelowAverage:"))
    init = f"{rooms}/__init__.py"
    line = "from backtest_batch.core.strategies.base import Strategy\n"
    new = "from backtest_batch.core.strategies.below_average import BelowAverage\n"
    tree.insert(init, line, new)
    tree.insert(init, "__all__ = [\n", '    "BelowAverage",\n')
    node = block("extending.md", r"^_target_: \S+BelowAverage")
    tree.write("conf/strategy/below_average.yaml", node)
    item = block("extending.md", "id: below")
    tree.insert("conf/experiment/strategies.yaml", "strategy: equal_weight}\n", item)
    row = block("extending.md", r"^\| `below_average`")
    after = "| `equal_weight` | every symbol, with the same weight | none |\n"
    tree.insert("docs/configuration.md", after, row)
    contract = "tests/core/strategies/test_contract.py"
    tree.insert(contract, "SHIPPED = [\n", "    BelowAverage(),\n")
    tree.insert(contract, "    EqualWeight,\n", "    BelowAverage,\n")


def add_source(tree: Tree) -> None:
    code = block("data.md", "^class Sqlite").partition("\n\n\nwith closing")[0]
    rooms = "src/backtest_batch/core/data/sources"
    head = ("from pathlib import Path", "import pandas as pd")
    lines = (*head, f"from {Source.__module__} import Source", code, "")
    tree.write(f"{rooms}/sqlite.py", "\n".join(lines))
    init = f"{rooms}/__init__.py"
    line = "    from backtest_batch.core.data.sources.sp500 import Sp500\n"
    tree.insert(init, line, "    from backtest_batch.core.data.sources.sqlite import Sqlite\n")
    tree.insert(init, '    "Sql": "sql",\n', '    "Sqlite": "sqlite",\n')
    tree.insert(init, '    "Sp500",\n', '    "Sqlite",\n')
    defaults = {key: value.default for key, value in inspect.signature(Source).parameters.items()}
    node = {"_target_": "backtest_batch.market.sources.Sqlite", "path": "???", **defaults}
    lines = (f"# what it is\n{line}\n" for line in yaml.safe_dump(node).splitlines())
    command = "# python -m backtest_batch data=sqlite data.path=prices.db\n"
    tree.write("conf/data/sqlite.yaml", command + "".join(lines))
    row = "| `sqlite` | a table | `data=sqlite data.path=prices.db` |\n"
    tree.insert("docs/data.md", "| `data=` | what it reads | command |\n|---|---|---|\n", row)
    prices = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, (600, 3)).cumsum(axis=0))
    days = pd.bdate_range("2020-01-01", periods=600, name="day")
    table = pd.DataFrame(prices, index=days, columns=["A", "B", "C"])
    long = table.rename_axis(columns="symbol").stack().rename("close").reset_index()
    with closing(sqlite3.connect(tree.folder / "prices.db")) as connection:
        long.to_sql("prices", connection, index=False)


def add_metric(tree: Tree) -> None:
    code = block("extending.md", "^Metric[(]").partition("\n\n")[2].strip()
    entry = "    " + code.replace("\n", "\n    ") + ",\n"
    metrics = tree.package / "core" / "engine" / "metrics.py"
    text = metrics.read_text("utf-8")
    before = '    Metric(\n        name="n_periods",\n'
    assert text.count(before) == 1
    metrics.write_text(text.replace(before, entry + before), "utf-8")
    test = "tests/core/engine/test_metrics.py"
    tree.insert(test, '        "trades",\n        "total_costs",\n', '        "cost_drag",\n')


def add_section(tree: Tree) -> None:
    html = "src/backtest_batch/report/html"
    tables = tree.package / "report" / "html" / "tables.py"
    code = block("extending.md", "^def costliest_table").partition("\n\n\n")[2]
    tables.write_text(f"{tables.read_text('utf-8')}\n\n{code}", "utf-8")
    tree.insert(f"{html}/page.py", "    swept_table,\n", "    costliest_table,\n")
    line = block("extending.md", '^ *"costliest": ')
    tree.insert(f"{html}/page.py", '        "failures": failures_table(data.table),\n', line)
    section = block("extending.md", '<section id="costliest"')
    templates = tree.package / "report" / "html" / "templates"
    origins = templates / "origins.html.j2"
    origins.write_text(origins.read_text("utf-8") + section, "utf-8")
    script = block("extending.md", "^function registerCostliest")
    tree.write(f"{html}/templates/js/costliest.js", script)


def add_backend(tree: Tree) -> None:
    cluster = block("extending.md", "^class ThreadCluster")
    tree.write("src/backtest_batch/workers/cluster/thread_cluster.py", cluster)
    settings = "src/backtest_batch/workers/settings.py"
    function = block("extending.md", "^def _threads")
    tree.insert(settings, "    return RayCluster(address)\n", f"\n\n{function}")
    entry = '"ray": ClusterBackend("ray", _ray)'
    tree.insert(settings, entry, ', "threads": ClusterBackend("concurrent", _threads)')
    tree.write("conf/hydra/launcher/threads.yaml", block("extending.md", "^backend: threads"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    made = Tree(tmp_path_factory.mktemp("recipes") / "copy")
    for add in (add_strategy, add_source, add_metric, add_section, add_backend):
        add(made)
    return made


def test_the_checks_of_strategies_sources_and_pages_pass(tree):
    tree.check(
        "tests/core/strategies/test_contract.py",
        "tests/core/strategies/test_conf.py",
        "tests/core/data/test_conf.py",
        "tests/docs/test_docs_configuration.py",
        "-k",
        "not (TrendBaseline or Multifactor or MeanReversion or InverseVolatility or EqualWeight)",
    )


def test_the_metric_is_in_the_list_and_says_what_it_is(tree):
    tree.check("tests/core/engine/test_metrics.py", "-k", "every_metric or every_value")


def test_all_of_them_run_in_one_batch(tree):
    printed = tree.run(
        *("-m", "backtest_batch", "data=sqlite", "data.path=prices.db", "strategy=below_average"),
        *("strategy.window=20,50", "rank_by=cost_drag", "walk_forward=rolling", "n_jobs=1"),
        *("walk_forward.train_size=260", "walk_forward.test_size=70", "output_dir=out"),
    )
    assert "2 of 2 runs ranked by cost_drag (less is better)." in printed
    page = (tree.folder / "out" / "report.html").read_text("utf-8")
    assert '<section id="costliest"' in page
    assert "registerCostliest();" in page
    assert page.index("function registerFigure") < page.index("function registerCostliest")
    assert "cost_drag" in (tree.folder / "out" / "walk_forward_summary.csv").read_text("utf-8")


def test_the_backend_computes_the_same(tree):
    sweep = ("data=synthetic", "data.n_bars=300", "commission_bps=0,1", "n_jobs=2")
    for name in ("loky", "threads"):
        options = (f"hydra/launcher={name}", f"output_dir={name}")
        tree.run("-m", "backtest_batch", "-m", *options, *sweep)
    loky, threads = ((tree.folder / name / "rankings.csv") for name in ("loky", "threads"))
    assert loky.read_bytes() == threads.read_bytes()
    assert "computing on threads" in (tree.folder / "threads" / "logs" / "batch.log").read_text()
