"""Files as vendors and programs write them: read as they are, or refused with the way out."""

import re

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.errors import DataError

OHLCV = ["open", "high", "low", "close", "volume"]


def klines(start, unit, *, header=""):
    day = 86_400 * unit
    rows = [
        f"{start * unit + n * day},1,3,1,{2 + n},27.0,{start * unit + (n + 1) * day - 1},8,12,1,2,0"
        for n in range(3)
    ]
    return "\n".join([*([header] if header else []), *rows, ""])


FILES = {
    "stooq.txt": (
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "KO.US,D,20200102,000000,1,3,1,2,9,0\nKO.US,D,20200103,000000,2,3,1,3,9,0\n",
        {},
        ("KO.US", OHLCV, "2020-01-02", [2, 3]),
        ["symbols are those of '<TICKER>'"],
    ),
    "BTCUSDT.csv": (
        klines(1735689600, 10**6),
        {},
        ("BTCUSDT", OHLCV, "2025-01-01 00:00+00:00", [2, 3, 4]),
        [
            "those of Binance's klines",
            "those of 'open_time'",
            "are read as microseconds since 1970",
        ],
    ),
    "futures.csv": (
        klines(
            1577836800,
            1000,
            header="open_time,open,high,low,close,volume,close_time,quote_volume,count,"
            "taker_buy_volume,taker_buy_quote_volume,ignore",
        ),
        {},
        ("futures", OHLCV, "2020-01-01 00:00+00:00", [2, 3, 4]),
        ["such as 1577836800000 are read as milliseconds", "`data.timestamp_format=ms` says so"],
    ),
    "polygon.csv": (
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        "A,9,1,2,3,1,1577836800000000000,5\nA,9,1,3,3,1,1577923200000000000,5\n",
        {},
        ("A", OHLCV, "2020-01-01 00:00+00:00", [2, 3]),
        ["timestamps are those of 'window_start'", "nanoseconds"],
    ),
    "tiingo.csv": (
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,"
        "splitFactor\n2020-01-02T00:00:00.000Z,4,6,2,4,9,2,3,1,2,18,0,1\n"
        "2020-01-03T00:00:00.000Z,6,6,2,4,9,3,3,1,2,18,0,1\n",
        {},
        ("tiingo", OHLCV, "2020-01-02 00:00+00:00", [2, 3]),
        ["closes are those of 'adjClose', not of 'close' (`data.adjusted=false`"],
    ),
    "metatrader.csv": (
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2020.01.02\t09:00:00\t1\t3\t1\t2\t9\t0\t2\n2020.01.02\t09:05:00\t1\t3\t1\t3\t9\t0\t2\n",
        {"freq": "5min"},
        ("metatrader", OHLCV, "2020-01-02 09:00", [2, 3]),
        ["separator is a tab (`data.separator=tab` says so)", "times of day are those of '<TIME>'"],
    ),
    "kibot.txt": (
        "01/30/2020,09:30,1,3,1,2,9\n01/30/2020,09:35,1,3,1,3,9\n",
        {"freq": "5min", "columns": ["date", "time", "open", "high", "low", "close", "volume"]},
        ("kibot", OHLCV, "2020-01-30 09:30", [2, 3]),
        ["such as '01/30/2020' are read by `data.timestamp_format=%m/%d/%Y`"],
    ),
    "dukascopy.csv": (
        "Gmt time,Open,High,Low,Close,Volume\n30.01.2020 00:00:00.000,1,3,1,2,9.5\n"
        "30.01.2020 00:05:00.000,1,3,1,3,9.5\n",
        {"freq": "5min"},
        ("dukascopy", OHLCV, "2020-01-30", [2, 3]),
        ["those of 'Gmt time'", "'%d.%m.%Y %H:%M:%S.%f'"],
    ),
    "local.csv": (
        "Local time,Open,High,Low,Close,Volume\n30.01.2020 00:00:00.000 GMT+0100,1,3,1,2,9.5\n"
        "31.01.2020 00:00:00.000 GMT+0100,1,3,1,3,9.5\n",
        {},
        ("local", OHLCV, "2020-01-30 00:00+01:00", [2, 3]),
        ["those of 'Local time'"],
    ),
    "alphavantage.csv": (
        "timestamp,open,high,low,close,volume\n2020-01-03,1,3,1,3,9\n2020-01-02,1,3,1,2,9\n",
        {},
        ("alphavantage", OHLCV, "2020-01-02", [2, 3]),
        ["bars stand in the file from the last one to the first, and are turned"],
    ),
    "investing.csv": (
        '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"01/31/2020","1,234.50","1,200.00","1,300.00","990.00","1.23M","0.5%"\n'
        '"01/30/2020","1,230.25","1,200.00","1,300.00","990.00","989.5K","-0.5%"\n',
        {},
        ("investing", OHLCV, "2020-01-30", [1230.25, 1234.5]),
        ["closes are those of 'Price'", "grouped by thousands", "K, M, B and T"],
    ),
    "barchart.csv": (
        "Time,Open,High,Low,Last,Change,%Chg,Volume\n01/31/2020,1,3,1,3,0,0%,9\n"
        "01/30/2020,1,3,1,2,0,0%,9\n"
        '"Downloaded from Barchart.com as of 01-31-2020 05:00pm CST"\n',
        {},
        ("barchart", OHLCV, "2020-01-30", [2, 3]),
        ["1 line without values left out: 'Downloaded from Barchart.com"],
    ),
    "nasdaq.csv": (
        "Date,Close/Last,Volume,Open,High,Low\n01/31/2020,$3.5,9,$1.5,$3.5,$1.5\n"
        "01/30/2020,$2.5,9,$1.5,$3.5,$1.5\n",
        {},
        ("nasdaq", OHLCV, "2020-01-30", [2.5, 3.5]),
        ["the sign $ is left away"],
    ),
    "fred.csv": (
        "observation_date,VIXCLS\n2020-01-02,12.47\n2020-01-03,.\n2020-01-06,13.85\n",
        {"missing": "ffill"},
        ("VIXCLS", ["close"], "2020-01-02", [12.47, 12.47, 13.85]),
        ["'.' is read as a missing value"],
    ),
    "bloomberg.csv": (
        "Ticker,SPX Index\nStart,1/2/2020\n\nDate,PX_LAST,PX_VOLUME\n1/30/2020,3283.66,9\n"
        "1/31/2020,3225.52,9\n",
        {},
        ("bloomberg", ["close", "volume"], "2020-01-30", [3283.66, 3225.52]),
        ["2 lines above the names of the columns left out: 'Ticker,SPX Index'", "'PX_LAST'"],
    ),
    "quandl.csv": (
        "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,"
        "Adj. Close,Adj. Volume\n2018-03-27,2,6,2,6,9,0,1,1,3,1,3,18\n"
        "2018-03-26,2,6,2,4,9,0,1,1,3,1,2,18\n",
        {},
        ("quandl", OHLCV, "2018-03-26", [2, 3]),
        ["closes are those of 'Adj. Close'"],
    ),
    "crsp.csv": (
        "PERMNO,date,TICKER,PRC,VOL,RET\n10107,20200102,MSFT,2,9,0.01\n"
        "10107,20200103,MSFT,3,9,0.01\n",
        {},
        ("MSFT", ["close", "volume"], "2020-01-02", [2, 3]),
        ["closes are those of 'PRC'", "symbols are those of 'TICKER'"],
    ),
    "ecb.csv": (
        "Date,USD,\n2020-01-03,1.1147,\n2020-01-02,1.1193,\n",
        {},
        ("USD", ["close"], "2020-01-02", [1.1193, 1.1147]),
        [],
    ),
    "onvista.csv": (
        "Kurse\nStand: 3.2.2020\n\nDatum;Schluss;Volumen\n31.01.2020;1.234,50;1.000\n"
        "03.02.2020;1.240,25;2.000\n",
        {"timestamp_column": "Datum", "close_column": "Schluss", "volume_column": "Volumen"},
        ("onvista", ["close", "volume"], "2020-01-31", [1234.5, 1240.25]),
        ["separator is a semicolon", "2 lines above", "a comma stands before the fraction"],
    ),
    "swiss.csv": (
        "Date;Close\n2020-01-02;1'234.50\n2020-01-03;1\u2019240.25\n",
        {},
        ("swiss", ["close"], "2020-01-02", [1234.5, 1240.25]),
        ["`data.thousands=apostrophe` says so"],
    ),
    "french.csv": (
        "Date;Close\n2020-01-02;1 234,50\n2020-01-03;1\u00a0240,25\n",
        {},
        ("french", ["close"], "2020-01-02", [1234.5, 1240.25]),
        ["`data.decimal=comma` says so"],
    ),
    "indian.csv": (
        'Date,Close\n2020-01-02,"1,23,456.50"\n2020-01-03,"1,23,457.50"\n',
        {},
        ("indian", ["close"], "2020-01-02", [123456.5, 123457.5]),
        ["`data.thousands=comma` says so"],
    ),
    "excel.csv": (
        "sep=;\nDate;Close\n2020-01-02;1,5\n2020-01-03;2,5\n",
        {},
        ("excel", ["close"], "2020-01-02", [1.5, 2.5]),
        ["a comma stands before the fraction"],
    ),
    "r.csv": (
        '"Open","High","Low","Close"\n"2020-01-02",1,3,1,2\n"2020-01-03",1,3,1,3\n',
        {},
        ("r", ["open", "high", "low", "close"], "2020-01-02", [2, 3]),
        [],
    ),
    "remarks.csv": (
        "# prices of X\n# source: us, them\nDate,Close\n2020-01-02,2\n# a remark\n2020-01-03,3\n"
        "Total,5\n,\n",
        {},
        ("remarks", ["close"], "2020-01-02", [2, 3]),
        ["'# prices of X'", "1 line without values left out: '# a remark'", "not read: 'Total'"],
    ),
    "units.csv": (
        "#DATE,adj_close (USD),CLOSE (USD),Open\n2020-01-02,2,4,2\n2020-01-03,3,6,2\n",
        {},
        ("units", ["open", "close"], "2020-01-02", [2, 3]),
        ["not of 'CLOSE (USD)', and open are adjusted in the same ratio"],
    ),
}


