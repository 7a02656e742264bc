"""docs/extending.md: its Python blocks run, and its files make a strategy that passes its test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from backtest_batch.testing import StrategyContract

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "extending"}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), namespace)
    # The file that the page writes, for a function that reads its own data.
    assert [item.name for item in tmp_path.iterdir()] == ["bars.csv"]
    return namespace


def test_every_strategy_of_the_page_keeps_the_contract(names):
    contracts = [
        value
        for value in names.values()
        if isinstance(value, type) and StrategyContract in value.__bases__
    ]
    shipped = names["BelowAverage"]
    contracts.append(
        type("TestShipped", (StrategyContract,), {"make_strategy": lambda _: shipped()})
    )
    assert len(contracts) == 4
    for contract in contracts:
        for name in vars(StrategyContract):
            if name.startswith("test_"):
                getattr(contract(), name)()


def test_the_two_files_of_the_page_pass_under_pytest(tmp_path):
    module, test = (
        next(block for block in BLOCKS if block.startswith(f"# {name}"))
        for name in ("my_module.py", "test_my_module.py")
    )
    (tmp_path / "my_module.py").write_text(module)
    (tmp_path / "test_my_module.py").write_text(f"from my_module import MyStrategy\n{test}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_module.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
