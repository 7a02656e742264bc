import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.errors import DataError, DataNotFoundError

DAYS = pd.bdate_range("2020-01-01", periods=10)


def prices(symbols="ABC", index=DAYS):
    steps = np.arange(len(index))[:, None] + np.arange(len(symbols))
    return pd.DataFrame(100.0 + steps, index=index, columns=list(symbols))


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prices().to_csv("prices.csv", index_label="date")

    def with_universe(text, **options):
        (tmp_path / "universe.csv").write_text(text)
        return Csv(path="prices.csv", universe="universe.csv", **options)

    return with_universe


def members_of(panel, symbol):
    held = panel.members[:, panel.symbols.index(symbol)]
    return [f"{day:%m-%d}" for day in panel.index[held]]


def test_stints_include_both_days_and_go_on_where_no_end_is_named(source):
    panel = load_panel(
        source(
            "symbol,from,to\nA,2019-05-01,2020-01-03\nA,2020-01-10,\nB,2020-01-04,2020-01-07\n"
            "C,2020-01-13,9999-12-31\n"
        )
    )
    assert members_of(panel, "A") == ["01-01", "01-02", "01-03", "01-10", "01-13", "01-14"]
    assert members_of(panel, "B") == ["01-06", "01-07"]
    assert members_of(panel, "C") == ["01-13", "01-14"]
    assert not panel.members.flags.writeable


def test_a_table_of_yes_and_no_holds_from_each_row_to_the_next(source):
    panel = load_panel(source("date,A,B\n2020-01-02,1,False\n2020-01-07,0,true\n"))
    assert members_of(panel, "A") == ["01-02", "01-03", "01-06"]
    assert members_of(panel, "B") == ["01-07", "01-08", "01-09", "01-10", "01-13", "01-14"]
    assert members_of(panel, "C") == []


@pytest.mark.parametrize("form", ["stints", "table"])
def test_parquet_and_frames_say_the_same_as_csv(source, tmp_path, form):
    if form == "stints":
        text = "symbol,from,to\nA,2020-01-02,2020-01-07\nB,2020-01-03,\nC,2020-01-01,\n"
        frame = pd.read_csv(pd.io.common.StringIO(text), parse_dates=["from", "to"])
    else:
        text = "date,A,B,C\n2020-01-02,1,0,1\n2020-01-06,0,1,1\n"
        frame = pd.read_csv(pd.io.common.StringIO(text), parse_dates=["date"], index_col="date")
        frame = frame.astype(bool)
    expected = load_panel(source(text))
    frame.to_parquet(tmp_path / "universe.parquet")
    found = load_panel(Csv(path="prices.csv", universe="universe.parquet"))
    assert found == expected
    assert panel_from_frames(prices(), members=frame) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Ticker,Start Date,End Date\nA,2020-01-02,2020-01-07\nB,2020-01-03,NULL\n",
        "symbol;from;to\nA;2020-01-02;2020-01-07\nB;2020-01-03;\n",
        "symbol,from,to\nA,20200102,20200107\nB,20200103,99991231\n",
        # A day above 12 in one column tells the order of both.
        "symbol,from,to\nA,02/01/2020,07/01/2020\nB,03/01/2020,31/12/2030\n",
    ],
)
def test_stints_are_read_as_vendors_write_them(source, text):
    panel = load_panel(source(text))
    assert members_of(panel, "A") == ["01-02", "01-03", "01-06", "01-07"]
    assert members_of(panel, "B")[0] == "01-03"
    assert panel.members[-1].tolist() == [False, True, False]


def test_days_are_those_of_the_index_and_last_to_their_end(source):
    moments = pd.date_range("2020-01-01 20:00", periods=8, freq="6h", tz="America/New_York")
    prices(index=moments).to_csv("prices.csv", index_label="date")
    text = "symbol,from,to\nA,2020-01-02,2020-01-02\nB,2020-01-02T08:00,\nC,2020-01-01,\n"
    panel = load_panel(source(text, freq="5min"))
    held = panel.members[:, 0]
    assert [f"{stamp:%d %H}" for stamp in panel.index[held]] == ["02 02", "02 08", "02 14", "02 20"]
    assert panel.index[panel.members[:, 1]][0] == pd.Timestamp("2020-01-02 08:00-05:00")