NEW = {
    # exports of banks and vendors in other languages
    "ariva.csv": (
        "Datum;Erster;Hoch;Tief;Schlusskurs;Volumen\n2020-01-31;1;3;1;2;9\n2020-02-03;1;3;1;3;9\n",
        {},
        ("ariva", OHLCV, "2020-01-31", [2, 3]),
        ["timestamps are those of 'Datum'"],
    ),
    "de.csv": (
        '"Datum","Zuletzt","Er\u00f6ffn.","Hoch","Tief","Vol.","+/- %"\n'
        '"03.02.2020","1.240,25","1.234,50","1.250,00","990,00","12,5M","0,5%"\n'
        '"31.01.2020","1.234,50","1.230,00","1.240,00","980,00","10,5M","0,3%"\n',
        {},
        ("de", OHLCV, "2020-01-31", [1234.5, 1240.25]),
        ["closes are those of 'Zuletzt'"],
    ),
    "fr.csv": (
        "Date;Ouverture;Plus haut;Plus bas;Cl\u00f4ture;Volume\n31/01/2020;1;3;1;2;9\n"
        "03/02/2020;1;3;1;3;9\n",
        {},
        ("fr", OHLCV, "2020-01-31", [2, 3]),
        ["`data.timestamp_format=%d/%m/%Y`"],
    ),
    "es.csv": (
        "FECHA,APERTURA,MAXIMO,MINIMO,CIERRE,VOLUMEN\n2020-01-31,1,3,1,2,9\n2020-02-03,1,3,1,3,9\n",
        {},
        ("es", OHLCV, "2020-01-31", [2, 3]),
        ["timestamps are those of 'FECHA'"],
    ),
    "wig20_d.csv": (
        "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen\n2020-01-31,1,3,1,2,9\n"
        "2020-02-03,1,3,1,3,9\n",
        {},
        ("wig20_d", OHLCV, "2020-01-31", [2, 3]),
        ["timestamps are those of 'Data'"],
    ),
    "cn.csv": (
        "\u65e5\u671f,\u5f00\u76d8,\u6700\u9ad8,\u6700\u4f4e,\u6536\u76d8,\u6210\u4ea4\u91cf\n"
        "2020-01-31,1,3,1,2,9\n2020-02-03,1,3,1,3,9\n",
        {},
        ("cn", OHLCV, "2020-01-31", [2, 3]),
        [],
    ),
    "bloomberg.csv": (
        "Dates,PX_OPEN,PX_LAST\n2020-01-31,1,2\n2020-02-03,1,3\n",
        {},
        ("bloomberg", ["open", "close"], "2020-01-31", [2, 3]),
        ["timestamps are those of 'Dates'", "closes are those of 'PX_LAST'"],
    ),
    # R's write.table, with rows that are named or numbered
    "xts.txt": (
        '"Open" "Close"\n"2020-01-31" 1 2\n"2020-02-03" 1 3\n',
        {},
        ("xts", ["open", "close"], "2020-01-31", [2, 3]),
        ["the separator is a space (`data.separator=space` says so)"],
    ),
    "numbered.txt": (
        '"date" "A"\n"1" "2020-01-31" 2\n"2" "2020-02-03" 3\n',
        {},
        ("A", ["close"], "2020-01-31", [2, 3]),
        ["the separator is a space"],
    ),
    "named.csv": (
        "A,B\n2020-01-31,2,5\n2020-02-03,3,6\n",
        {"symbols": ["A"]},
        ("A", ["close"], "2020-01-31", [2, 3]),
        [],
    ),
    # CRSP marks prices of days without a trade by a minus sign
    "crsp.csv": (
        "date,PRC,RET,SHROUT\n20200131,2,0.1,9\n20200203,-3,0.1,9\n20200204,4,C,9\n",
        {"close_column": "PRC"},
        ("crsp", ["close"], "2020-01-31", [2, 3, 4]),
        ["negative values of 'PRC' (1) are averages of bid and ask, as CRSP marks them"],
    ),
}
FILES |= NEW


