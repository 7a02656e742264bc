"""What runs are compared with."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.benchmark import benchmark_identity, find_benchmark, simulated
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.simulation import SimulationSettings
from backtest_batch.core.factors import find_factors
from backtest_batch.errors import ConfigurationError, DataError

DAYS = pd.bdate_range("2020-01-01", periods=300)
FREE = SimulationSettings(commission_bps=0.0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def prices():
    steps = np.random.default_rng(5).normal(0.0005, 0.01, (300, 3))
    frame = pd.DataFrame(50 * np.exp(steps.cumsum(axis=0)), index=DAYS, columns=["A", "B", "SPY"])
    return frame.rename_axis("date")


@pytest.fixture
def source(prices):
    prices.to_csv("prices.csv")
    return Csv(path="prices.csv", exclude=["SPY"])


def accounts(found, panel, settings=FREE):
    decisions = decision_bars(panel.index, "M")
    (account,) = simulated(found.benchmark, panel, decisions, [settings], 0)
    return account, int(decisions[0]) + 1


def test_a_symbol_is_bought_at_the_first_decision_and_held(prices):
    panel = panel_from_frames(prices)
    account, entry = accounts(find_benchmark("SPY", panel), panel)
    held = prices["SPY"].iloc[entry:].to_numpy()
    assert account.equity[entry:] / account.equity[0] == pytest.approx(held / held[0], rel=1e-12)
    assert account.n_trades == 1
    dear = SimulationSettings(commission_bps=100.0)
    assert accounts(find_benchmark("SPY", panel), panel, dear)[0].totals.cost > 0


def test_a_symbol_that_is_not_traded_comes_out_of_the_same_file(prices, source):
    panel = load_panel(source)
    assert panel.symbols == ("A", "B")
    found = find_benchmark("SPY", panel, source=source)
    assert "is not among the symbols that are traded" in found.notes[0]
    whole = panel_from_frames(prices)
    there, _ = accounts(find_benchmark("SPY", whole), whole)
    assert accounts(found, panel)[0].equity == pytest.approx(there.equity, rel=1e-12)


def test_gaps_of_a_symbol_that_is_not_traded_are_said(prices):
    prices["SPY"] = prices["SPY"].drop(DAYS[100:103])
    rows = prices.stack().dropna().rename_axis(["date", "symbol"]).rename("close")
    rows.to_csv("long.csv")
    source = Csv(path="long.csv", exclude=["SPY"])
    panel = load_panel(source)
    found = find_benchmark("SPY", panel, source=source)
    assert "SPY: 3 of 299 measured bars have no value of their own" in found.gap_note(panel, 0)
    (fault,) = found.faults(panel, 0, 2)
    assert "has nothing for 3 bars in a row, from 2020-05-20" in fault.allowed
    known = find_factors(["SPY"], panel, source).returns
    assert np.flatnonzero(np.isnan(known[:, 0])).tolist() == [0, 100, 101, 102]


def test_a_file_is_known_by_its_content_on_the_bars(prices):
    panel = panel_from_frames(prices[["A", "B"]])
    prices[["SPY"]].to_csv("one.csv")
    prices[["SPY"]].rename(columns={"SPY": "index"}).to_parquet("two.parquet")
    longer = prices[["SPY"]].reindex(pd.bdate_range("2020-01-01", periods=310)).ffill()
    longer.rename_axis("date").to_csv("three.csv")
    prices["SPY"].pct_change().dropna().to_frame().to_csv("returns.csv")
    found = [find_benchmark(name, panel) for name in ("one.csv", "two.parquet", "three.csv")]
    assert len({str(benchmark_identity(item.benchmark)) for item in found}) == 1
    assert found[0].faults(panel, 0, 5) == []
    returns = find_benchmark("returns.csv", panel, values="returns")
    assert returns.returns[1:] == pytest.approx(found[0].returns[1:], abs=1e-15)
    assert returns.faults(panel, 0, 5) == []


def test_a_file_must_cover_the_measured_bars(prices):
    panel = panel_from_frames(prices[["A", "B"]])
    prices["SPY"].iloc[50:].to_frame().to_csv("late.csv")
    found = find_benchmark("late.csv", panel)
    (fault,) = found.faults(panel, 20, 5)
    assert "has no return at 2020-01-30 (30 bars)" in fault.allowed
    assert "it has them on 2020-03-12 to" in fault.allowed
    assert found.faults(panel, 50, 5) == []


def test_a_gap_is_filled_and_said_or_too_long(prices):
    panel = panel_from_frames(prices[["A", "B"]])
    prices["SPY"].drop(DAYS[100:104]).to_frame().to_csv("gap.csv")
    found = find_benchmark("gap.csv", panel)
    assert found.faults(panel, 0, 5) == []
    assert found.gap_note(panel, 0).startswith("benchmark gap.csv: 4 of 299 measured bars have no")
    (fault,) = found.faults(panel, 0, 3)
    assert "has nothing for 4 bars in a row, from 2020-05-20" in fault.allowed
    prices["SPY"].resample("ME").last().to_frame().to_csv("months.csv")
    (fault,) = find_benchmark("months.csv", panel).faults(panel, 40, 5)
    assert "bars in a row" in fault.allowed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("SPX", "'SPX' is no symbol of the data: .*did you mean SPY"),
        ("prices.csv", "must hold timestamps and one column, but has 3: A, B, SPY"),
        ("none.csv", "none.csv: no such file"),
        ({"symbols": "A"}, "a mapping has _target_, or `symbol`, or `file`, but got symbols"),
        ({"_target_": "backtest_batch.strategies.EqualWeigt"}, "did you mean EqualWeight"),
        ({"_target_": "backtest_batch.strategies.EqualWeight", "x": 1}, "x: is not an argument"),
        (["A"], "must be equal_weight, none, a symbol"),
        (True, "must be equal_weight, none, a symbol"),
    ],
)
def test_what_names_nothing_is_refused_with_what_may_stand_there(source, given, said):
    with pytest.raises((ConfigurationError, DataError), match=said):
        find_benchmark(given, load_panel(source), source=source)


def test_a_strategy_needs_its_warm_up(prices):
    panel = panel_from_frames(prices)
    node = {"_target_": "backtest_batch.strategies.TrendBaseline", "fast": 5, "slow": 60}
    found = find_benchmark(node, panel)
    assert found.benchmark.name == "TrendBaseline"
    (fault,) = found.faults(panel, 30, 5)
    assert "bars before its first weight, but measuring begins at bar 30" in fault.allowed
    assert found.faults(panel, 100, 5) == []


FRENCH = "date,Mkt-RF,SMB,RF\n"


def french_file(n=300, name="ff.csv"):
    noise = np.random.default_rng(3).normal(0, 1, (n, 2)).round(2)
    rows = [
        f"{day:%Y%m%d},{m},{s},0.01" for day, (m, s) in zip(DAYS[:n], noise.tolist(), strict=True)
    ]
    Path(name).write_text(FRENCH + "\n".join(rows) + "\n")
    return noise


def test_factors_as_french_writes_them_are_percent_and_rf_is_none(prices):
    noise = french_file()
    panel = panel_from_frames(prices)
    found = find_factors("ff.csv", panel)
    assert found.factors.names == ("Mkt-RF", "SMB")
    assert found.returns[1:] == pytest.approx(noise[1:] / 100)
    assert [note.partition(" ")[0] for note in found.notes] == ["factors", "ff.csv:"]
    assert "RF is the risk-free rate and no factor" in found.notes[0]
    given = find_factors({"file": "ff.csv", "unit": "percent"}, panel)
    assert given.factors == found.factors
    assert len(given.notes) == 1


def test_factors_need_not_cover_all_bars_and_that_is_said(prices):
    french_file(200)
    panel = panel_from_frames(prices)
    found = find_factors("ff.csv", panel)
    assert found.faults(panel, 0) == []
    (note,) = found.cover_notes(panel, 0)
    assert note.startswith("factors ff.csv: 100 of 299 measured bars have none, the first at")
    (fault,) = found.faults(panel, 198)
    assert "must have returns on at least 4 of the measured bars" in fault.allowed


def test_symbols_are_factors_by_their_returns(prices, source):
    panel = load_panel(source)
    found = find_factors(["A", "SPY"], panel, source)
    assert not found.factors.are_excess
    expected = prices[["A", "SPY"]].pct_change().to_numpy()[1:]
    assert found.returns[1:] == pytest.approx(expected, abs=1e-15)
    assert found.cover_notes(panel, 0) == []


def test_a_factor_that_others_make_up_is_named(prices):
    panel = panel_from_frames(prices)
    returns = prices.pct_change().dropna()
    returns["both"] = returns["A"] + returns["B"]
    returns[["A", "B", "both"]].to_csv("factors.csv")
    (note,) = find_factors("factors.csv", panel).cover_notes(panel, 0)
    assert "both does not vary, or the factors before it make it up" in note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,RF\n2020-01-02,0.1\n", "holds no factor"),
        ("date,a/b,a b\n2020-01-02,0.1,0.2\n2020-01-03,0.1,0.3\n", "needs a name of its own"),
        ("date,a\n1990-01-02,0.1\n1990-01-03,0.2\n", "and none of the bars of the data"),
    ],
)
def test_factors_that_cannot_be_used_are_refused(prices, text, said):
    Path("wrong.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        find_factors("wrong.csv", panel_from_frames(prices))


def test_returns_of_months_are_no_factors_of_days(prices):
    prices["SPY"].resample("ME").last().pct_change().to_frame().to_csv("months.csv")
    with pytest.raises(DataError, match="its bars are longer than those of the data"):
        find_factors("months.csv", panel_from_frames(prices))


@pytest.mark.parametrize(("bars", "rows"), [("W-FRI", "2W-FRI"), ("BQE", "2BQE")])
def test_returns_of_bars_twice_as_long_are_no_factors(bars, rows):
    index = pd.date_range("2000-01-07", periods=81, freq=bars)
    price = pd.DataFrame({"A": 100 * 1.01 ** np.arange(81.0)}, index=index)
    longer = price["A"].iloc[::2].pct_change().dropna().to_frame("long")
    longer["long"] += np.random.default_rng(1).normal(0, 0.01, len(longer))
    longer.to_csv("long.csv", index_label="date")
    with pytest.raises(DataError, match="its bars are longer than those of the data"):
        find_factors({"file": "long.csv", "unit": "fraction"}, panel_from_frames(price))


def test_the_risk_free_rate_is_known_as_the_q_factors_write_it(prices):
    noise = np.random.default_rng(3).normal(0, 1, (300, 2))
    table = pd.DataFrame(noise, index=DAYS, columns=["R_MKT", "R_ME"]).assign(R_F=0.01)
    table.to_csv("q.csv", index_label="date")
    found = find_factors("q.csv", panel_from_frames(prices))
    assert found.factors.names == ("R_MKT", "R_ME")
    assert "R_F is the risk-free rate and no factor" in found.notes[0]


def test_a_code_for_a_missing_value_is_one_with_a_percent_sign_too(prices):
    cells = ["0.50 %", "-0,25 %".replace(",", "."), "-99.99 %", "0.75 %"] * 75
    lines = [f"{day:%Y-%m-%d},{cell}" for day, cell in zip(DAYS, cells, strict=True)]
    Path("signed.csv").write_text("date,F\n" + "\n".join(lines) + "\n")
    found = find_factors("signed.csv", panel_from_frames(prices))
    assert np.isnan(found.returns[2::4]).all()
    assert found.returns[1:4:2, 0] == pytest.approx([-0.0025, 0.0075])
    assert any("75 returns of -99.99 or -999 are read as missing" in note for note in found.notes)


def test_months_dated_on_the_last_day_of_all_are_those_of_the_last_session(prices):
    index = pd.date_range("2005-01-31", periods=60, freq="BME")
    values = np.random.default_rng(2).normal(0.01, 0.04, 60)
    panel = panel_from_frames(pd.DataFrame({"A": 100 * np.cumprod(1 + values)}, index=index))
    labels = pd.date_range("2005-01-31", periods=60, freq="ME")
    pd.Series(values, labels, name="F").to_csv("returns.csv", index_label="date")
    pd.Series(100 * np.cumprod(1 + values), labels, name="F").to_csv(
        "level.csv", index_label="date"
    )
    for found in (
        find_benchmark("returns.csv", panel, values="returns"),
        find_benchmark("level.csv", panel),
    ):
        assert found.returns[1:] == pytest.approx(values[1:])
        assert found.faults(panel, 0, 5) == []
        assert found.gap_note(panel, 0) == ""
        assert "the row of 2005-04-30 belongs to the bar of 2005-04-29" in found.notes[-1]
    factors = find_factors("returns.csv", panel)
    assert factors.returns[1:, 0] == pytest.approx(values[1:])
    assert "matched by month" in factors.notes[-1]
