"""Which columns are assets, which are fields of one, and which are no prices."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet, Synthetic
from backtest_batch.errors import DataError

DAYS = pd.bdate_range("2019-01-01", periods=40)


@pytest.fixture
def market():
    """Fields of two symbols, each of shape (n_bars, 2)."""
    source = Synthetic(n_assets=2, n_bars=40, start="2019-01-01", seed=5)
    panel = load_panel(source)
    return {name: panel.frame(name).set_axis(["KO", "PEP"], axis=1) for name in panel.fields}


@pytest.fixture
def one(market):
    """Bars of one symbol under the names of the fields."""
    return pd.DataFrame({name: frame["KO"] for name, frame in market.items()})


def two_levels(market, fields=("Open", "High", "Low", "Close", "Volume"), **kwargs):
    """Return what yfinance gives: fields and symbols on two levels."""
    return pd.concat({name: market[name.lower()] for name in fields}, axis=1, **kwargs)


def read_csv(frame, folder, **options):
    frame.to_csv(folder / "KO.csv", index_label=None if frame.columns.nlevels > 1 else "date")
    return load_panel(Csv(path=str(folder / "KO.csv"), **options))


# bars of one asset


@pytest.mark.parametrize(
    "names",
    [
        ["Open", "High", "Low", "Close", "Volume"],
        ["OPEN", "HIGH", "LOW", "CLOSE", "VOL"],
        ["<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"],
        ["1. open", "2. high", "3. low", "4. close", "5. volume"],
        ["openPrice", "highPrice", "lowPrice", "closePrice", "volume"],
        ["Open", "High", "Low", "Close/Last", "Volume"],
    ],
)
def test_bars_of_one_asset_however_they_are_spelled(tmp_path, one, names):
    spelled = one.set_axis(names, axis=1).assign(OpenInt=0, Dividends=0.0, note="x")
    from_file = read_csv(spelled, tmp_path)
    from_frame = panel_from_frames(spelled.drop(columns="note"), symbol="KO")
    spelled.rename_axis("date").to_parquet(tmp_path / "KO.parquet")
    assert from_file.symbols == ("KO",)
    assert list(from_file.fields) == ["open", "high", "low", "close", "volume"]
    assert from_file == from_frame == load_panel(Parquet(path=str(tmp_path / "KO.parquet")))
    np.testing.assert_array_equal(from_file.close["KO"], one["close"])


@pytest.mark.parametrize("last", ["Last", "price", "Settle"])
def test_bars_whose_closes_have_another_name(tmp_path, one, last, caplog):
    spelled = one.rename(columns={"close": last})
    expected = panel_from_frames(one, symbol="KO")
    assert not caplog.records
    assert read_csv(spelled, tmp_path) == panel_from_frames(spelled, symbol="KO") == expected
    said = f"closes are those of '{last}' ("
    assert f"KO.csv: {said}`data.close_column` names others)" in caplog.text
    assert f"{said}`close_column` names others)" in caplog.text
    assert list(panel_from_frames(spelled[[last, "volume"]]).fields) == ["close", "volume"]
    two = spelled.assign(**{"Last price": one["close"]})
    with pytest.raises(DataError, match=f"close_column={last}` or .*reads the closes"):
        read_csv(two, tmp_path)


@pytest.mark.parametrize("last", ["VWAP", "bid"])
def test_bars_without_a_close_are_refused_until_it_is_named(tmp_path, one, last):
    spelled = one.rename(columns={"close": last})
    for columns in (list(spelled), [last, "volume"], ["open", last], ["high", "low", last]):
        with pytest.raises(DataError, match=f"look like the bars of one .*close_column={last}`"):
            read_csv(spelled[columns], tmp_path)
        with pytest.raises(DataError, match=rf"panel_from_frames\(frame, close_column='{last}'\)"):
            panel_from_frames(spelled[columns])
    named = read_csv(spelled, tmp_path, close_column=last)
    assert named.symbols == ("KO",)
    assert named == panel_from_frames(spelled, close_column=last, symbol="KO")


def test_symbols_that_are_words_for_fields(tmp_path, market):
    shops = pd.concat([market["close"], market["open"]], axis=1).set_axis(
        ["KO", "LOW", "OPEN", "PEP"], axis=1
    )
    assert read_csv(shops, tmp_path).symbols == ("KO", "LOW", "OPEN", "PEP")
    assert panel_from_frames(shops).symbols == ("KO", "LOW", "OPEN", "PEP")
    alone = shops[["LOW", "OPEN"]]
    with pytest.raises(DataError, match=r"`data\.close_column=null` takes each column as an"):
        read_csv(alone, tmp_path)
    for options in ({"close_column": None}, {"symbols": ["LOW", "OPEN"]}):
        assert read_csv(alone, tmp_path, **options).symbols == ("LOW", "OPEN")
    assert panel_from_frames(alone, close_column=None).symbols == ("LOW", "OPEN")
    assert panel_from_frames(alone[["LOW"]]).symbols == ("LOW",)


def test_single_letters_and_words_of_other_languages(tmp_path, one):
    letters = one.set_axis(list("ohlcv"), axis=1)
    with pytest.raises(DataError, match=r"look like the bars of one .*`data\.close_column=c`"):
        read_csv(letters, tmp_path)
    named = read_csv(letters, tmp_path, close_column="c", open_column="o", volume_column="v")
    assert list(named.fields) == ["open", "close", "volume"]
    words = one[["open", "high", "low", "close"]].set_axis(
        ["Avaus", "Ylin", "Alin", "Loppu"], axis=1
    )
    for read in (lambda: read_csv(words, tmp_path), lambda: panel_from_frames(words)):
        with pytest.raises(DataError, match="'Ylin' is the highest and 'Alin' the lowest of all"):
            read()
    close = one["close"]
    made_up = pd.DataFrame({"E": close, "H": close * 1.02, "T": close * 0.98, "S": close * 1.01})
    with pytest.raises(DataError, match="they look like the bars of one asset"):
        panel_from_frames(made_up)
    assert read_csv(words, tmp_path, close_column="Loppu").symbols == ("KO",)
    assert panel_from_frames(words, close_column=None).n_assets == 4


def test_assets_in_a_fixed_order_are_assets(market):
    level = {"A": 100.0, "B": 101.0, "C": 101.5, "D": 104.0}
    noise = np.random.default_rng(6).normal(0, 0.002, (40, 4)).cumsum(axis=0) / 10
    bonds = pd.DataFrame(np.exp(noise) * list(level.values()), DAYS, list(level))
    assert panel_from_frames(bonds).n_assets == 4
    assert panel_from_frames(pd.DataFrame(level, DAYS)).n_assets == 4
    apart = pd.DataFrame({name: market["close"]["KO"] * 2**n for n, name in enumerate("ABCD")})
    assert panel_from_frames(apart).n_assets == 4


# fields of several symbols


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("names", [["Price", "Ticker"], [None, None]])
def test_fields_by_symbol_on_two_levels(tmp_path, market, swapped, names):
    expected = panel_from_frames(**market)
    frame = two_levels(market, names=names)
    if swapped:
        frame = frame.swaplevel(axis=1).sort_index(axis=1)
    assert panel_from_frames(frame) == expected
    for index_name in (None, "Date"):
        table = frame.rename_axis(index_name)
        table.to_parquet(tmp_path / "levels.parquet")
        assert load_panel(Parquet(path=str(tmp_path / "levels.parquet"))) == expected
        table.to_csv(tmp_path / "levels.csv")
        assert load_panel(Csv(path=str(tmp_path / "levels.csv"))) == expected
    frame.rename_axis("Date").reset_index().to_parquet(tmp_path / "levels.parquet")
    assert load_panel(Parquet(path=str(tmp_path / "levels.parquet"))) == expected
    selected = load_panel(Csv(path=str(tmp_path / "levels.csv"), symbols=["PEP"]))
    assert selected == panel_from_frames(**{name: held[["PEP"]] for name, held in market.items()})


def test_one_ticker_of_yfinance_is_one_asset(tmp_path, market):
    frame = two_levels({name: held[["PEP"]] for name, held in market.items()}).rename_axis("Date")
    frame.columns.names = ["Price", "Ticker"]
    frame.to_csv(tmp_path / "download.csv")
    assert (tmp_path / "download.csv").read_text().startswith("Price,Open,High,Low,Close,Volume\n")
    panel = load_panel(Csv(path=str(tmp_path / "download.csv")))
    assert (panel.symbols, len(panel.fields)) == (("PEP",), 5)
    assert panel == panel_from_frames(frame)


def test_fields_by_symbol_in_one_name(tmp_path, market):
    expected = panel_from_frames(**market)
    frame = two_levels(market)
    for flat in ("{1}.{0}", "{0}_{1}", "{1} {0}"):
        flattened = frame.set_axis([flat.format(*pair) for pair in frame.columns], axis=1)
        assert panel_from_frames(flattened) == expected
        assert read_csv(flattened, tmp_path) == expected


def test_two_levels_that_tell_nothing(tmp_path, market):
    frame = pd.concat({"NYSE": market["close"], "LSE": market["close"]}, axis=1)
    frame.to_parquet(tmp_path / "a.parquet")
    for read in (
        lambda: panel_from_frames(frame),
        lambda: load_panel(Parquet(path=str(tmp_path / "a.parquet"))),
    ):
        with pytest.raises(DataError, match=r"two levels, such as \('NYSE', 'KO'\), but neither"):
            read()
    with pytest.raises(DataError, match="on 3 levels"):
        panel_from_frames(pd.concat({"a": frame}, axis=1))
    without = two_levels(market).drop(columns=("Close", "PEP"))
    with pytest.raises(DataError, match="no column of closes of PEP"):
        panel_from_frames(without)


def test_a_frame_of_one_row_a_symbol_and_bar():
    rows = pd.DataFrame({"symbol": ["A", "B"], "close": [1.0, 2.0]}, index=DAYS[[0, 0]])
    with pytest.raises(DataError, match=r"`frame\.pivot\(columns='symbol', values='close'\)`"):
        panel_from_frames(rows)


# columns that are no prices


@pytest.mark.parametrize("name", ["Volume", "vol", "Dividends", "openInt", "Number of trades"])
def test_a_column_that_is_no_price_by_its_name(tmp_path, market, name):
    frame = market["close"].assign(**{name: market["close"]["KO"] * 2})
    for read in (lambda **to: read_csv(frame, tmp_path, **to), lambda: panel_from_frames(frame)):
        with pytest.raises(DataError, match=f"the column '{name}' is no price by its name"):
            read()
    with pytest.raises(DataError) as caught:
        read_csv(frame, tmp_path)
    assert "data.exclude=[" in str(caught.value)
    assert "data.close_column=null" in str(caught.value)
    assert read_csv(frame, tmp_path, exclude=[name]) == panel_from_frames(market["close"])
    assert read_csv(frame, tmp_path, symbols=["KO"]).symbols == ("KO",)
    assert read_csv(frame, tmp_path, close_column=None).symbols == ("KO", "PEP", name)
    assert panel_from_frames(frame, close_column=None).symbols == ("KO", "PEP", name)


def test_a_lone_column_that_is_no_price(tmp_path, market):
    frame = market["volume"][["KO"]].set_axis(["Volume"], axis=1)
    for read in (lambda: read_csv(frame, tmp_path), lambda: panel_from_frames(frame)):
        with pytest.raises(DataError, match="the column 'Volume' is no price by its name: "):
            read()


def counts(n_bars, low, high, seed=3):
    return np.random.default_rng(seed).integers(low, high, n_bars)


@pytest.mark.parametrize(("low", "high"), [(900_000, 1_100_000), (5_000, 40_000), (10**8, 10**9)])
def test_a_column_whose_values_look_like_counts(tmp_path, market, low, high):
    prices = market["close"] / 10  # around 10
    frame = prices.assign(MYSTERY=counts(40, low, high))
    for read in (lambda: read_csv(frame, tmp_path), lambda: panel_from_frames(frame)):
        with pytest.raises(DataError, match="the column 'MYSTERY' looks like counts"):
            read()
    assert read_csv(frame, tmp_path, exclude=["MYSTERY"]).symbols == ("KO", "PEP")
    for options in ({"close_column": None}, {"symbols": ["KO", "PEP", "MYSTERY"]}):
        assert read_csv(frame, tmp_path, **options).symbols == ("KO", "PEP", "MYSTERY")


def test_prices_that_are_large_whole_numbers(market, caplog):
    prices = market["close"]
    walk = prices["KO"] / prices["KO"].iloc[0]
    passes = {
        "synthetic": pd.DataFrame({"A": range(1, 41), "B": range(1001, 1041)}, DAYS),
        "yen": pd.DataFrame({"A": counts(40, 900, 990), "B": (40_000 * walk).round()}, DAYS),
        "index levels": prices.assign(NIKKEI=(38_000 * walk).round()),
        "against currencies": (prices / 100).assign(NIKKEI=(38_000 * walk).round()),
        "whole dollars": (prices / 50).assign(BTC=(65_000 * walk).round()),
        "still": pd.DataFrame({"A": 1.5, "B": 2.5, "C": counts(40, 5000, 5040)}, DAYS),
        "satoshis": pd.DataFrame({"A": (1e7 * walk).round(), "B": (3e3 * walk).round()}, DAYS),
    }
    for name, frame in passes.items():
        assert panel_from_frames(frame).n_assets == frame.shape[1], name
    assert "is it a price?" not in caplog.text
    doubtful = prices.assign(BRK=(600_000 * walk).round())
    assert panel_from_frames(doubtful).n_assets == 3
    assert "BRK holds whole numbers around" in caplog.text
    assert "is it a price?" in caplog.text


def test_whole_numbers_that_move_far_but_wander_are_doubtful(tmp_path, caplog):
    index = pd.bdate_range("2019-01-01", periods=250)
    steps = np.random.default_rng(8).normal(0, [0.004, 0.004, 0.04], (250, 3))
    frame = pd.DataFrame(np.exp(steps.cumsum(axis=0)), index, columns=["EUR", "GBP", "BTC"])
    frame["BTC"] = (30_000 * frame["BTC"]).round()
    assert panel_from_frames(frame) == read_csv(frame, tmp_path)
    assert "BTC holds whole numbers around" in caplog.text
    growing = np.exp(steps[:, 2] * 10) * np.linspace(30_000, 90_000, 250)
    with pytest.raises(DataError, match="the column 'BTC' looks like counts"):
        panel_from_frames(frame.assign(BTC=growing.round()))


# symbols to leave out


def test_symbols_are_left_out(tmp_path, market):
    close = market["close"].assign(GONE=np.nan, ALSO=np.nan)
    with pytest.raises(DataError) as caught:
        read_csv(close, tmp_path)
    assert "GONE has no price on any of 40 bars" in str(caught.value)
    assert "`'data.exclude=[GONE,ALSO]'` leaves them out" in str(caught.value)
    expected = panel_from_frames(market["close"])
    assert read_csv(close, tmp_path, exclude=["GONE", "ALSO"]) == expected
    both = read_csv(close, tmp_path, symbols=["PEP", "GONE"], exclude=["GONE"])
    assert both == panel_from_frames(market["close"][["PEP"]])
    with pytest.raises(DataError, match=r"unknown symbol GON \(did you mean GONE\?\)"):
        read_csv(close, tmp_path, exclude=["GON"])
    with pytest.raises(DataError, match="leaves none of 4 symbols"):
        read_csv(close, tmp_path, exclude=["GONE", "ALSO", "KO", "PEP"])
    assert load_panel(Synthetic(n_assets=3, n_bars=9, exclude=["S01"])).symbols == ("S00", "S02")
    long = close.rename_axis(index="date", columns="symbol").stack().rename("close").reset_index()
    long.to_parquet(tmp_path / "long.parquet")
    source = Parquet(path=str(tmp_path / "long.parquet"), exclude=["KO", "GONE", "ALSO"])
    assert load_panel(source).symbols == ("PEP",)


def test_a_field_without_any_value_is_left_out_and_that_is_said(tmp_path, one, caplog):
    empty = one.assign(volume=np.nan)
    panel = read_csv(empty, tmp_path)
    assert list(panel.fields) == ["open", "high", "low", "close"]
    assert "volume is left out: KO has none (1 of 1 symbols)" in caplog.text
    assert panel == panel_from_frames(empty, symbol="KO")
    late = one.copy()
    late.iloc[:5, 0] = np.nan
    with pytest.raises(DataError, match=r"KO has no open .*`data.open_column=null` leaves"):
        read_csv(late, tmp_path)
    assert "open" not in read_csv(late, tmp_path, open_column=None).fields
    late["open"] = late["open"].fillna(0)
    with pytest.raises(DataError, match=r"an open of 0 .*`data\.open_column=null` leaves"):
        read_csv(late, tmp_path)


def test_columns_beside_a_close_that_are_not_read_are_named(tmp_path, market, caplog):
    frame = market["close"].assign(Close=market["close"]["KO"])
    said = "'KO', 'PEP' are not read beside 'Close', the closes of one asset ("
    for read in (lambda: read_csv(frame, tmp_path), lambda: panel_from_frames(frame)):
        caplog.clear()
        assert read().n_assets == 1
        assert said in caplog.text
    assert panel_from_frames(frame, close_column=None).symbols == ("KO", "PEP", "Close")


@pytest.mark.parametrize("flat", ["{1} {0}", "{0}_{1}"])
def test_names_of_fields_and_symbols_without_a_close(tmp_path, market, flat):
    frame = two_levels(market, fields=("Open", "High", "Low"))
    flattened = frame.set_axis([flat.format(*pair) for pair in frame.columns], axis=1)
    for read in (lambda: read_csv(flattened, tmp_path), lambda: panel_from_frames(flattened)):
        with pytest.raises(DataError, match=r"no column of closes of KO .*close_column"):
            read()
    beside = market["close"].assign(**{flat.format("Volume", "KO"): 5.0})
    with pytest.raises(DataError, match="is no price by its name"):
        panel_from_frames(beside)


def test_names_of_companies_are_no_fields(market):
    names = ["Change Healthcare", "Open Text"]
    assert panel_from_frames(market["close"].set_axis(names, axis=1)).symbols == tuple(names)


def test_labels_of_two_levels_as_text(market):
    frame = two_levels(market)
    flattened = frame.set_axis([str(pair) for pair in frame.columns], axis=1)
    assert panel_from_frames(flattened) == panel_from_frames(**market)
    with pytest.raises(DataError, match="may have one level of names, but has 2"):
        panel_from_frames(frame, volume=frame)


def test_columns_of_text_can_be_left_out(tmp_path, market):
    frame = market["close"].assign(weekday="Monday")
    with pytest.raises(DataError, match=r"holds 'Monday' .*`'data\.exclude=\[weekday\]'` leaves"):
        read_csv(frame, tmp_path)
    assert read_csv(frame, tmp_path, exclude=["weekday"]).symbols == ("KO", "PEP")