def written(tmp_path, name, content):
    file = tmp_path / name
    if isinstance(content, str):
        content = content.encode()
    file.write_bytes(content)
    return str(file)


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_it_is_written_is_read_and_what_was_guessed_is_said(tmp_path, name, caplog):
    content, options, (symbol, fields, first, closes), said = FILES[name]
    panel = load_panel(Csv(path=written(tmp_path, name, content), **options))
    assert panel.symbols == (symbol,)
    assert list(panel.fields) == fields
    assert panel.index[0] == pd.Timestamp(first)
    assert panel.close[symbol].tolist() == closes
    for text in said:
        assert text in caplog.text
    if not said:
        assert "says so" not in caplog.text


@pytest.mark.parametrize(
    "name", ["metatrader.csv", "onvista.csv", "futures.csv", "investing.csv", "nasdaq.csv"]
)
def test_a_guess_that_is_said_in_the_configuration_is_no_guess_any_more(tmp_path, name, caplog):
    content, options, _, _ = FILES[name]
    guessed = load_panel(Csv(path=written(tmp_path, name, content), **options))
    keys = {
        "metatrader.csv": {"separator": "tab"},
        "onvista.csv": {
            "separator": "semicolon",
            "decimal": "comma",
            "thousands": "point",
            "timestamp_format": "%d.%m.%Y",
        },
        "futures.csv": {"timestamp_format": "ms", "timestamp_column": "open_time"},
        "investing.csv": {"thousands": "comma", "timestamp_format": "%m/%d/%Y"},
        "nasdaq.csv": {"timestamp_format": "%m/%d/%Y"},
    }[name]
    caplog.clear()
    said = load_panel(Csv(path=str(tmp_path / name), **options, **keys))
    assert said == guessed
    assert "says so" not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'Date,Close\n2020-01-02,"1,234"\n2020-01-03,"1,235"\n',
            "'1,234' may be 1.234 or 1234: `data.thousands=comma` reads 1234, "
            "`data.thousands=point` reads 1.234",
        ),
        (
            "Date;Close\n2020-01-02;1.234\n2020-01-03;1.235\n",
            "'1.234' may be 1.234 or 1234: `data.thousands=point` reads 1234, "
            "`data.thousands=none` reads 1.234",
        ),
        (
            'Date,A,B\n2020-01-02,"1,5",1.5\n2020-01-03,"1,6",1.6\n',
            "'1.5' has a point before its fraction, and '1,5' a comma",
        ),
        ("Date,A\n2020-01-02,$1.5\n2020-01-03,\u20ac1.6\n", "mixes the currencies $ and \u20ac"),
        ("Date,A\n2020-01-02,1.5%\n2020-01-03,1.6\n", "some values of the column are percent"),
        (
            "2020.01.02,00:00,1.1,1.2,1.0,1.15,10\n2020.01.03,00:00,1.1,1.2,1.0,1.15,10\n",
            "`'data.columns=[date,time,open,high,low,close,volume]'`",
        ),
        (
            "KEY,TIME_PERIOD,OBS_VALUE\nEXR,2020-01-02,1.1\nEXR,2020-01-03,1.2\n",
            "`data.symbol_column=KEY` reads symbols from it",
        ),
        ("Date,A\n2020-01-02,1\n2020-01-03,2\n2020-01", "Expected 2 columns, got 1"),
        (
            "Date  Close\n2020-01-02  1\n",
            "`data.separator=space` takes it apart at spaces, however many",
        ),
        ("Date Close\n2020-01-02 1\n", "`data.separator=space` takes it apart"),
        (
            "Date,PRC,Other\n2020-01-02,1.5,2\n2020-01-03,-1.5,2\n",
            "PRC has a close of -1.5 at 2020-01-03",
        ),
        (
            "Date,Volumen,Stand\n2020-01-02,1.5,2\n2020-01-03,1.5,2\n",
            "the column 'Volumen' is no price by its name, but stands among closes: "
            "`'data.exclude=[Volumen]'` leaves it out, `data.close_column=null` takes each column "
            "as an asset's closes, `data.close_column` names the closes of one asset",
        ),
        (
            "Datum;Stuecke;Volumen;Schlusskurs\n2020-01-02;1;2;3\n2020-01-03;1;2;3\n",
            "`data.volume_column=Stuecke` or `data.volume_column=Volumen` chooses one",
        ),
        (b"\x80\x04\x95" + bytes(50), "is a Python pickle; write the table as Parquet"),
        ("v,vw,o,c,h,l,t,n\n1,1,1,1,1,1,1577836800000,1\n", "`data.close_column=c` reads the"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_the_key_that_decides(
    tmp_path, content, message
):
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=written(tmp_path, "a.csv", content)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("thousands", "first"), [("comma", 1234), ("point", 1.234), (",", 1234), (".", 1.234)]
)
def test_thousands_that_are_said(tmp_path, thousands, first):
    path = written(tmp_path, "a.csv", 'Date,X\n2020-01-02,"1,234"\n2020-01-03,"1,235"\n')
    assert load_panel(Csv(path=path, thousands=thousands)).close["X"].iloc[0] == first
    path = written(tmp_path, "b.csv", "Date;X\n2020-01-02;1.234\n2020-01-03;1.235\n")
    for thousands, first in (("none", 1.234), ("point", 1234)):
        assert load_panel(Csv(path=path, thousands=thousands)).close["X"].iloc[0] == first


