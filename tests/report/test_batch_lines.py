import pandas as pd

from backtest_batch.analysis.batches import batch_differences
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.terminal import batch_lines


def lines_of(batches, **columns):
    frame = pd.DataFrame({"batch_id": batches, "sharpe": 1.0, **columns})
    table = RunTable.from_frame(frame, params=[name for name in columns if name == "slow"])
    return batch_lines(table, batch_differences(table))


def test_one_batch_needs_no_words():
    assert lines_of(["a", "a"], slow=[1, 2]) == []


def test_batches_are_named_where_their_names_tell_them_apart():
    assert lines_of(["x", "x", "y"], batch_name=["one", "one", "two"], slow=[1, 2, 1]) == [
        "3 runs of 2 batches are compared.",
        "batch x (one): 2 runs",
        "batch y (two): 1 run",
        "They differ in the following. Results that depend on it are not comparable.",
        "slow: 1, 2 in one; 1 in two",
    ]


def test_batches_of_one_name_are_told_by_their_ids():
    assert lines_of(["x", "y"], batch_name="one", slow=[1, 2])[-1] == "slow: 1 in x; 2 in y"
    assert lines_of(["x", "y"], slow=[1, 2])[1:3] == ["batch x: 1 run", "batch y: 1 run"]


def test_batches_that_do_not_differ_say_so():
    assert lines_of(["x", "y"], data_fingerprint="d")[-1] == (
        "They do not differ in data, code or configuration."
    )


def test_what_is_not_known_of_a_batch_is_left_out():
    frame = pd.DataFrame(
        {"batch_id": ["x", "y", "z"], "sharpe": 1.0, "batch_name": ["a", None, "c"]}
    )
    table = RunTable.from_frame(frame, params=[])
    differing = pd.DataFrame({"fact": ["slow", "numpy"], "x": ["1", "2.3"], "y": ["2", None]})

    lines = batch_lines(table, differing)

    assert lines[1:4] == ["batch x (a): 1 run", "batch y: 1 run", "batch z (c): 1 run"]
    assert lines[-2:] == ["slow: 1 in x; 2 in y", "numpy: 2.3 in x"]


def test_very_many_batches_are_counted():
    found = lines_of([f"b{place}" for place in range(40)], slow=[1] * 30 + list(range(10)))

    assert found[0] == "40 runs of 40 batches are compared."
    assert not any(line.startswith("batch ") for line in found)
    assert found[-1] == (
        "slow: 1 in 31 batches; 0 in b30; 2 in b32; 3 in b33; 4 in b34; 5 in b35; 6 in b36; "
        "7 in b37; 8 in b38; 9 in b39"
    )
    many = lines_of([f"b{place}" for place in range(40)], slow=list(range(40)))
    assert many[-1].endswith("; 9 in b9; and 30 more values")
