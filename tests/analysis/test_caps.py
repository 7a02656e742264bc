"""What is said of caps that made decisions smaller."""

import pytest

from backtest_batch.analysis.scenarios import cap_notes
from backtest_batch.records import RunRecord, RunResult, RunSpec


def record(run_id: str, **scaled_by: int) -> RunRecord:
    spec = RunSpec(
        index=0,
        run_id=run_id,
        run_name=run_id,
        run_key=run_id,
        config_hash="",
        swept={},
        config={"max_gross_exposure": 1.0, "max_weight": 0.1},
        overrides=(),
        data_fingerprint="",
        code_fingerprint="",
        strategy_seed=0,
        first_bar=0,
        n_bars=10,
    )
    outcome = RunResult(
        metrics={},
        undefined_metrics=(),
        n_decisions=390,
        scaled_by=scaled_by,
        runtime_s=0.0,
        cpu_s=0.0,
        peak_rss_mb=0.0,
    )
    return RunRecord(spec=spec, outcome=outcome, attempts=1, started_ms=0, ended_ms=1)


def test_one_line_names_the_caps_and_the_run_that_they_changed_most():
    records = [
        record("run_a", max_gross_exposure=3),
        record("run_b", max_gross_exposure=131, max_weight=2),
        record("run_c", max_gross_exposure=0),
    ]
    assert cap_notes(records, ["strategy.fast"]) == [
        "max_gross_exposure=1.0 scaled down 131 of 390 decisions of run_b, and some of 1 more run; "
        "max_weight=0.1 scaled down 2 of 390 decisions of run_b"
    ]
    assert cap_notes(records[2:], []) == []


def test_nothing_is_said_of_a_cap_that_is_swept():
    records = [record("run_a", max_gross_exposure=390)]
    assert cap_notes(records, ["max_gross_exposure"]) == []


@pytest.mark.slow
def test_a_batch_records_and_says_what_a_cap_scaled(invoke, recorded_runs, with_store):
    small = ("-m", "data=synthetic", "data.n_bars=200", "strategy=equal_weight", "n_jobs=1")
    ended = invoke(*small, "commission_bps=0,1", "max_gross_exposure=0.5")
    runs = recorded_runs(with_store)
    (run,) = {r.tags["scaled_decisions"] for r in runs.values()}
    n_decisions = int(run)
    assert n_decisions > 3
    assert {r.metrics["scaled_decisions"] for r in runs.values()} == {n_decisions}
    assert (
        f"max_gross_exposure=0.5 scaled down {n_decisions} of {n_decisions} decisions of run_0.0, "
        "and some of 1 more run"
    ) in ended.out
    swept = invoke(*small, "commission_bps=0", "max_gross_exposure=0.5,1")
    assert "scaled down" not in swept.out