@pytest.mark.parametrize("separator", ["tab", "semicolon", ","])
def test_the_decimal_comma_of_a_column_that_is_not_read_counts(tmp_path, separator):
    sign = {"tab": "\t"}.get(separator, ";")
    lines = ["Date,A,B", "2020-01-02,1.234,1;5", "2020-01-03,1.235,1;6", ""]
    content = "\n".join(line.replace(",", sign).replace("1;", "1,") for line in lines)
    content = content.replace(f"1{sign}5", "1,5").replace(f"1{sign}6", "1,6")
    source = {"path": written(tmp_path, "a.csv", content), "separator": separator}
    assert load_panel(Csv(**source)).close["A"].tolist() == [1234, 1235]
    with pytest.raises(DataError, match=r"`data\.thousands=point` reads 1234"):
        load_panel(Csv(**source, symbols=["A"]))
    there = load_panel(Csv(**source, symbols=["A"], decimal="comma"))
    assert there.close["A"].tolist() == [1234, 1235]


def test_a_decimal_comma_that_is_said_needs_no_separator(tmp_path, caplog):
    for content in (
        "Date;X\n2020-01-02;1,234\n2020-01-03;1,235\n",
        'Date,X\n2020-01-02,"1,234"\n2020-01-03,"1,235"\n',
    ):
        path = written(tmp_path, "a.csv", content)
        assert load_panel(Csv(path=path, decimal="comma")).close["X"].tolist() == [1.234, 1.235]
        assert "comma stands before" not in caplog.text


