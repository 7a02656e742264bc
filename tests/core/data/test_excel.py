"""Prices in workbooks."""

import datetime as dt
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Excel, Parquet
from backtest_batch.errors import DataError, DataNotFoundError

DAYS = [dt.datetime(2020, 1, day) for day in (2, 3, 6)]
BARS = [["Date", "Open", "Close", "Volume"]] + [
    [day, 1.5, 2.5 + number, 100] for number, day in enumerate(DAYS)
]


def book(tmp_path, name="KO.xlsx", **sheets):
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made.save(tmp_path / name)
    return str(tmp_path / name)


def test_a_workbook_is_the_panel_of_the_same_table_in_csv(tmp_path, caplog):
    path = book(tmp_path, Prices=BARS)
    panel = load_panel(Excel(path=path))
    assert panel.symbols == ("KO",)
    assert list(panel.fields) == ["open", "close", "volume"]
    pd.DataFrame(BARS[1:], columns=BARS[0]).to_csv(tmp_path / "KO.csv", index=False)
    assert load_panel(Csv(path=str(tmp_path / "KO.csv"))) == panel
    assert "KO.xlsx" not in caplog.text


def test_titles_above_and_sums_below_a_table_are_left_out_and_said(tmp_path, caplog):
    rows = [["Prices of KO"], [], ["Source: us"], *BARS, ["Total", None, 9, None], [None, None]]
    panel = load_panel(Excel(path=book(tmp_path, Prices=rows)))
    assert panel.n_bars == 3
    assert "2 rows above the names of the columns left out: 'Prices of KO'" in caplog.text
    assert "the last row is not read: 'Total'" in caplog.text


def test_sheets_are_chosen_by_name_or_number_and_never_guessed(tmp_path):
    path = book(tmp_path, Notes=[["see", "there"], ["a", "b"]], Prices=BARS, Empty=[])
    with pytest.raises(DataError) as caught:
        load_panel(Excel(path=path))
    assert str(caught.value) == (
        f"{path} has 2 sheets that differ, 1 (Notes), 2 (Prices): `data.sheet=Notes`, say, reads "
        "one of them"
    )
    for sheet in ("Prices", "prices", 2, "2"):
        assert load_panel(Excel(path=path, sheet=sheet)).n_bars == 3
    with pytest.raises(DataError, match=r"has no sheet 7, as `data\.sheet` says; it has 1 \(Notes"):
        load_panel(Excel(path=path, sheet=7))
    with pytest.raises(DataError, match="the sheet 'Notes' has no row that names columns above"):
        load_panel(Excel(path=path, sheet="Notes"))


def test_sheets_that_are_alike_are_one_symbol_each_and_that_is_said(tmp_path, caplog):
    panel = load_panel(Excel(path=book(tmp_path, KO=BARS, PEP=BARS)))
    assert panel.symbols == ("KO", "PEP")
    assert "KO.xlsx: all sheets are read (`data.sheet` names one)" in caplog.text


@pytest.mark.parametrize(
    ("rows", "first", "closes"),
    [
        ([["31.01.2020", "1.234,50"], ["03.02.2020", "1.240,50"]], "2020-01-31", [1234.5, 1240.5]),
        ([[43861, 1.5], [43864, "2.5"]], "2020-01-31", [1.5, 2.5]),
        ([["2020-01-31", 1.5], [DAYS[0].replace(month=2), 2.5]], "2020-01-31", [1.5, 2.5]),
        ([[dt.date(2020, 1, 31), 1], [dt.date(2020, 2, 3), 2]], "2020-01-31", [1, 2]),
    ],
)
def test_cells_of_any_type(tmp_path, rows, first, closes):
    panel = load_panel(Excel(path=book(tmp_path, Prices=[["Date", "Close"], *rows])))
    assert panel.index[0] == pd.Timestamp(first)
    assert panel.close["KO"].tolist() == closes


def test_times_of_day(tmp_path):
    half_past_nine = dt.timedelta(hours=9, minutes=30)
    stamps = [DAYS[0] + half_past_nine + dt.timedelta(minutes=5 * n) for n in range(40)]
    one = book(tmp_path, P=[["Date", "Close"], *[[stamp, 1.5] for stamp in stamps]])
    index = load_panel(Excel(path=one, freq="5min")).index
    assert list(index) == stamps
    rows = [[DAYS[0], stamp.time(), 1.5] for stamp in stamps]
    two = book(tmp_path, "two.xlsx", P=[["Date", "Time", "Close"], *rows])
    assert list(load_panel(Excel(path=two, freq="5min")).index) == stamps


def test_cells_that_are_errors_or_empty_are_missing_values(tmp_path):
    rows = [["Date", "A", "B"], [DAYS[0], 1.5, "#N/A"], [DAYS[1], 2.5, 1.0], [DAYS[2], 3.5, 2.0]]
    close = load_panel(Excel(path=book(tmp_path, P=rows))).close
    assert np.isnan(close["B"].iloc[0])
    rows[2][1] = True
    with pytest.raises(DataError, match="column 'A' holds 'True' at 2020-01-03"):
        load_panel(Excel(path=book(tmp_path, P=rows)))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[DAYS[0], "=1+1"], [DAYS[1], "=B2+1"]], "'Close' on the sheet 'P & Q' has formulas"),
        (
            [[DAYS[0], 1.5], [DAYS[1], "=B2+1"]],
            "without a value in 1 of 2 rows, the first in row 3",
        ),
        ([[DAYS[0], 1.5], ["=A2+1", 2.5]], "'Date' on the sheet"),
        ([["=DATE(2020;1;2)", "=1+1"], ["=A2+1", "=B2+1"]], "4 formulas without a value"),
    ],
)
def test_formulas_that_no_program_has_calculated_are_refused(tmp_path, rows, said):
    path = book(tmp_path, **{"P & Q": [["Date", "Close"], *rows]})
    with pytest.raises(DataError) as caught:
        load_panel(Excel(path=path, missing="ffill"))
    assert said in str(caught.value)
    assert "Open the workbook in a spreadsheet program and save it once" in str(caught.value)


