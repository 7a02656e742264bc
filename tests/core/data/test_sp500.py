import subprocess
import sys

import numpy as np
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Sp500
from backtest_batch.errors import DataError


@pytest.mark.oracle
def test_sp500_is_the_data_set_of_skfolio():
    from skfolio.datasets import load_sp500_dataset

    panel = load_panel(Sp500())
    assert (panel.n_bars, panel.n_assets) == (8313, 20)
    assert (str(panel.index[0].date()), str(panel.index[-1].date())) == ("1990-01-02", "2022-12-28")
    assert panel.symbols[:3] == ("AAPL", "AMD", "BAC")
    assert list(panel.fields) == ["close"]
    assert panel == panel_from_frames(load_sp500_dataset())


def test_the_fingerprint_of_sp500_is_the_same_everywhere():
    assert load_panel(Sp500()).fingerprint == (
        "60d2eb36c84465a533629b1511ec7078223cc6cb2b48ab6bd68477ba458fe135"
    )


def test_its_large_moves_are_a_warning(caplog):
    load_panel(Sp500())
    assert "4 moves over 50 % in one bar; the largest is RRC -66.7% at 1990-04-10" in caplog.text


def test_symbols_of_sp500(tmp_path):
    (tmp_path / "wanted.csv").write_text("symbol,weight\nXOM,0.5\nAAPL,0.5\n")
    panel = load_panel(Sp500(symbols_file=str(tmp_path / "wanted.csv")))
    assert panel.symbols == ("XOM", "AAPL")
    whole = load_panel(Sp500())
    np.testing.assert_array_equal(panel.close, whole.close[["XOM", "AAPL"]])
    with pytest.raises(DataError, match=r"unknown symbol APPL \(did you mean AAPL"):
        load_panel(Sp500(symbols=["APPL", "XOM"]))


def test_reading_it_imports_neither_skfolio_nor_a_web_of_libraries(tmp_path):
    program = """
import sys
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Sp500
load_panel(Sp500())
names = ("skfolio", "sklearn", "scipy", "mlflow", "hydra", "omegaconf", "joblib", "yfinance")
print([name for name in names if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_message_says_what_to_install(tmp_path):
    program = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "skfolio" else super().find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from backtest_batch.errors import DataNotFoundError
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Sp500
try:
    load_panel(Sp500())
except DataNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (
        "data=sp500 is a file of the package skfolio: `pip install 'backtest-batch[demo]'` "
        "installs it"
    )