def test_percent_are_fractions_and_brackets_are_minus_signs(tmp_path, caplog):
    from backtest_batch.core.data.number_text import Cells, floats

    pa = pytest.importorskip("pyarrow")
    cells = Cells(stamps=pd.DatetimeIndex(["2020-01-02"] * 3).asi8, tz=None, file="a.csv")
    column = pa.chunked_array([["12.5%", "-3%", ""]])
    assert floats(column, "A", cells).tolist()[:2] == [0.125, -0.03]
    column = pa.chunked_array([["(1.5)", "$2", "\u22122"]])
    assert floats(column, "A", cells).tolist() == [-1.5, 2, -2]


def test_many_files_with_one_guess_give_one_note(tmp_path, caplog):
    for number in range(5):
        name = f"s{number}.csv"
        written(tmp_path, name, f"Date;Close\n31.01.2020;{number + 1},5\n03.02.2020;{number},75\n")
    load_panel(Csv(path=str(tmp_path)))
    notes = [record.message for record in caplog.records if "says so" in record.message]
    assert len(notes) == 2
    assert all(note.startswith("s0.csv and 4 more files: ") for note in notes)


def test_columns_that_are_named(tmp_path, caplog):
    rows = "2020-01-02;1,5;9\n2020-01-03;2,5;9\n"
    names = ["date", "close", "volume"]
    source = Csv(path=written(tmp_path, "KO.csv", rows), columns=names)
    panel = load_panel(source)
    assert panel.close["KO"].tolist() == [1.5, 2.5]
    assert "passed over" not in caplog.text
    written(tmp_path, "KO.csv", "Datum;Schluss;Umsatz\n" + rows)
    assert load_panel(source) == panel
    assert "the first line is passed over, as `data.columns` names the columns" in caplog.text
    with pytest.raises(DataError, match=r"`data\.columns` names 2 columns, but the lines have 3"):
        load_panel(Csv(path=source.path, columns=names[:2]))


