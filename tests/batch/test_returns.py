"""returns.parquet holds every value, however many are written at once."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from backtest_batch.batch import returns as module
from backtest_batch.batch.returns import BatchReturns, write_returns
from backtest_batch.core.data.panel import release_pages
from backtest_batch.rows import open_rows, row_writer


@pytest.fixture
def mapped(tmp_path):
    """Eleven rows of fifty bars, mapped from a file; the first seven bars are null."""
    values = np.random.default_rng(3).normal(size=(11, 50))
    values[:, :7] = np.nan
    path = tmp_path / "returns.dat"
    with row_writer(path, 50) as write:
        for row, line in enumerate(values):
            write(row, str(row), 0, line)
    return values, open_rows(path, 11, 50)[:, :-1]


@pytest.mark.parametrize("cells", [20_000_000, 100, 1])
def test_row_groups_hold_all_values(mapped, tmp_path, monkeypatch, cells):
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", cells)
    monkeypatch.setattr(module, "_ROWS_MAPPED", 4)
    values, rows = mapped
    index = pd.date_range("2020-01-01", periods=50, freq="B", tz="UTC")
    batch = BatchReturns(index=index, rows=rows, benchmark_row=(10,) * 10)
    columns = {f"run_{row}": row for row in range(10)}
    write_returns(tmp_path / "returns.parquet", batch, columns, benchmark=10)
    read = pd.read_parquet(tmp_path / "returns.parquet")
    assert list(read) == ["timestamp", *columns, "benchmark"]
    assert (pd.DatetimeIndex(read.pop("timestamp")) == index).all()
    np.testing.assert_array_equal(read.to_numpy().T, values)
    table = pq.read_table(tmp_path / "returns.parquet")
    assert table.column("run_0").null_count == 7
    groups = pq.ParquetFile(tmp_path / "returns.parquet").num_row_groups
    assert groups == -(-50 // max(1, cells // 11)) if cells < 550 else groups == 1


def test_pages_that_are_released_are_read_again(mapped):
    values, rows = mapped
    release_pages(rows)
    np.testing.assert_array_equal(rows, values)
    release_pages(rows.T[3:])
    np.testing.assert_array_equal(rows, values)
    release_pages(values)  # in memory: nothing happens
    assert np.isfinite(values[:, 7:]).all()
