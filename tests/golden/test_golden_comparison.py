"""The comparison with what was kept: what it sees, and what it lets pass."""

import hashlib
import math

import pytest

from backtest_batch.report.best_params import json_text
from tests.golden.expected import Difference, KeptTable, compare, keep, metric_of, summary
from tests.golden.outputs import Table, read_table, without_what_varies


def kept(digest: str | None = "d", **columns: list[object]) -> dict[str, KeptTable]:
    texts = {name: tuple(map(str, values)) for name, values in columns.items()}
    return {"rankings.csv": keep(Table(texts, digest))}


def test_a_last_bit_is_a_difference_on_the_same_processor_alone() -> None:
    before = kept(run_id=["a", "b"], sharpe=[1.5, 0.25])
    now = kept("e", run_id=["a", "b"], sharpe=[math.nextafter(1.5, 2), 0.25])
    assert compare(before, now, exact=False) == []
    (found,) = compare(before, now, exact=True)
    assert found == Difference("rankings.csv", "sharpe", "sharpe: 1.5 became 1.5000000000000002")
    assert summary([found]).startswith("metrics that differ: sharpe; 0 other differences")


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_a_difference_anywhere(exact: bool) -> None:
    before = kept(run_id=["a", "b"], sharpe=[1.5, 0.25])
    for now in (
        kept(run_id=["a", "c"], sharpe=[1.5, 0.25]),
        kept(run_id=["a", "b"], sharpe=[1.5, 0.250001]),
        kept(run_id=["a", "b"], sharpe=[1.5, ""]),
        kept(run_id=["a", "b"], sharpe=[1.5]),
        kept(sharpe=[1.5, 0.25], run_id=["a", "b"]),
        kept(run_id=["a", "b"]),
        {},
    ):
        assert compare(before, now, exact=exact)


def test_a_value_that_is_not_kept_and_bytes_that_no_column_shows() -> None:
    before = kept(equity=list(range(1000)))
    now = kept(equity=[*range(500), 0, *range(501, 1000)])
    (found,) = compare(before, now, exact=True)
    assert str(found) == "rankings.csv: equity: values differ, none of which is kept"
    (found,) = compare(before, kept("e", equity=list(range(1000))), exact=True)
    assert str(found) == "rankings.csv: the same values in other bytes"


def test_what_differs_each_time_is_blank_and_a_class_has_no_module(tmp_path) -> None:
    path = tmp_path / "best_params.json"
    path.write_text(
        '{"top": [{"run_key": "a", "environment": {"host": "b"},'
        ' "config": {"data": {"_target_": "backtest_batch.one.Csv"}, "seed": 1}},'
        ' {"metrics": {"sharpe": 2.5}, "config": {"data": {"_target_": "mine.Csv"}}}]}'
    )
    table = read_table(path)
    assert table.file_digest is None
    assert table.columns == {
        "top[].run_key": (),
        "top[].environment.host": (),
        "top[].config.data._target_": ('"Csv"', '"mine.Csv"'),
        "top[].config.seed": ("1",),
        "top[].metrics.sharpe": ("2.5",),
    }
    assert without_what_varies({"runtime_s": ("1",), "trades": ("2",)}) == {
        "runtime_s": (),
        "trades": ("2",),
    }


def test_a_key_that_was_added_later_is_left_out_at_the_value_that_changes_nothing(tmp_path) -> None:
    path = tmp_path / "best_params.json"
    path.write_text('{"top": [{"config": {"benchmark": "equal_weight", "factors": "f.csv"}}]}')
    assert read_table(path).columns == {"top[].config.factors": ('"f.csv"',)}


def test_rows_of_a_metric_are_its_column(tmp_path) -> None:
    path = tmp_path / "sensitivity_analysis.csv"
    path.write_text("parameter,metric,mean\nfast,sharpe,1\nfast,cagr,2\nslow,sharpe,3\n")
    table = read_table(path)
    assert table.columns == {
        "columns": ("parameter", "metric", "mean"),
        "metrics": ("sharpe", "cagr", "sharpe"),
        "sharpe": ("fast", "1", "slow", "3"),
        "cagr": ("fast", "2"),
    }
    assert table.file_digest is not None


def test_the_metric_of_a_column() -> None:
    assert metric_of("oos_avg_gross_exposure") == "avg_gross_exposure"
    assert metric_of("top[].metrics.sharpe") == "sharpe"
    assert metric_of("verdict.sentence") is None


def test_what_a_file_has_gained_since_is_left_out_to_the_byte(tmp_path) -> None:
    before = {"psr": 0.5, "scenarios": [{"psr": None, "undefined": {"psr": "none"}}]}
    before |= {"settings": {"mean_block": 10}, "undefined": {}}
    now = before | {"mean_block": 10, "trials_band": {"onc": 3}}
    now["scenarios"] = [
        {
            "psr": None,
            "inference": None,
            "undefined": {"psr": "none", "inference.power": "no", "inference": "no"},
        }
    ]
    tables = []
    for number, document in enumerate((before, now)):
        path = tmp_path / str(number) / "overfitting.json"
        path.parent.mkdir()
        path.write_text(json_text(document))
        tables.append(read_table(path))
    assert tables[0] == tables[1]
    path = tmp_path / "rankings.csv"
    path.write_text('run_id,sharpe,sharpe_lower_bound\n"a,b",1.0,\n')
    assert read_table(path).columns == {"run_id": ("a,b",), "sharpe": ("1.0",)}
    shorter = 'run_id,sharpe\n"a,b",1.0\n'
    assert read_table(path).file_digest == hashlib.sha256(shorter.encode()).hexdigest()