def test_klines_in_milliseconds_and_microseconds_are_one_series(tmp_path):
    written(tmp_path, "BTCUSDT.csv", klines(1735344000, 1000))
    (tmp_path / "2025").mkdir()
    written(tmp_path / "2025", "BTCUSDT.csv", klines(1735603200, 10**6))
    paths = [str(tmp_path / "BTCUSDT.csv"), str(tmp_path / "2025" / "BTCUSDT.csv")]
    index = load_panel(Csv(path=paths)).index
    assert list(index) == list(pd.date_range("2024-12-28", periods=6, tz="UTC"))


# encodings and lines


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "windows-1252"])
def test_encodings(tmp_path, encoding, caplog):
    content = "date,M\u00fcnch\n2020-01-02,1.5\n2020-01-03,2.5\n".encode(encoding)
    path = written(tmp_path, "a.csv", content)
    assert load_panel(Csv(path=path)).symbols == ("M\u00fcnch",)
    assert ("the text is read as" in caplog.text) == (encoding != "utf-8-sig")
    caplog.clear()
    assert load_panel(Csv(path=path, encoding=encoding)).symbols == ("M\u00fcnch",)
    assert "the text is read as" not in caplog.text


JAPANESE = "\u65e5\u4ed8,\u59cb\u5024,\u7d42\u5024"
CHINESE = "\u65e5\u671f,\u5f00\u76d8,\u6536\u76d8"


@pytest.mark.parametrize(
    ("names", "encoding", "said"),
    [
        (JAPANESE, "shift_jis", "the text is neither UTF-8 nor Windows-1252 (byte 0x"),
        (CHINESE, "gb18030", "the text is not UTF-8, and its first names are"),
    ],
)
def test_an_encoding_that_is_not_told_is_named_with_what_others_read(
    tmp_path, names, encoding, said
):
    content = f"{names}\n2020-01-02,1,1.5\n2020-01-03,1,2.5\n".encode(encoding)
    path = written(tmp_path, "a.csv", content)
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert said in str(caught.value)
    assert f"`data.encoding` names its encoding; {encoding} reads '{names}'" in str(caught.value)
    assert load_panel(Csv(path=path, encoding=encoding)).close["a"].tolist() == [1.5, 2.5]
    with pytest.raises(DataError, match=r"it is not utf-8 \(byte .*`data\.encoding` names another"):
        load_panel(Csv(path=path, encoding="utf-8"))


