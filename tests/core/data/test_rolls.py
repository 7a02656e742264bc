"""Continuous series of contracts: when they roll, and what becomes of older prices."""

import itertools

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Sql
from backtest_batch.errors import DataError

DAYS = ["2020-03-02", "2020-03-03", "2020-03-04", "2020-03-05", "2020-03-06", "2020-03-09"]
# The bars of two rolls, 2020-03-03 and 2020-03-05, have prices of both contracts.
ROWS = [
    (DAYS[0], "J", 10.0),
    (DAYS[1], "J", 11.0),
    (DAYS[1], "K", 22.0),
    (DAYS[2], "K", 24.0),
    (DAYS[3], "K", 20.0),
    (DAYS[3], "M", 25.0),
    (DAYS[4], "M", 30.0),
    (DAYS[5], "M", 27.0),
]
# Kept at their level: 30 and 27. Before: times 25/20, and before that times 22/11 too.
RATIO = [10 * 2 * 1.25, 11 * 2 * 1.25, 24 * 1.25, 20 * 1.25, 30.0, 27.0]
DIFFERENCE = [10 + 11 + 5, 11 + 11 + 5, 24 + 5, 20 + 5, 30.0, 27.0]
NONE = [10.0, 11.0, 24.0, 20.0, 30.0, 27.0]


def table(rows=ROWS, root="CL"):
    frame = pd.DataFrame(rows, columns=["date", "contract", "close"])
    return frame.assign(symbol=root, open=frame["close"] - 1, volume=5)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(frame, **options):
    frame.to_csv("futures.csv", index=False)
    return load_panel(Csv(path="futures.csv", **{"roll": "contract", **options}))


@pytest.mark.parametrize(
    ("adjust", "expected"), [("ratio", RATIO), ("difference", DIFFERENCE), ("none", NONE)]
)
def test_older_prices_stand_on_the_level_of_the_newest_contract(here, adjust, expected, caplog):
    panel = load(table(), roll_adjust=adjust)
    assert panel.symbols == ("CL",)
    assert panel.fields["close"][:, 0].tolist() == expected
    assert panel.fields["volume"][:, 0].tolist() == [5.0] * 6
    assert "CL is made of 3 contracts, with 2 rolls: " in caplog.text
    assert f"(`data.roll_adjust={adjust}`)" in caplog.text


def test_open_high_and_low_are_adjusted_as_the_close_is(here):
    opens = load(table()).fields["open"][:, 0]
    assert opens.tolist() == [9 * 2.5, 10 * 2.5, 23 * 1.25, 19 * 1.25, 29.0, 26.0]
    shifted = load(table(), roll_adjust="difference").fields["open"][:, 0]
    np.testing.assert_array_equal(shifted, np.array(DIFFERENCE) - 1)


def zipline(rows, kind):
    """The adjustments of zipline's continuous futures: its `_make_adjustment`, applied in turn.

    At a roll they have the closes of front and back on the bar before the back contract is held,
    and apply to all bars up to it: 'mul' multiplies by 1 + (back - front) / front, 'add' adds
    back - front.
    """
    frame = pd.DataFrame(rows, columns=["date", "contract", "close"])
    order = frame.groupby("contract")["date"].max().sort_values().index
    closes = frame.pivot(index="date", columns="contract", values="close")
    series = closes[order[0]].copy()
    for front, back in itertools.pairwise(order):
        roll = closes[front].last_valid_index()
        front_close, back_close = closes.loc[roll, front], closes.loc[roll, back]
        adj_base = back_close - front_close
        before = series.index <= roll
        if kind == "mul":
            series[before] *= 1.0 + adj_base / front_close
        else:
            series[before] += adj_base
        series[~before] = closes[back][~before]
    return series.to_numpy()


@pytest.mark.parametrize(("adjust", "kind"), [("ratio", "mul"), ("difference", "add")])
def test_adjustment_is_that_of_zipline(here, adjust, kind):
    random = np.random.default_rng(4)
    days = pd.bdate_range("2019-01-01", periods=60).strftime("%Y-%m-%d")
    rows = [
        (day, f"C{number}", round(50 + number + float(random.normal()), 2))
        for number in range(5)
        for day in days[max(0, 12 * number - 3) : 12 * number + 12]
    ]
    panel = load(table(rows), roll_adjust=adjust)
    np.testing.assert_allclose(panel.fields["close"][:, 0], zipline(rows, kind), rtol=1e-13)


def test_several_roots_and_a_file_of_one_are_read(here):
    both = pd.concat([table(), table(root="NG")])
    panel = load(both, symbols=["NG"])
    assert panel.symbols == ("NG",)
    assert load(both, exclude=["NG"]).symbols == ("CL",)
    one = load(table().drop(columns="symbol"))
    assert one.symbols == ("futures",)
    assert one.fields["close"][:, 0].tolist() == RATIO


def test_a_roll_without_a_common_bar_is_refused_with_what_is_needed(here):
    apart = [row for row in ROWS if row != (DAYS[1], "K", 22.0)]
    with pytest.raises(
        DataError, match=r"CL cannot roll from J to K: .* none on 2020-03-03, the l"
    ):
        load(table(apart))
    panel = load(table(apart), roll_adjust="none")
    assert panel.fields["close"][:, 0].tolist() == NONE