def test_formulas_beside_what_is_read_do_not_matter(tmp_path):
    made = openpyxl.Workbook()
    for row in [
        [],
        ["", "", "Date", "Close", "Calc"],
        *(["", "", day, 1.5, "=D3"] for day in DAYS),
    ]:
        made.active.append(row)
    made.save(tmp_path / "KO.xlsx")
    assert load_panel(Excel(path=str(tmp_path / "KO.xlsx"))).n_bars == 3
    made.active.cell(4, 4, "=D3*2")
    made.save(tmp_path / "KO.xlsx")
    with pytest.raises(DataError, match="in 1 of 3 rows, the first in row 4"):
        load_panel(Excel(path=str(tmp_path / "KO.xlsx")))


def test_what_pandas_writes_with_two_levels_of_names(tmp_path):
    labels = pd.MultiIndex.from_product([["Close", "Volume"], ["AA", "BB"]], names=["Price", "T"])
    values = np.arange(12.0).reshape(3, 4) + 1
    frame = pd.DataFrame(values, pd.DatetimeIndex(DAYS, name="Date"), labels)
    frame.to_excel(tmp_path / "yf.xlsx")
    panel = load_panel(Excel(path=str(tmp_path / "yf.xlsx")))
    assert panel.symbols == ("AA", "BB")
    assert list(panel.fields) == ["close", "volume"]
    frame["Close"].to_excel(tmp_path / "wide.xlsx")
    wide = load_panel(Excel(path=str(tmp_path / "wide.xlsx")))
    pd.testing.assert_frame_equal(wide.close, panel.close)


def test_a_folder_of_workbooks(tmp_path):
    for symbol in ("KO", "PEP"):
        book(tmp_path, f"{symbol}.xlsx", P=BARS)
    (tmp_path / "~$KO.xlsx").write_bytes(b"open elsewhere")
    (tmp_path / "README.md").write_text("prices")
    assert load_panel(Excel(path=str(tmp_path))).symbols == ("KO", "PEP")


def test_files_that_are_no_workbooks(tmp_path):
    path = book(tmp_path, P=BARS)
    for kind in (Csv, Parquet):
        with pytest.raises(DataError, match=r"is an Excel workbook \(\.xlsx\); `data=excel` reads"):
            load_panel(kind(path=path))
    (tmp_path / "a.csv").write_text("date,A\n2020-01-01,1\n")
    with pytest.raises(DataError, match=r"cannot be read as a workbook: .*; `data=csv` reads CSV"):
        load_panel(Excel(path=str(tmp_path / "a.csv")))
    content = (tmp_path / "KO.xlsx").read_bytes()
    (tmp_path / "cut.xlsx").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.xlsx cannot be read as a workbook"):
        load_panel(Excel(path=str(tmp_path / "cut.xlsx")))
    with pytest.raises(DataError, match=r"empty\.xlsx holds no cells"):
        load_panel(Excel(path=book(tmp_path, "empty.xlsx", P=[])))


def test_cells_that_stand_far_away(tmp_path):
    made = openpyxl.Workbook()
    for row in BARS:
        made.active.append(row)
    made.active.cell(5_000, 9, "stray")
    made.save(tmp_path / "KO.xlsx")
    assert load_panel(Excel(path=str(tmp_path / "KO.xlsx"))).n_bars == 3
    made.active.cell(1_048_576, 16_384, "lost")
    made.save(tmp_path / "far.xlsx")
    with pytest.raises(DataError, match="a sheet reaches to XFD1048576, which is 1,048,576 rows"):
        load_panel(Excel(path=str(tmp_path / "far.xlsx")))


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    path = book(tmp_path, P=BARS)
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'backtest-batch\[excel\]'"):
        load_panel(Excel(path=path))


@pytest.mark.parametrize("title", [[], [["Annual"]]])
@pytest.mark.parametrize("later", [[2019, 2020], [201901, 201902]])
def test_of_two_tables_in_a_sheet_the_first_is_read_and_that_is_said(
    tmp_path, title, later, caplog
):
    names = ["date", "A", "B"]
    rows = [[201901 + n, 0.5 + n, 2.0 - n] for n in range(6)]
    below = [[each, 5.0, -6.0] for each in later]
    path = book(tmp_path, prices=[names, *rows, [], *title, names, *below])
    panel = load_panel(Excel(path=path, values="returns", returns_unit="percent"))
    assert panel.n_bars == 7
    made = panel.close["A"].pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made, [(0.5 + n) / 100 for n in range(6)])
    assert f"another, with names in row {9 + len(title)}, is left out" in caplog.text


def test_a_table_in_a_sheet_that_goes_on_below_its_names_is_refused(tmp_path):
    names = ["date", "A"]
    rows = [[dt.datetime(2020, 1, day), 1.0 + day] for day in range(1, 9)]
    path = book(tmp_path, prices=[names, *rows[:4], [], names, *rows[4:]])
    with pytest.raises(DataError, match="unparseable timestamp"):
        load_panel(Excel(path=path))
