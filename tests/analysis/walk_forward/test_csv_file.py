import io

import numpy as np
import pandas as pd

from backtest_batch.analysis.walk_forward import csv_bytes


def test_what_is_written():
    table = pd.DataFrame(
        {
            "split": [0, 1],
            "run_id": ["run_0.5", "run_1"],
            "test_start": pd.to_datetime(["2001-01-02", "2002-03-04"]),
            "is_sharpe": [0.1, np.nan],
            "a,b": [1e-5, -2.0],
            "chosen": [True, False],
        }
    )

    assert csv_bytes(table).decode() == (
        'split,run_id,test_start,is_sharpe,"a,b",chosen\n'
        "0,run_0.5,2001-01-02,0.1,0.00001,true\n"
        "1,run_1,2002-03-04,,-2,false\n"
    )
    table["run_id"] = ["run_0.5", 'a,"b"']
    assert csv_bytes(table).decode().splitlines()[1:] == [
        '0,"run_0.5","2001-01-02",0.1,0.00001,true',
        '1,"a,""b""","2002-03-04",,-2,false',
    ]


def test_numbers_read_back_as_they_were():
    generator = np.random.default_rng(0)
    values = generator.normal(size=1_000) * 10.0 ** generator.integers(-300, 300, 1_000)
    table = pd.DataFrame({"row": range(1_000), "x": values})
    table.loc[3, "x"] = np.nan

    read = pd.read_csv(io.BytesIO(csv_bytes(table)), float_precision="round_trip")
    np.testing.assert_array_equal(read["x"], table["x"])


def test_timestamps_within_days_have_their_time():
    index = pd.date_range("2001-01-02 09:30", periods=2, freq="5min", tz="America/New_York")
    table = pd.DataFrame({"test_start": index, "none": [None, None]})

    assert csv_bytes(table).decode().splitlines()[1:] == [
        "2001-01-02 09:30:00-05:00,",
        "2001-01-02 09:35:00-05:00,",
    ]


def test_an_empty_table_has_its_header():
    assert csv_bytes(pd.DataFrame({"a": [], "b": []})) == b"a,b\n"
