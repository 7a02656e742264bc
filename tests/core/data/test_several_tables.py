"""Files with several tables one below the other, as French's data library has them."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.benchmark import find_benchmark
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.core.factors import find_factors
from backtest_batch.errors import DataError

MONTHS = pd.period_range("1995-01", periods=48, freq="M")
DAYS = pd.period_range("1995-01-02", periods=48, freq="B")

REMARKS = [
    "This file was created by CMPT_OF_MINE using the 199912 database. It holds, as do others,",
    "The 1-month TBill return is from X and Associates, Inc.",
    "",
    "Missing data are indicated by -99.99 or -999.",
    "",
]
"""Two lines with one comma or two: fields as many as those of a table may have."""

KINDS = {
    "3 factors": (MONTHS, ["Mkt-RF", "SMB", "HML", "RF"], "", "Annual Factors: January-December "),
    "5 factors": (
        *(MONTHS, ["Mkt-RF", "SMB", "HML", "RMW", "CMA", "RF"], ""),
        " Annual Factors: January-December ",
    ),
    "momentum": (MONTHS, ["Mom   "], "", "Annual Factors:"),
    "days": (DAYS, ["Mkt-RF", "SMB", "HML", "RF"], "", None),
    "days of one factor": (DAYS, ["Mom"], "", None),
    "industries": (
        *(MONTHS, ["Cnsmr", "Manuf", "HiTec", "Hlth ", "Other"]),
        *(
            "  Average Value Weighted Returns -- Monthly",
            "  Average Equal Weighted Returns -- Monthly",
        ),
    ),
}


def returns(kind):
    rows, columns = KINDS[kind][:2]
    size = 4 if rows is MONTHS else 1
    return np.random.default_rng(0).normal(0.3, size, (len(rows), len(columns))).round(2)


def written(kind, *, missing=()):
    rows, columns, title, other = KINDS[kind]
    values = [[f"{value:8.2f}" for value in row] for row in returns(kind)]
    for row, column, code in missing:
        values[row][column] = code
    form = "%Y%m" if rows is MONTHS else "%Y%m%d"
    names = "," + ",".join(columns)
    table = [f"{day:{form}},{','.join(row)}" for day, row in zip(rows, values, strict=True)]
    lines = [*REMARKS, *([title] if title else []), names, *table, ""]
    if other is not None:
        years = [f"  {year},{',,'.join([' 10.00'] * len(columns))}" for year in range(1995, 1999)]
        years = [line.replace(",,", ",") for line in years]
        if "Monthly" in other:
            lines += [
                other,
                names,
                *table,
                "",
                "  Number of Firms in Portfolios",
                names,
                *table,
                "",
            ]
        lines += [" Annual Returns" if "Monthly" in other else other, names, *years, ""]
    return "\r\n".join([*lines, "Copyright 1999 A Data Library", ""])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def market(kind):
    rows = KINDS[kind][0]
    before = rows[:1].shift(-1).append(rows)
    index = before.to_timestamp(how="end").normalize()
    walk = np.random.default_rng(1).normal(0, 0.02, (len(index), 2)).cumsum(axis=0)
    return panel_from_frames(pd.DataFrame(np.exp(walk), index=index, columns=["A", "B"]))


@pytest.mark.parametrize("kind", KINDS)
def test_factors_are_those_of_the_first_table_as_it_was_downloaded(here, kind):
    (here / "factors.CSV").write_text(written(kind))
    found = find_factors("factors.CSV", market(kind))
    names = [name.strip() for name in KINDS[kind][1]]
    kept = [column for column, name in enumerate(names) if name != "RF"]
    assert found.factors.names == tuple(names[column] for column in kept)
    np.testing.assert_allclose(found.returns[1:], returns(kind)[:, kept] / 100, rtol=1e-12)
    said = "\n".join(found.notes)
    assert "the returns are read as percent" in said
    assert ("tables the first" in said) == (KINDS[kind][3] is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_portfolios_of_such_a_file_are_traded(here, caplog, kind):
    (here / "portfolios.csv").write_text(written(kind))
    panel = load_panel(Csv(path="portfolios.csv", values="returns"))
    assert panel.symbols == tuple(name.strip() for name in KINDS[kind][1])
    made = panel.close.pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made.to_numpy(), returns(kind) / 100, atol=1e-12)
    assert "read as percent" in caplog.text


def test_what_is_left_out_is_said_with_its_title_and_line(here, caplog):
    text = written("industries")
    (here / "x.csv").write_text(text)
    load_panel(Csv(path="x.csv", values="returns"))
    line = text.splitlines().index("  Average Equal Weighted Returns -- Monthly") + 1
    assert (
        "of 4 tables the first ('Average Value Weighted Returns -- Monthly') is read; the one that "
        f"begins in line {line} ('Average Equal Weighted Returns -- Monthly') and 2 more are left "
        "out"
    ) in caplog.text


def test_a_packed_file_is_read_as_it_was_downloaded(here):
    with zipfile.ZipFile("F-F_Research_Data_Factors_CSV.zip", "w") as archive:
        archive.writestr("F-F_Research_Data_Factors.CSV", written("3 factors"))
    found = find_factors("F-F_Research_Data_Factors_CSV.zip", market("3 factors"))
    np.testing.assert_allclose(found.returns[1:], returns("3 factors")[:, :3] / 100, rtol=1e-12)


def test_codes_of_missing_values_are_said_wherever_the_file_is_read(here, caplog):
    text = written("3 factors", missing=[(0, 2, " -99.99"), (5, 1, "   -999")])
    (here / "x.csv").write_text(text)
    found = find_factors("x.csv", market("3 factors"))
    assert "x.csv: 2 returns of -99.99 or -999 are read as missing values" in found.notes
    assert np.isnan(found.returns[1, 2])
    assert np.isnan(found.returns[6, 1])
    load_panel(Csv(path="x.csv", values="returns", missing="ffill"))
    assert "2 returns of -99.99 or -999 are read as missing values" in caplog.text


def test_a_code_in_a_benchmark_is_no_return(here):
    (here / "x.csv").write_text("date,X\n1995-01-31,1.5\n1995-02-28,-99.99\n1995-03-31,-2.5\n")
    given = {"file": "x.csv", "values": "returns", "unit": "percent"}
    found = find_benchmark(given, market("3 factors"))
    np.testing.assert_allclose(found.returns[1:4], [0.015, 0, -0.025])
    assert "x.csv: 1 return of -99.99 or -999 is read as a missing value" in found.notes


def test_a_name_that_says_percent_counts_for_a_benchmark_too(here):
    rows = "".join(f"{day},{number % 3 - 1}e-2\n" for number, day in enumerate(DAYS))
    (here / "x.csv").write_text(f"date,Return %\n{rows}")
    found = find_benchmark("./x.csv", market("days"), values="returns")
    np.testing.assert_allclose(found.returns[1:4], [-0.0001, 0, 0.0001])
    assert any("as 'Return %' says" in note for note in found.notes)


def test_percent_signs_of_factors_and_benchmarks_say_the_unit(here):
    values = returns("days of one factor")[:, 0]
    rows = "".join(f"{day},{value:.2f}%\n" for day, value in zip(DAYS, values, strict=True))
    (here / "x.csv").write_text(f"date,X\n{rows}")
    expected = returns("days of one factor") / 100
    for given in ("x.csv", {"file": "x.csv", "unit": "percent"}):
        found = find_factors(given, market("days"))
        np.testing.assert_allclose(found.returns[1:], expected, rtol=1e-12)
        compared = find_benchmark(given, market("days"), values="returns")
        np.testing.assert_allclose(compared.returns[1:], expected[:, 0], rtol=1e-12)


def test_tables_of_other_columns_are_told_from_the_first(here, caplog):
    (here / "x.csv").write_text(
        "date,A,B\n2020-01-01,1,2\n2020-01-02,1.1,2\n\nDividends\ndate,who,cash,kind\n"
        "2020-01-02,A,0.2,special\n"
    )
    assert load_panel(Csv(path="x.csv")).n_bars == 2
    assert "the one that begins in line 5 ('Dividends') is left out" in caplog.text


@pytest.mark.parametrize("gap", ["", "\n"])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%Y"])
@pytest.mark.parametrize("step", [1, -1])
def test_a_table_that_goes_on_below_a_second_line_of_names_is_refused(here, gap, form, step):
    days = pd.bdate_range("2020-01-20", periods=40)[::step]
    rows = [f"{day:{form}},{number + 1}" for number, day in enumerate(days)]
    lines = ["date,A", *rows[:20], *([""] if gap else []), "date,A", *rows[20:], ""]
    (here / "x.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"timestamp 'date' in data row 21 .*to be taken out"):
        load_panel(Csv(path="x.csv"))


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y"])
@pytest.mark.parametrize("step", [1, -1])
def test_a_table_that_begins_again_is_another(here, form, step, caplog):
    days = pd.bdate_range("2020-01-20", periods=20)[::step]
    rows = [f"{day:{form}},{number + 1}" for number, day in enumerate(days)]
    (here / "x.csv").write_text("\n".join(["date,A", *rows, "", "date,A", *rows, ""]))
    assert load_panel(Csv(path="x.csv")).n_bars == 20
    assert "of 2 tables the first is read" in caplog.text


def test_empty_lines_within_a_table_end_nothing(here):
    (here / "x.csv").write_text(
        "date,A,B\n2020-01-01,1,2\n\n2020-01-02,$1.50,2\n\n2020-01-03,1,2\n"
    )
    assert load_panel(Csv(path="x.csv")).n_bars == 3


def test_a_table_filled_up_with_spaces_is_read_with_the_separator_space(here, caplog):
    rows = [
        f"{month:%Y%m}{v[0]:8.2f}{v[1]:8.2f}"
        for month, v in zip(MONTHS, returns("5 factors"), strict=True)
    ]
    names = "            Mkt-RF      SMB"
    years = ["1995   29.47   -2.46", "1996   35.39    4.20"]
    lines = [*REMARKS, names, *rows, "", " Annual Factors: January-December", names, *years, ""]
    (here / "x.txt").write_text("\r\n".join(lines))
    panel = load_panel(Csv(path="x.txt", values="returns", separator="space"))
    assert panel.symbols == ("Mkt-RF", "SMB")
    made = panel.close.pct_change(fill_method=None).iloc[1:]
    np.testing.assert_allclose(made.to_numpy(), returns("5 factors")[:, :2] / 100, atol=1e-12)
    assert "of 2 tables the first" in caplog.text


def test_one_space_between_columns_leaves_an_empty_cell_between_two(here):
    text = "date A B\n2020-01-02 1 5\n2020-01-03  5\n2020-01-06 2 5\n"
    (here / "x.csv").write_text(text)
    panel = load_panel(Csv(path="x.csv", separator="space", missing="ffill"))
    np.testing.assert_array_equal(panel.fields["close"], [[1, 5], [1, 5], [2, 5]])