def test_an_encoding_that_is_not_told_and_shows_in_the_last_row(tmp_path):
    days = pd.bdate_range("1980-01-01", periods=5_000)
    rows = [f"{day.date()},A,1.5" for day in days] + [f"{day.date()},\u65e5,1.5" for day in days]
    content = (
        "\n".join(["date,symbol,close", *rows, ""])
        .encode("shift_jis")
        .replace("\u65e5".encode("shift_jis"), b"\x8d\x9d")
    )
    with pytest.raises(DataError, match="neither UTF-8 nor Windows-1252"):
        load_panel(Csv(path=written(tmp_path, "a.csv", content)))


def test_a_price_of_0_is_none_in_crsp(tmp_path, caplog):
    rows = ["10107,20200131,0,0.1", "10107,20200203,-3,0.1", "10107,20200204,4,0.1"]
    path = written(tmp_path, "a.csv", "\n".join(["PERMNO,date,PRC,RET", *rows, ""]))
    panel = load_panel(Csv(path=path, symbol_column="PERMNO", close_column="PRC"))
    assert panel.close["10107"].tolist() == [3, 4]
    assert "values of 'PRC' that are 0 (1) are missing, as CRSP writes them" in caplog.text


def test_an_encoding_that_shows_in_the_last_row(tmp_path):
    rows = [f"2020-01-{day:02d},A,{day}.5" for day in range(1, 29)] * 40
    days = pd.bdate_range("1980-01-01", periods=5_000)
    rows = [f"{day.date()},A,1.5" for day in days] + [f"{day.date()},\u00dc,1.5" for day in days]
    content = "\n".join(["date,symbol,close", *rows, ""]).encode("windows-1252")
    assert load_panel(Csv(path=written(tmp_path, "a.csv", content))).symbols == ("A", "\u00dc")