def test_the_universe_is_content_and_none_leaves_the_fingerprint_as_it_was(source):
    plain = load_panel(Csv(path="prices.csv"))
    assert plain.members is None
    one = load_panel(source("symbol,from,to\nA,2020-01-02,\n"))
    other = load_panel(source("symbol,from,to\nA,2020-01-03,\n"))
    assert len({plain.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert panel_from_frames(prices()).fingerprint == plain.fingerprint
    everybody = load_panel(source("symbol,from,to\nA,2020-01-01,\nB,2020-01-01,\nC,2020-01-01,\n"))
    assert everybody.members.all()
    assert everybody != plain


def test_members_without_prices_and_prices_of_no_member_are_said_with_their_count(source, caplog):
    universe = source(
        "symbol,from,to\nA,2020-01-02,\nGONE,2020-01-02,\nLOST,2019-01-01,2020-01-05\n",
        exclude=["C"],
    )
    for _ in ("read", "from the cache"):
        caplog.clear()
        load_panel(universe)
        assert "2 of 3 symbols of the universe have no prices (GONE, LOST)" in caplog.text
        assert "1 of 2 symbols with prices are never members (B)" in caplog.text
        assert "on 1 of 10 bars, from 2020-01-01 on, nobody is a member" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,from,to\nA,2030-01-01,\n", "nobody with prices is a member on any of 10 bars"),
        ("symbol,since\nA,2020-01-02\n", "has neither the columns symbol, from and to, nor"),
        ("symbol,from,to\nA,02/01/2020,\n", "can be read in 2 ways; write dates as 2020-01-31"),
        ("symbol,from,to\nX,2020-01-02,\nY,2020-01-02,\n", r"none of its 2 symbols \(X, Y\)"),
        ("symbol,from\nA,2020-01-02\n", "none named 'to'"),
        ("symbol,from,to\nA,2020-01-05,2020-01-03\n", "ends .2020-01-03. before it begins"),
        ("symbol,from,to\nA,first of May,\n", "unparseable timestamp 'first of May'.*2020-01-31"),
        ("symbol,from,to\nA,,2020-01-05\n", "unparseable timestamp"),
        ("symbol,from,to\n,2020-01-02,\n", "no symbol in data row 1"),
        ("date,A\n2020-01-02,maybe\n", "'A' holds 'maybe' at 2020-01-02"),
        ("date,A\n2020-01-02,1\n2020-01-03,\n", "'A' holds nothing at 2020-01-03"),
        ("date,A\n2020-01-02,1\n2020-01-02,0\n", "a timestamp twice, the first 2020-01-02"),
        ("", "is empty"),
    ],
)
def test_what_cannot_be_understood_is_refused(source, text, message):
    with pytest.raises(DataError, match=rf"universe\.csv.*{message}"):
        load_panel(source(text))


def test_a_file_that_is_not_there_is_named_with_its_key(source):
    source("")
    with pytest.raises(DataNotFoundError, match=r"`data.universe`: nowhere\.csv"):
        load_panel(Csv(path="prices.csv", universe="nowhere.csv"))


def test_a_changed_file_is_read_again_and_an_equal_one_found(source, cache_folder):
    first = load_panel(source("symbol,from,to\nA,2020-01-02,\n"))
    assert load_panel(source("symbol,from,to\nA,2020-01-02,2020-01-06\n")) != first
    again = load_panel(source("symbol,from,to\nA,2020-01-02,\n"))
    assert again == first
    assert (cache_folder / "panels" / first.fingerprint / "members.npy").is_file()


def test_a_date_is_the_session_of_that_date_where_sessions_cross_midnight(source):
    bars = pd.date_range("2020-01-01 12:00", periods=16, freq="3h", tz="America/New_York")
    prices(index=bars).to_csv("prices.csv", index_label="date")
    stints = "symbol,from,to\nA,2020-01-02,2020-01-02\nB,2020-01-01,\nC,2020-01-01,\n"
    panel = load_panel(source(stints, freq="3h", session_end="17:00"))
    held = panel.index[panel.members[:, 0]]
    assert str(held[0]) == "2020-01-01 18:00:00-05:00"
    assert str(held[-1]) == "2020-01-02 15:00:00-05:00"
    table = "date,A,B,C\n2020-01-01,0,1,1\n2020-01-02,1,1,1\n2020-01-03,0,1,1\n"
    assert load_panel(source(table, freq="3h", session_end="17:00")) == panel


def test_the_columns_may_have_the_names_that_vendors_give_them(source):
    panel = load_panel(source("Code,Name,From Date,To Date\nA,Alpha Inc,2019-01-01,2020-01-02\n"))
    assert panel.members[:, 0].tolist()[:2] == [True, True]


@pytest.mark.parametrize(
    "text",
    [
        'date,tickers\n2019-12-01,"A, B"\n2020-01-03,"B,C"\n',
        "date,members\n2019-12-01,A B\n2020-01-03,B C\n",
        "date,constituents\n2019-12-01,\"['A', 'B']\"\n2020-01-03,\"['B', 'C']\"\n",
        "date,symbol\n2019-12-01,A\n2019-12-01,B\n2020-01-03,C\n2020-01-03,B\n",
    ],
)
def test_a_list_of_all_members_of_a_date_holds_until_the_next_one(source, caplog, text):
    panel = load_panel(source(text))
    assert members_of(panel, "A") == ["01-01", "01-02"]
    assert len(members_of(panel, "B")) == len(DAYS)
    assert members_of(panel, "C")[0] == "01-03"
    assert "each date lists all members" in caplog.text


def test_rows_by_date_and_symbol_with_a_value_are_refused_with_the_forms_there_are(source):
    text = "date,symbol,member\n2020-01-01,A,1\n2020-01-01,B,1\n"
    with pytest.raises(DataError, match=r"a timestamp twice.*a row for each member of each date"):
        load_panel(source(text))


def test_symbols_that_differ_in_case_alone_are_pointed_out(source):
    with pytest.raises(DataError, match="a and A differ in case alone"):
        load_panel(source("symbol,from,to\na,2019-01-01,\n"))


@pytest.mark.parametrize(
    "names", ["date_added,date_removed", "MbrStartDt,MbrEndDt", "start,ending"]
)
def test_the_days_of_a_stint_may_have_the_names_that_vendors_give_them(source, names):
    panel = load_panel(source(f"ticker,{names}\nA,2019-01-01,2020-01-02\n"))
    assert members_of(panel, "A") == ["01-01", "01-02"]
