"""Prices in databases: what is asked, what comes back, and what is said when it does not."""

import importlib.util
import sqlite3
from contextlib import closing
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.database import QueryTable, check_query, run_query
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Sql
from backtest_batch.core.fingerprint import digest, result_config
from backtest_batch.errors import DataError, DataNotFoundError

QUERY = "select date, symbol, close from prices"


def closes(n_bars=30):
    walk = np.random.default_rng(5).normal(0, 0.01, (n_bars, 3)).cumsum(axis=0)
    index = pd.bdate_range("2020-01-01", periods=n_bars)
    return pd.DataFrame(100 * np.exp(walk), index=index, columns=["AAA", "BBB", "CCC"])


def long_table(frame):
    table = frame.rename_axis("date").reset_index()
    return table.melt(id_vars="date", var_name="symbol", value_name="close")


@pytest.fixture
def database(tmp_path, monkeypatch):
    """An SQLite file with a long table, whose rows are in no order."""
    monkeypatch.chdir(tmp_path)
    table = long_table(closes()).sample(frac=1, random_state=0)
    table["date"] = table["date"].dt.strftime("%Y-%m-%d")
    with closing(sqlite3.connect("prices.db")) as connection:
        table.to_sql("prices", connection, index=False)
    return "sqlite:///prices.db"


def test_rows_in_any_order_are_the_panel_of_the_frame(database):
    assert load_panel(Sql(url=database, query=QUERY)) == panel_from_frames(closes())


def test_columns_may_be_wide_and_named_by_keys(database):
    with closing(sqlite3.connect("prices.db")) as connection:
        wide = closes()
        wide.index = wide.index.strftime("%d/%m/%Y")
        wide.to_sql("wide", connection, index_label="when")
    source = Sql(
        url=database,
        query="select * from wide",
        timestamp_column="when",
        timestamp_format="%d/%m/%Y",
        symbols=["CCC", "AAA"],
    )
    assert load_panel(source) == panel_from_frames(closes()[["CCC", "AAA"]])


def test_the_bars_of_one_symbol_take_its_name_from_the_key(database):
    query = "select date, close from prices where symbol = 'BBB'"
    assert load_panel(Sql(url=database, query=query)).symbols == ("asset",)
    named = load_panel(Sql(url=database, query=query, symbols=["BBB"]))
    assert named == panel_from_frames(closes()[["BBB"]])


def test_rows_that_change_are_noticed(database):
    before = load_panel(Sql(url=database, query=QUERY))
    with closing(sqlite3.connect("prices.db")) as connection, connection:
        connection.execute("update prices set close = 99 where symbol = 'AAA' and date like '%-02'")
    after = load_panel(Sql(url=database, query=QUERY))
    assert before != after
    assert after.fields["close"][1, 0] == 99


@pytest.mark.parametrize(
    "query",
    [
        "delete from prices",
        "select 1; delete from prices",
        "-- select\nupdate prices set close = 1",
        "drop table prices;",
        "/* select */ insert into prices values (1, 2, 3)",
    ],
)
def test_what_would_write_is_refused_before_it_is_sent(query):
    with pytest.raises(ValueError, match="`query` must be"):
        Sql(url="sqlite:///prices.db", query=query)


@pytest.mark.parametrize("query", ["", "  ", "-- nothing", ";"])
def test_an_empty_query_is_refused(query):
    with pytest.raises(ValueError, match="is empty"):
        check_query(query)


@pytest.mark.parametrize(
    "query",
    [
        "select 'a; b' as x;",
        'select "a;b" from t -- ; drop',
        "WITH x AS (select 1) select * from x ; ",
        "(select 1) union (select 2)",
        "select $$;$$",
        "values (1)",
    ],
)
def test_one_statement_that_reads_is_sent(query):
    check_query(query)