def test_rows_of_separators_below_the_table_are_no_bars(tmp_path):
    rows = ["2020-01-02,1.5", "2020-01-03,2.5", "Source: us,", *[","] * 2_000, ""]
    path = written(tmp_path, "a.csv", "\n".join(["Date,Close", *rows]))
    assert load_panel(Csv(path=path)).n_bars == 2
    path = written(tmp_path, "a.csv", "Date,Close\n2020-01-02,1.5\n2020-01-03,2.5\n,3.5\n")
    with pytest.raises(DataError, match="unparseable timestamp '' in data row 3"):
        load_panel(Csv(path=path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(tmp_path, end):
    content = end.join(["date,A", "2020-01-02,1.5", "2020-01-03,2.5", "", ""])
    assert load_panel(Csv(path=written(tmp_path, "a.csv", content))).n_bars == 2


def test_what_is_said_of_a_csv_file_must_be_possible(tmp_path):
    for key, value in (("thousands", ",,"), ("encoding", "utf-99"), ("columns", ["a"])):
        with pytest.raises(ValueError, match=f"`{key}` must"):
            Csv(path="a.csv", **{key: value})
    with pytest.raises(ValueError, match="`thousands` and `decimal` must differ"):
        Csv(path="a.csv", separator="tab", decimal="comma", thousands="comma")


def test_a_minus_is_no_mark_where_prices_may_be_negative(tmp_path, caplog):
    text = "date,symbol,PRC,RET\n20200102,CL,18.2,0.1\n20200103,CL,-37.6,-3\n20200106,CL,10,0.1\n"
    path = written(tmp_path, "a.csv", text)
    source = Csv(path=path, close_column="PRC", kind="differences", notional=100)
    moves = np.diff(load_panel(source).fields["close"][:, 0])
    assert moves[0] < 0.0 < moves[1]
    assert "averages of bid and ask" not in caplog.text


def test_a_frame_with_the_columns_of_crsp_is_read_as_its_files_are(caplog):
    days = pd.bdate_range("2020-01-01", periods=3)
    frame = pd.DataFrame({"PRC": [10.0, -10.5, 0.0], "RET": [0.01, 0.05, 0.04]}, index=days)
    panel = panel_from_frames(frame.iloc[:2], close_column="PRC")
    np.testing.assert_array_equal(panel.fields["close"][:, 0], [10.0, 10.5])
    assert "as CRSP marks them" in caplog.text


@pytest.mark.parametrize(
    ("numbers", "way"),
    [
        ([20200101, 20200102], "format='%Y%m%d'"),
        ([202001010930, 202001010931], "format='%Y%m%d%H%M'"),
        ([1577836800, 1577923200], "unit='s'"),
    ],
)
def test_an_index_of_whole_numbers_is_refused_with_the_call_that_reads_it(numbers, way):
    frame = pd.DataFrame({"A": [1.0, 2.0]}, index=numbers)
    with pytest.raises(DataError, match=re.escape(f"pd.to_datetime(frame.index, {way}) makes")):
        panel_from_frames(frame)


@pytest.mark.parametrize(
    "remark",
    [
        "Source: Bloomberg, 2020",
        '"Source: Bloomberg, 2020"',
        "Source: Bloomberg, 2020, a, b",
        "Downloaded from a terminal, by me",
        "* prices adjusted, by me",
        "Copyright 2020, A Library, Inc., all rights",
    ],
)
@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_remark_below_the_rows_may_have_any_number_of_commas(tmp_path, remark, gap, caplog):
    text = f"date,A,B\n2020-01-02,1,2\n2020-01-03,1.5,2\n{gap}{remark}\n"
    panel = load_panel(Csv(path=written(tmp_path, "a.csv", text)))
    np.testing.assert_array_equal(panel.fields["close"], [[1.0, 2.0], [1.5, 2.0]])
    assert "left out" in caplog.text


def test_a_line_with_other_fields_is_refused_with_the_way_out(tmp_path):
    path = written(tmp_path, "a.csv", "date,A,B\n2020-01-02,1,2\n2020-01-03,1.5\n2020-01-06,1,2\n")
    with pytest.raises(DataError, match=r"Expected 3 columns, got 2.*completed, or taken out"):
        load_panel(Csv(path=path))


@pytest.mark.parametrize(
    "names",
    [
        "Data,Ostatnio,Otwarcie,Max.,Min.,Wol.,Zmiana%",
        "Data,Ostatnio,Otwarcie,Max.,Min.,Wol.,Zmiana %",
    ],
)
def test_columns_named_in_polish_are_one_asset(tmp_path, names):
    rows = [f"0{day}.01.2020,{day + 1},2,{day + 2},1,100,0.5%" for day in range(1, 4)]
    panel = load_panel(Csv(path=written(tmp_path, "a.csv", "\n".join([names, *rows, ""]))))
    assert set(panel.fields) == set(OHLCV)
    np.testing.assert_array_equal(panel.fields["close"][:, 0], [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(panel.fields["high"][:, 0], [3.0, 4.0, 5.0])


def test_price_and_return_of_crsp_are_one_asset(tmp_path, caplog):
    text = "date,PRC,RET\n20200102,10,C\n20200103,-10.5,0.05\n20200106,11,0.047\n"
    panel = load_panel(Csv(path=written(tmp_path, "a.csv", text)))
    assert panel.symbols == ("a",)
    np.testing.assert_array_equal(panel.fields["close"][:, 0], [10.0, 10.5, 11.0])
    assert "closes are those of 'PRC'" in caplog.text


def test_tickers_that_crsp_uses_as_names_stay_tickers_beside_others(tmp_path):
    text = "date,AAPL,PRC,RET\n20200102,10,5,6\n20200103,10.5,5,6\n"
    assert load_panel(Csv(path=written(tmp_path, "a.csv", text))).symbols == ("AAPL", "PRC", "RET")


def test_letters_among_returns_of_crsp_are_missing(tmp_path, caplog):
    text = (
        "PERMNO,date,PRC,RET\n1,20200102,10,C\n1,20200103,-10.5,0.05\n1,20200106,11,B\n"
        "1,20200107,11,0.01\n"
    )
    path = written(tmp_path, "a.csv", text)
    source = Csv(path=path, symbol_column="PERMNO", values="returns", missing="ffill")
    close = load_panel(source).fields["close"][:, 0]
    np.testing.assert_allclose(close[-1] / close[0], 1.05 * 1.01)
    assert "letters in 'RET' (2) are returns that are missing" in caplog.text


def test_an_index_of_periods_is_refused_with_the_call_that_reads_it():
    frame = pd.DataFrame({"A": [1.0, 2.0]}, index=pd.period_range("2020-01", periods=2, freq="M"))
    with pytest.raises(DataError, match=r"frame\.index\.to_timestamp\(\) makes one"):
        panel_from_frames(frame)
