"""Returns, and prices that may be zero or negative, as prices the engine can trade."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.data.gains import BASE, Gains
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.core.strategies import EqualWeight
from backtest_batch.errors import DataError

WTI = "Date,Close\n2020-04-17,18.27\n2020-04-20,-37.63\n2020-04-21,10.01\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def returns(n_bars=300, n_assets=3, size=0.01, freq="B", seed=0):
    index = pd.date_range("2020-01-06", periods=n_bars, freq=freq)
    values = np.random.default_rng(seed).normal(0, size, (n_bars, n_assets))
    return pd.DataFrame(values, index=index, columns=list("ABC")[:n_assets])


def write(folder, frame, name="x.csv"):
    frame.to_csv(folder / name, index_label="date")


def test_the_first_return_belongs_to_the_second_bar_and_none_is_lost(here):
    given = returns()
    write(here, given)
    panel = load_panel(Csv(path="x.csv", values="returns"))
    assert panel.n_bars == len(given) + 1
    assert (panel.fields["close"][0] == BASE).all()
    assert panel.index[0] == pd.Timestamp("2020-01-03")  # a Friday
    made = panel.close.pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made.to_numpy(), given.to_numpy(), rtol=0, atol=1e-15)


def test_percent_and_fractions_are_told_by_size_and_it_is_said(here, caplog):
    given = returns()
    write(here, given)
    fractions = load_panel(Csv(path="x.csv", values="returns"))
    assert "read as fractions (the median move is 0.00" in caplog.text
    write(here, given * 100)
    percent = load_panel(Csv(path="x.csv", values="returns"))
    assert "read as percent (the median move is 0." in caplog.text
    np.testing.assert_allclose(percent.fields["close"], fractions.fields["close"], rtol=1e-12)


@pytest.mark.parametrize("freq", ["ME", "MS", "W-FRI", "h", "QE", "YE"])
def test_the_bar_before_the_first_return_is_one_period_earlier(freq):
    given = returns(n_bars=60, freq=freq)
    panel = panel_from_frames(given, values="returns", returns_unit="fraction")
    expected = pd.date_range(end=given.index[-1], periods=61, freq=freq)
    assert list(panel.index) == list(expected)


def test_returns_of_doubtful_size_are_refused_with_the_key_that_decides(here):
    write(here, returns(size=0.2))
    with pytest.raises(DataError, match=r"x\.csv: .*`data\.returns_unit=fraction` or"):
        load_panel(Csv(path="x.csv", values="returns"))
    assert load_panel(Csv(path="x.csv", values="returns", returns_unit="fraction")).n_bars == 301


def test_returns_of_a_calm_fund_in_percent_are_not_taken_for_huge_ones(here):
    calm = 0.008 + returns(n_bars=600, size=0.002)  # 0.008 % a day is 2 % a year
    write(here, calm)
    with pytest.raises(DataError, match="their mean 2"):
        load_panel(Csv(path="x.csv", values="returns"))


def test_a_return_that_loses_everything_is_refused():
    given = returns()
    given.iloc[7, 1] = -1.0
    with pytest.raises(DataError, match=r"B has a return of -1 \(-100.0000%\) at 2020-01-15"):
        panel_from_frames(given, values="returns")


def test_a_series_of_returns_that_begins_later_stands_on_the_bar_before_it():
    given = returns()
    given.iloc[:5, 2] = np.nan
    panel = panel_from_frames(given, values="returns")
    assert np.isnan(panel.fields["close"][:5, 2]).all()
    assert panel.fields["close"][5, 2] == BASE
    assert panel.fields["close"][6, 2] == BASE * (1 + given.iloc[5, 2])


def test_a_gap_in_returns_is_a_gap_and_filled_it_is_a_return_of_zero():
    given = returns()
    given.iloc[7, 1] = np.nan
    with pytest.raises(DataError, match="B has no close inside its series at 2020-01-15"):
        panel_from_frames(given, values="returns")
    panel = panel_from_frames(given, values="returns", missing="ffill")
    level = panel.fields["close"][:, 1]
    assert level[8] == level[7]
    assert level[9] == pytest.approx(level[7] * (1 + given.iloc[8, 1]), rel=1e-15)


def test_prices_are_not_taken_for_returns(here):
    write(here, 50 * (1 + returns()).cumprod())
    with pytest.raises(DataError, match=r"x\.csv: A holds prices, it seems, 50\.0"):
        load_panel(Csv(path="x.csv", values="returns"))


@pytest.mark.parametrize(
    "columns", [("ret",), ("Total Return",), ("symbol", "return"), ("close", "return")]
)
def test_a_column_of_returns_is_found_by_its_name(here, columns):
    given = returns(n_assets=1)["A"]
    table = pd.DataFrame({"date": given.index})
    for column in columns:
        table[column] = "fund" if column == "symbol" else given.to_numpy()
    if "close" in columns:
        table["close"] = 50.0
    table.to_csv("fund.csv", index=False)
    panel = load_panel(Csv(path="fund.csv", values="returns"))
    assert panel.symbols == ("fund",)
    expected = BASE * (1 + given).cumprod()
    np.testing.assert_allclose(panel.fields["close"][1:, 0], expected, rtol=1e-12)


def test_codes_of_missing_values_are_no_returns(caplog):
    given = returns() * 100
    given.iloc[:5, 2], given.iloc[:3, 1] = -99.99, -999
    panel = panel_from_frames(given, values="returns")
    assert "8 returns of -99.99 or -999 are read as missing values" in caplog.text
    assert np.isnan(panel.fields["close"][:5, 2]).all()
    assert panel.fields["close"][3, 1] == BASE


def test_the_frame_that_was_given_stays_as_it_was():
    given = returns() * 100
    before = given.copy()
    panel_from_frames(given, values="returns")
    pd.testing.assert_frame_equal(given, before)


def test_numbers_that_look_like_returns_are_refused_with_the_way_to_read_them(here):
    write(here, returns())
    with pytest.raises(DataError, match=r"`data\.values=returns` reads them as returns"):
        load_panel(Csv(path="x.csv"))


def test_a_negative_price_is_refused_with_the_way_out(here):
    (here / "CL.csv").write_text(WTI)
    with pytest.raises(DataError, match=r"`data\.kind=differences data\.notional=100`"):
        load_panel(Csv(path="CL.csv"))
    with pytest.raises(DataError, match=r"needs the notional .* first close, 55\.9$"):
        load_panel(Csv(path="CL.csv", kind="differences"))
    with pytest.raises(DataError, match=r"CL has used up its notional of 50, .* at 2020-04-20"):
        load_panel(Csv(path="CL.csv", kind="differences", notional=50))
    with pytest.raises(DataError, match="needs the notional of one unit of CL"):
        load_panel(Csv(path="CL.csv", kind="differences", notional={"NG": 100.0}))


def test_a_unit_gains_the_differences_of_its_price(here):
    (here / "CL.csv").write_text(WTI)
    panel = load_panel(Csv(path="CL.csv", kind="differences", notional={"CL": 200.0}))
    np.testing.assert_allclose(panel.fields["close"][:, 0], [200, 144.1, 191.74], rtol=1e-15)


def test_equity_is_that_of_a_fixed_number_of_units():
    """Bought once with all equity: equity / notional units, each with the price's differences."""
    steps = np.random.default_rng(3).normal(0, 2, 40).cumsum()
    prices = pd.DataFrame({"WTI": steps}, index=pd.bdate_range("2021-01-04", periods=40))
    panel = panel_from_frames(prices, kind="differences", notional=100.0)
    result = bb.backtest(
        EqualWeight(),
        panel,
        rebalance="M",
        execution_lag=0,
        commission_bps=2.0,
        initial_capital=1_000.0,
    )
    equity = result.equity["equity"].to_numpy()
    bought = 1 + np.flatnonzero(np.diff(equity) != 0)[0]
    units = 1_000.0 / (100.0 + steps[bought] - steps[0])
    cost = 1_000.0 * 2e-4
    expected = 1_000.0 - cost + units * (steps[bought:] - steps[bought])
    np.testing.assert_allclose(equity[bought:], expected, rtol=1e-12)