def test_a_query_that_begins_as_one_that_reads_still_writes_nothing(database):
    query = "with x as (select 1) delete from prices returning date, symbol, close"
    with pytest.raises(DataError, match="refuses the query: attempt to write a readonly database"):
        load_panel(Sql(url=database, query=query))
    assert load_panel(Sql(url=database, query=QUERY)).n_bars == 30


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select * from price", r"no such table: price \(did you mean prices\?\); it has prices"),
        ("select * frm prices", 'near "frm": syntax error'),
        ("select nope from prices", "no such column: nope"),
        ("select date, symbol, close from prices where close < 0", "the query has no rows"),
        ("select close from prices", "the query has no column of timestamps"),
    ],
)
def test_what_the_database_says_is_passed_on(database, query, message):
    with pytest.raises(DataError, match=message):
        load_panel(Sql(url=database, query=query))


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sqlite:///other.db", DataNotFoundError, "no such file .*other.db"),
        ("sqlite://", DataError, "in memory"),
        ("oracle9://me:geheim@host/x", DataNotFoundError, "knows no database 'oracle9'"),
        ("mysql+pymysql://me:geheim@host/x", DataNotFoundError, "`pip install pymysql`"),
        ("postgresql+psycopg2://me:geheim@127.0.0.1:1/x", DataError, "cannot be opened: .*refused"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_secrets(
    database, require, url, error, message
):
    if "psycopg2" in url:
        pytest.importorskip("psycopg2")
    if "pymysql" in url and importlib.util.find_spec("pymysql") is not None:
        pytest.skip("pymysql is installed")
    with pytest.raises(error, match=message) as caught:
        load_panel(Sql(url=url, query=QUERY))
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["motherduck_token", "api_key", "my.password"])
def test_the_reason_is_kept_where_a_secret_of_the_address_is_masked(database, key):
    with pytest.raises(DataError) as caught:
        load_panel(Sql(url=f"{database}?{key}=geheim", query="select * from nope"))
    assert str(caught.value) == (
        f"sqlite:///prices.db?{key}=*** refuses the query: no such table: nope; it has prices"
    )


def test_a_timestamp_that_is_null_is_counted_and_shown(database, caplog):
    with closing(sqlite3.connect("prices.db")) as connection:
        connection.execute("update prices set date = null where symbol = 'BBB' and close < 100")
        connection.commit()
        count = connection.execute("select count(*) from prices where date is null").fetchone()[0]
    assert count
    with pytest.raises(DataError) as caught:
        load_panel(Sql(url=database, query=QUERY))
    said = str(caught.value)
    assert (
        f"the query: the timestamp 'date' is NULL in {count} of 90 rows, the first is row" in said
    )
    assert "(where symbol is BBB, close is 9" in said
    assert '`where "date" is not null` in `data.query` leaves them out' in said


def test_an_answer_is_no_file_whose_rows_are_turned(database, caplog):
    one = "select date, close from prices where symbol = 'AAA' order by date desc"
    panel = load_panel(Sql(url=database, query=one))
    assert panel.index.is_monotonic_increasing
    renamed = "select date, symbol as ticker, close from prices"
    load_panel(Sql(url=database, query=renamed))
    assert "symbols are those of 'ticker'" in caplog.text
    assert "file" not in caplog.text


def test_a_path_is_no_address_and_the_message_says_what_is(database):
    with pytest.raises(ValueError, match=r"sqlite:///prices\.db is the file"):
        Sql(url="prices.db", query=QUERY)


def test_the_password_is_no_part_of_what_determines_a_result(database):
    def hashed(url):
        config = {"data": {"url": url, "query": QUERY}, "walk_forward": {}}
        return digest(result_config(config))

    assert hashed("postgresql://me:one@host/x") == hashed("postgresql://you:two@host/x")
    assert hashed("postgresql://me:one@host/x") != hashed("postgresql://me:one@host/y")
    source = Sql(url=database, query=QUERY)
    assert "password" not in str(source.identity())


def test_numbers_of_several_kinds_are_numbers(tmp_path):
    file = tmp_path / "kinds.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("create table t (date text, symbol text, close)")
        rows = [("2020-01-01", "A", 1), ("2020-01-02", "A", 1.5), ("2020-01-03", "A", "2.25")]
        connection.executemany("insert into t values (?, ?, ?)", rows)
    panel = load_panel(Sql(url=f"sqlite:///{file}", query="select * from t"))
    assert panel.fields["close"][:, 0].tolist() == [1.0, 1.5, 2.25]