def test_ratios_of_prices_below_zero_are_refused_and_differences_taken(here):
    rows = [*ROWS[:2], (DAYS[1], "K", -5.0), *ROWS[3:]]
    with pytest.raises(DataError, match=r"have no ratio; `data\.roll_adjust=difference"):
        load(table(rows))
    panel = load(
        table(rows).drop(columns="open"),
        roll_adjust="difference",
        kind="differences",
        notional=100.0,
    )
    steps = np.diff(panel.fields["close"][:, 0])
    np.testing.assert_allclose(steps, [1, 29, -4, 5, -3])


def test_contracts_that_are_symbols_roll_on_the_dates_that_are_given(here):
    closes = pd.DataFrame(
        {"J": [10.0, 11, 12, 13, 14, 15], "K": [20.0, 22, 24, 25, 26, 27], "SPX": 1.5}, index=DAYS
    )
    closes.index.name = "date"
    roll = {"CL": {"J": "2020-03-04", "K": None}}
    closes.to_csv("wide.csv")
    panel = load_panel(Csv(path="wide.csv", roll=roll))
    assert panel.symbols == ("CL", "SPX")
    assert panel.fields["close"][:, 0].tolist() == [20.0, 22.0, 24.0, 25.0, 26.0, 27.0]
    shifted = load_panel(Csv(path="wide.csv", roll=roll, roll_adjust="difference"))
    assert shifted.fields["close"][:, 0].tolist() == [22.0, 23.0, 24.0, 25.0, 26.0, 27.0]
    with pytest.raises(DataError, match="no contract M of CL"):
        load_panel(Csv(path="wide.csv", roll={"CL": {"J": None, "M": None}}))
    with pytest.raises(DataError, match=r"J is held up to 2019.* its first bar is 2020-03-02"):
        load_panel(Csv(path="wide.csv", roll={"CL": {"J": "2019", "K": None}}))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table().rename(columns={"contract": "expiry"}), "has no column 'contract', as `data.roll"),
        (table().assign(contract=["", *"KKKKKKK"]), r"no contract in data row 1 \(1 such rows\)"),
        (pd.concat([table().iloc[:1], table()]), r"futures\.csv: CL J has a duplicate bar"),
    ],
)
def test_tables_without_what_is_needed_are_refused(here, frame, message):
    with pytest.raises(DataError, match=message):
        load(frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roll": ""}, "`roll` must name"),
        ({"roll": {"CL": {}}}, "`roll` must name"),
        ({"roll_adjust": "mul"}, "`roll_adjust` must be ratio or difference or none"),
        ({"roll": "c", "values": "returns"}, "`roll_adjust=none` is for values=returns"),
    ],
)
def test_keys_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Csv(path="x.csv", **options)


def test_a_database_rolls_as_files_do(here):
    import sqlite3

    with sqlite3.connect("futures.db") as connection:
        table().to_sql("futures", connection, index=False)
    connection.close()
    query = "select * from futures order by close"
    panel = load_panel(Sql(url="sqlite:///futures.db", query=query, roll="contract"))
    assert panel.fields["close"][:, 0].tolist() == RATIO


@pytest.mark.parametrize(
    ("empty", "named"), [("J", "J has"), ("K", "K has"), ("JK", "J and K have")]
)
def test_the_contract_that_has_no_price_at_the_roll_is_the_one_that_is_named(here, empty, named):
    closes = pd.DataFrame({"J": 10.0, "K": 20.0}, index=DAYS)
    closes.index.name = "date"
    for contract in empty:
        closes.loc[DAYS[2], contract] = np.nan
    closes.to_csv("wide.csv")
    roll = {"CL": {"J": str(DAYS[2])[:10], "K": None}}
    with pytest.raises(DataError, match=rf"on one bar, and {named} none on {str(DAYS[2])[:10]}"):
        load_panel(Csv(path="wide.csv", roll=roll))


def test_a_contract_that_adds_no_bar_is_said(here, caplog):
    closes = pd.DataFrame({"K": 20.0, "L": 30.0}, index=DAYS)
    closes.loc[DAYS[3] :, "K"] = np.nan
    closes.index.name = "date"
    closes.to_csv("wide.csv")
    panel = load_panel(Csv(path="wide.csv", roll={"CL": {"L": None, "K": None}}))
    assert panel.close["CL"].tolist() == [30.0] * len(DAYS)
    assert "1 contract is not used, as it ends no later than the one before it: K of CL" in (
        caplog.text
    )
    assert "CL is made of 1 contract, with 0 rolls" in caplog.text
    # Where a wide table is empty after the last price of a contract, the contract has ended.
    panel = load_panel(Csv(path="wide.csv", roll={"CL": {"K": None, "L": None}}))
    assert panel.close["CL"].tolist() == [30.0] * len(DAYS)
    assert "CL is made of 2 contracts, with 1 roll" in caplog.text