def test_in_memory_keys_are_arguments(caplog):
    panel_from_frames(returns(), values="returns")
    assert "; `returns_unit=percent` reads percent)" in caplog.text
    with pytest.raises(DataError, match=r"`kind=differences` needs .* `'notional={A:100}'`"):
        panel_from_frames(returns(), kind="differences")


def test_open_high_and_low_move_with_the_close():
    index = pd.bdate_range("2020-01-06", periods=3)
    close = pd.DataFrame({"A": [1.0, -2.0, 3.0]}, index=index)
    panel = panel_from_frames(
        close,
        open=close - 1,
        high=close + 1,
        low=close - 2,
        volume=close * 0 + 7,
        kind="differences",
        notional=10,
    )
    assert panel.fields["low"][:, 0].tolist() == [8.0, 5.0, 10.0]
    assert panel.fields["open"][:, 0].tolist() == [9.0, 6.0, 11.0]
    assert panel.fields["volume"][:, 0].tolist() == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": "yields"}, "`values` must be prices or returns"),
        ({"kind": "logs"}, "`kind` must be ratios or differences"),
        ({"values": "returns", "kind": "differences"}, "`kind=differences` is for prices"),
        ({"notional": 100.0}, "`notional` is for kind=differences"),
        ({"kind": "differences", "notional": -1.0}, "`notional > 0` must hold"),
        ({"kind": "differences", "notional": {"A": np.nan}}, "got notional=nan for A"),
        ({"returns_unit": "percent"}, "is for values=returns"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gains(**arguments)


@pytest.mark.parametrize("unit", ["auto", "percent", "fraction"])
@pytest.mark.parametrize("layout", ["wide", "long", "single"])
def test_a_percent_sign_says_the_unit_whatever_the_key_says(here, caplog, unit, layout):
    texts = {
        "wide": "date,A\n2020-01-02,1.25%\n2020-01-03,-2%\n",
        "long": "date,symbol,ret\n2020-01-02,A,1.25%\n2020-01-03,A,-2%\n",
        "single": "date,return\n2020-01-02,1.25%\n2020-01-03,-2%\n",
    }
    (here / "A.csv").write_text(texts[layout])
    panel = load_panel(Csv(path="A.csv", values="returns", returns_unit=unit))
    np.testing.assert_allclose(panel.fields["close"][:, 0], [100, 101.25, 101.25 * 0.98])
    assert "have percent signs and are read as percent: 1.25% is 0.0125" in caplog.text


def test_columns_with_and_without_percent_signs_are_read_each_in_its_own_way(here, caplog):
    given = returns(n_assets=2)
    text = given.copy().astype(object)
    text["A"] = [f"{100 * value:.6f}%" for value in given["A"]]
    text["B"] = 100 * given["B"]
    write(here, text)
    panel = load_panel(Csv(path="x.csv", values="returns"))
    made = panel.close.pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made.to_numpy(), given.to_numpy(), atol=1e-8)
    assert "returns of A have percent signs" in caplog.text
    assert "the others are read as percent" in caplog.text