def test_chunks_of_other_types_are_joined(monkeypatch):
    from backtest_batch.core.data import database as module

    class Answer:
        rows = [(1, None), (2.5, None), (None, Decimal("0.1")), (4, Decimal(2)), (None, "x")]

        def fetchmany(self, number):
            taken, self.rows = self.rows[:number], self.rows[number:]
            return taken

    monkeypatch.setattr(module, "ROWS", 2)
    table = module._table(["a", "b"], Answer())
    assert table["a"].to_pylist() == [1.0, 2.5, None, 4.0, None]
    assert table["b"].to_pylist() == [None, None, "0.1", "2", "x"]


def test_the_hash_of_an_answer_does_not_depend_on_its_chunks():
    import pyarrow as pa

    whole = pa.table({"a": [1.0, 2.0, None], "b": ["x", "y", None]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert QueryTable(whole).digest() == QueryTable(parts).digest()
    other = pa.table({"a": [1.0, 2.0, 3.0], "b": ["x", "y", None]})
    assert QueryTable(whole).digest() != QueryTable(other).digest()


def test_duckdb_is_read_as_files_are(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "prices.duckdb"
    table = long_table(closes())
    with duckdb.connect(str(file)) as connection:
        connection.register("given", table)
        connection.execute(
            "create table prices as "
            "select date::date as day, symbol, close, 2.5::decimal(9, 2) as open from given"
        )
    url = f"duckdb:///{file}"
    query = "select * from prices order by random()"
    panel = load_panel(Sql(url=url, query=query, open_column=None))
    assert panel == panel_from_frames(closes())
    assert (load_panel(Sql(url=url, query=query)).fields["open"] == 2.5).all()
    with pytest.raises(DataError, match=r"prcs does not exist.*did you mean prices\?"):
        run_query(url, "select * from prcs")
    with pytest.raises(DataError, match=r"(?i)read-only"):
        run_query(url, "with x as (select 1) delete from prices returning *")
    with pytest.raises(DataError, match="table_ does not exist"):
        run_query(url, "select * from table_")  # a variable of Python is no table
    with pytest.raises(DataNotFoundError, match="no such file"):
        run_query(f"duckdb:///{tmp_path}/other.duckdb", "select 1")


def test_duckdb_reads_files_by_a_query(tmp_path):
    pytest.importorskip("duckdb")
    long_table(closes()).to_parquet(tmp_path / "a.parquet")
    query = f"select * from '{tmp_path}/*.parquet'"
    assert load_panel(Sql(url="duckdb://", query=query)) == panel_from_frames(closes())


@pytest.fixture
def postgresql(require):
    from tests.support.servers import PostgreSQL, missing_for_postgres

    require(not missing_for_postgres(), missing_for_postgres())
    server = PostgreSQL()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.server
def test_postgresql_is_read_and_not_written(postgresql):
    from sqlalchemy import create_engine, text

    url = postgresql.new_database("market")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("create table prices (day timestamptz, symbol text, close numeric(20, 12))")
        )
        rows = long_table(closes().round(12)).assign(date=lambda t: t["date"].dt.tz_localize("UTC"))
        connection.execute(
            text("insert into prices values (:date, :symbol, :close)"), rows.to_dict("records")
        )
    panel = load_panel(Sql(url=url, query="select * from prices where symbol not like '%Z'"))
    assert panel == panel_from_frames(closes().round(12).tz_localize("UTC"))
    with create_engine(url).begin() as connection:
        connection.execute(text("create sequence counter"))
    for query, message in (
        ("with gone as (delete from prices returning *) select * from gone", "modifying"),
        ("select nextval('counter')", "read-only transaction"),
    ):
        with pytest.raises(DataError, match=message):
            run_query(url, query)
    with pytest.raises(DataError, match=r'pricess" does not exist.*did you mean prices\?'):
        run_query(url, "select * from pricess")
    wrong = url.replace("s3cr3t-word", "other-word")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        run_query(wrong, QUERY)
    assert "other-word" not in str(caught.value)
    with engine.begin() as connection:
        assert connection.execute(text("select count(*) from prices")).scalar() == 90
    engine.dispose()
