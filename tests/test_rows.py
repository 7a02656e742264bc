import numpy as np
import pytest

from backtest_batch.rows import copy_rows, is_whole, open_rows, row_writer

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "returns.dat"


def test_a_row_comes_back_with_nan_where_nothing_was_written(path):
    with row_writer(path, 6) as write:
        write(2, KEY, 1, np.array([np.nan, 0.5, -0.25]))
    rows = open_rows(path, 4, 6)
    np.testing.assert_array_equal(rows[2][:-1], [np.nan, np.nan, 0.5, -0.25, np.nan, np.nan])
    assert is_whole(rows[2], KEY)


def test_a_row_of_another_key_or_never_written_is_not_whole(path):
    with row_writer(path, 6) as write:
        write(1, KEY, 0, np.zeros(6))
    rows = open_rows(path, 4, 6)
    assert is_whole(rows[1], KEY)
    assert not is_whole(rows[1], OTHER)
    assert not any(is_whole(rows[row], KEY) for row in (0, 2, 3))


@pytest.mark.parametrize("cut", [1, 8, 20, 48, 55])
def test_a_row_that_was_half_written_is_not_whole(path, cut):
    with row_writer(path, 6) as write:
        write(0, KEY, 0, np.linspace(0.1, 0.6, 6))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    assert not is_whole(open_rows(path, 1, 6)[0], KEY)


def test_copying_takes_the_whole_rows_only(path, tmp_path):
    target = tmp_path / "target.dat"
    with row_writer(path, 3) as write:
        write(0, KEY, 0, np.array([1.0, 2.0, 3.0]))
        write(1, OTHER, 0, np.array([4.0, 5.0, 6.0]))
    with row_writer(target, 3) as write:
        write(2, KEY, 0, np.array([7.0, 8.0, 9.0]))
    copy_rows(path, target, [(0, KEY), (1, KEY), (2, KEY)], 3)
    rows = open_rows(target, 3, 3)
    assert [is_whole(rows[row], KEY) for row in range(3)] == [True, False, True]
    np.testing.assert_array_equal(rows[0][:-1], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(rows[2][:-1], [7.0, 8.0, 9.0])


def test_copying_from_nowhere_or_nothing(path, tmp_path):
    copy_rows(tmp_path / "missing.dat", path, [(0, KEY)], 3)
    copy_rows(path, tmp_path / "other.dat", [], 3)
    assert not path.exists()
