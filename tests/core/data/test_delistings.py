import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from backtest_batch.errors import DataError

DAYS = pd.bdate_range("2020-01-01", periods=8)


def prices():
    close = pd.DataFrame({"GONE": 100.0, "STAYS": 50.0}, index=DAYS)
    close.loc[DAYS[5] :, "GONE"] = np.nan
    return close


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prices().to_csv("prices.csv", index_label="date")

    def with_returns(text, **options):
        (tmp_path / "delisted.csv").write_text(text)
        return Csv(path="prices.csv", delisting_returns="delisted.csv", **options)

    return with_returns


@pytest.mark.parametrize("value", [-0.3, -1.0, 0.25])
def test_the_bar_after_the_last_price_has_it_times_one_plus_the_return(source, value):
    panel = load_panel(source(f"symbol,return\nGONE,{value}\n"))
    expected = prices()
    expected.loc[DAYS[5], "GONE"] = 100.0 * (1.0 + value)
    np.testing.assert_allclose(panel.close.to_numpy(), expected.to_numpy())
    frames = panel_from_frames(prices(), delisting_returns={"GONE": value})
    assert frames == panel


def test_who_holds_the_series_to_its_end_earns_the_return_exactly(source):
    panel = load_panel(source("symbol,return\nGONE,-0.3\n"))
    settings = SimulationSettings(initial_capital=1_000.0, commission_bps=0.0)
    found = simulate(panel, np.array([0]), np.array([[0.4, 0.6]]), settings)
    assert found.net_return[5] == pytest.approx(-0.12)
    assert found.net_return[[1, 2, 3, 4, 6, 7]] == pytest.approx(0.0)


def test_nothing_before_it_knows_of_it(source):
    plain = load_panel(Csv(path="prices.csv"))
    panel = load_panel(source("symbol,return\nGONE,-0.3\n"))
    assert panel.window(0, 5) == plain.window(0, 5)
    assert panel.fingerprint != plain.fingerprint


def test_open_high_and_low_are_that_price_and_nothing_is_traded():
    close = prices()
    panel = panel_from_frames(
        close, open=close, high=close, low=close, volume=close, delisting_returns={"GONE": -0.5}
    )
    last = {name: values[5, 0] for name, values in panel.fields.items()}
    assert last == {"open": 50.0, "high": 50.0, "low": 50.0, "close": 50.0, "volume": 0.0}


def test_a_member_until_its_last_day_of_trade_earns_it_too(source, tmp_path):
    (tmp_path / "universe.csv").write_text(
        f"symbol,from,to\nGONE,2020-01-01,{DAYS[4]:%Y-%m-%d}\nSTAYS,2020-01-01,\n"
    )
    panel = load_panel(source("symbol,return\nGONE,-1\n", universe="universe.csv"))
    assert panel.members[:, 0].tolist() == [True] * 6 + [False] * 2


def test_what_is_not_used_is_said_and_a_final_price_is_no_suspicious_move(source, caplog):
    load_panel(source("symbol,return\nGONE,-0.9\nSTAYS,-1\nELSEWHERE,-1\n"))
    assert "1 of 3 delisting returns are of symbols without prices (ELSEWHERE)" in caplog.text
    assert "1 series that reach the last bar are not used (STAYS)" in caplog.text
    assert "moves over 50 %" not in caplog.text
    assert "1 move over 50 %" not in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,return\nGONE,-30\n", r"return of GONE is -30: .* \(-0.3 is -30 %\)"),
        ("symbol,return\nGONE,\n", "no delisting return of GONE"),
        ("symbol,return\nGONE,x\n", "'return' holds 'x'"),
        ("symbol,return\nGONE,-1\nGONE,-1\n", "several delisting returns of GONE"),
        ("symbol,what\nGONE,-1\n", "no column 'return'"),
        ("symbol,return,date\nGONE,-1,2020-01-03\n", "delisted on 2020-01-03, but has prices unt"),
    ],
)
def test_what_cannot_be_understood_is_refused(source, text, message):
    with pytest.raises(DataError, match=rf"delisted\.csv.*{message}"):
        load_panel(source(text))


def test_a_day_may_be_known_of_some(source):
    text = f"symbol,return,date\nGONE,-1,{DAYS[4]:%Y-%m-%d}\nSTAYS,-1,\n"
    assert load_panel(source(text)).fields["close"][5, 0] == 0.0


@pytest.mark.parametrize("n_after", [1, 3])
def test_a_move_that_the_table_explains_is_no_suspicious_one(source, tmp_path, caplog, n_after):
    close = prices().iloc[: 5 + n_after]
    close.to_csv("prices.csv", index_label="date")
    load_panel(source("symbol,return\nGONE,-0.75\n"))
    assert "over 50 %" not in caplog.text
    assert "looks like a split" not in caplog.text
    close.loc[DAYS[4], "GONE"] = 20.0  # a fall of the prices themselves, which nothing explains
    close.to_csv("prices.csv", index_label="date")
    load_panel(source("symbol,return\nGONE,-0.75\n"))
    assert "1 move over 50 % in one bar; the largest is GONE -80.0% at 2020-01-07" in caplog.text


def test_a_last_price_that_holds_the_delisting_return_already_is_explained(source, caplog):
    close = prices()
    close.loc[DAYS[7], "STAYS"] = 20.0
    close.to_csv("prices.csv", index_label="date")
    load_panel(source("symbol,return\nSTAYS,-0.6\n"))
    assert "over 50 %" not in caplog.text


@pytest.mark.parametrize("name", ["Ticker", "sym", "code"])
def test_the_column_of_symbols_may_have_another_name(source, name):
    panel = load_panel(source(f"{name},company,return\nGONE,Gone Inc,-30%\n"))
    assert panel.close["GONE"].iloc[5] == 70.0


def test_a_letter_in_place_of_a_return_is_named_without_a_date(source):
    with pytest.raises(DataError, match=r"'return' holds 'C' \(data row 1\), which is no number"):
        load_panel(source("symbol,return\nGONE,C\n"))