def test_files_of_one_symbol_may_be_written_each_in_its_own_way(here):
    given = returns(n_assets=1)
    (here / "parts").mkdir()
    signed = given[:150].map(lambda value: f"{100 * value:.6f}%")
    write(here / "parts", signed, "1.csv")
    write(here / "parts", given[150:], "2.csv")
    panel = load_panel(Csv(path="parts", values="returns"))
    made = panel.close.pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made.to_numpy(), given.to_numpy(), atol=1e-8)


def test_cells_with_and_without_a_percent_sign_in_one_column_are_refused(here):
    (here / "x.csv").write_text("date,A\n2020-01-02,1.25%\n2020-01-03,0.02\n")
    with pytest.raises(DataError, match=r"'A': some values .* are percent and some are not"):
        load_panel(Csv(path="x.csv", values="returns"))


@pytest.mark.parametrize(
    "text",
    [
        "date,ret\n2020-01-01,0.001\n2020-01-02,0.002\n",
        "date,symbol,Return\n2020-01-01,A,0.01\n2020-01-02,A,-0.02\n",
    ],
)
def test_a_column_named_like_returns_is_not_taken_for_prices(here, text):
    (here / "x.csv").write_text(text)
    with pytest.raises(DataError, match=r"has no closes, but a column .*`data\.values=returns`"):
        load_panel(Csv(path="x.csv"))
    assert load_panel(Csv(path="x.csv", values="returns", returns_unit="fraction")).n_bars == 3


def test_a_column_of_that_name_beside_closes_or_that_is_named_as_closes_is_fine(here):
    (here / "x.csv").write_text("date,close,return\n2020-01-01,1,0.01\n2020-01-02,2,1\n")
    assert load_panel(Csv(path="x.csv")).fields["close"][:, 0].tolist() == [1, 2]
    (here / "x.csv").write_text("date,ret\n2020-01-01,1\n2020-01-02,2\n")
    assert load_panel(Csv(path="x.csv", close_column="ret")).fields["close"][:, 0].tolist() == [
        1,
        2,
    ]


@pytest.mark.parametrize("name", ["Return (%)", "ret_pct", "Percent a month"])
def test_a_name_that_says_percent_is_believed_however_small_the_returns_are(here, caplog, name):
    write(here, returns(n_assets=1).set_axis([name], axis=1))
    panel = load_panel(Csv(path="x.csv", values="returns"))
    made = panel.close.pct_change(fill_method=None).iloc[1:, 0]
    np.testing.assert_allclose(made.to_numpy(), returns(n_assets=1)["A"] / 100, atol=1e-12)
    assert f"read as percent, as '{name}' says" in caplog.text


def test_names_of_which_some_say_percent_leave_small_returns_unclear(here):
    write(here, returns(n_assets=2).set_axis(["Fund (%)", "Index"], axis=1))
    with pytest.raises(DataError, match=r"`data\.returns_unit=percent` says which"):
        load_panel(Csv(path="x.csv", values="returns"))


def test_a_code_with_a_percent_sign_is_a_missing_value(here, caplog):
    cells = ["0.50%", "-0.25%", "-99.99%", "0.75%"] * 20
    days = pd.bdate_range("2020-01-01", periods=80)
    lines = [f"{day:%Y-%m-%d},{cell}" for day, cell in zip(days, cells, strict=True)]
    Path("x.csv").write_text("date,x\n" + "\n".join(lines) + "\n")
    panel = load_panel(Csv(path="x.csv", values="returns", missing="ffill"))
    assert "20 returns of -99.99 or -999 are read as missing values" in caplog.text
    assert panel.fields["close"].min() > 50
