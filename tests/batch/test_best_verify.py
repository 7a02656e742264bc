from pathlib import Path

import pytest

from backtest_batch.batch.rerun import Winner, verify
from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec

FACTS = {
    "host": "here",
    "platform": "Linux",
    "machine": "x86_64",
    "python": "3.11.9",
    "packages": {"numpy": "2.4.0", "pandas": "3.1.0"},
    "pid": 7,
}
ENVIRONMENT = {name: value for name, value in FACTS.items() if name != "pid"}
METRICS = {"sharpe": 0.1 + 0.2, "max_drawdown": -0.25, "alpha": 0.0}
CONFIG = {"rebalance": "M", "strategy": {"fast": 5}, "n_jobs": 2}


def winner(**changes):
    entry = {
        "run_id": "run_5",
        "metrics": METRICS,
        "environment": ENVIRONMENT,
        "data_fingerprint": "data",
        "code_fingerprint": "code",
        "config": CONFIG,
    }
    return Winner(path=Path("best_params.json"), entry={**entry, **changes}, arguments=())


def record(metrics=METRICS, outcome=None, config=CONFIG, **spec):
    result = RunResult(
        metrics=metrics, undefined_metrics=(), runtime_s=1.0, cpu_s=1.0, peak_rss_mb=90.0
    )
    fields = {
        "index": 0,
        "run_id": "run_base",
        "run_name": "",
        "run_key": "key",
        "config_hash": "",
        "swept": {},
        "config": config,
        "overrides": (),
        "data_fingerprint": "data",
        "code_fingerprint": "code",
        "strategy_seed": 0,
        "first_bar": 0,
        "n_bars": 300,
    }
    return RunRecord(
        spec=RunSpec(**fields | spec),
        outcome=outcome or result,
        attempts=1,
        started_ms=0,
        ended_ms=1,
    )


def test_equal_results_on_the_same_machine_are_equal_bit_for_bit():
    found = verify(winner(), [record()], FACTS)

    assert (found.agrees, found.exact, found.compared) == (True, True, 3)
    assert str(found) == (
        "Verified: all 3 result metrics of run_5 are equal, bit for bit, to those recorded (same "
        "machine and packages).\n"
    )


def test_the_last_bit_counts_on_the_same_machine():
    found = verify(winner(), [record({**METRICS, "sharpe": 0.3})], FACTS)

    assert not found.agrees
    assert "Not verified: 1 of 3 result metrics of run_5" in str(found)
    assert "sharpe: recorded 0.30000000000000004, now 0.3; they differ by 1.9e-16" in str(found)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ({**ENVIRONMENT, "host": "there"}, "host: then 'there', now 'here'"),
        ({**ENVIRONMENT, "packages": {"numpy": "2.3.0", "pandas": "3.1.0"}}, "numpy: then 2.3.0"),
        ({**ENVIRONMENT, "packages": {"numpy": "2.4.0"}}, "pandas: then absent, now 3.1.0"),
        ({}, "the machine and packages of that time were not recorded"),
        (None, "the machine and packages of that time were not recorded"),
    ],
)
def test_elsewhere_rounding_is_allowed_and_the_differences_are_listed(then, said):
    now = {**METRICS, "sharpe": METRICS["sharpe"] * (1 + 5e-10), "alpha": 1e-15}
    found = verify(winner(environment=then), [record(now)], FACTS)

    assert (found.agrees, found.exact) == (True, False)
    assert "equal to those recorded within 1e-09, relatively" in str(found)
    assert said in str(found)


def test_elsewhere_more_than_rounding_is_a_difference():
    now = {**METRICS, "sharpe": METRICS["sharpe"] * (1 + 5e-9)}
    found = verify(winner(environment={}), [record(now)], FACTS)

    assert not found.agrees
    assert "compared within 1e-09" in str(found)
    assert "they differ by 5e-09, relatively" in str(found)


def test_other_data_code_or_settings_are_listed():
    changed = record(
        config={**CONFIG, "rebalance": "W"}, data_fingerprint="x", code_fingerprint="y"
    )
    found = verify(winner(), [changed], FACTS)

    assert found.environment == (
        "data_fingerprint: then 'data', now 'x'",
        "code_fingerprint: then 'code', now 'y'",
        "rebalance: then M, now W",
    )
    # How many processes computed it makes no difference.
    other = verify(winner(), [record(config={**CONFIG, "n_jobs": 8})], FACTS)
    assert other.environment == ()


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ({"sharpe": 1.0}, {}, "sharpe: recorded 1.0, now undefined"),
        ({}, {"sharpe": 1.0}, "sharpe: recorded undefined, now 1.0"),
        ({"alpha": 0.0}, {"alpha": 1.0}, "alpha: recorded 0.0, now 1.0"),
    ],
)
def test_metrics_that_are_there_only_once_differ(then, now, said):
    found = verify(winner(metrics=then), [record(now)], FACTS)

    assert not found.agrees
    assert said in str(found)


def test_times_and_out_of_sample_metrics_are_not_compared():
    found = verify(winner(metrics={**METRICS, "oos_sharpe": 1.0}), [record()], FACTS)

    assert found.agrees
    assert found.compared == 3


def test_without_a_result_nothing_is_verified():
    failure = RunFailure(error_type="ValueError", error_message="no prices")
    failed = verify(winner(), [record(outcome=failure)], FACTS)
    missing = verify(winner(), [], FACTS)
    nothing = verify(winner(metrics={}), [record({})], FACTS)

    assert not failed.agrees
    assert "run_5 cannot be compared: ValueError: no prices" in str(failed)
    assert not missing.agrees
    assert "it did not end" in str(missing)
    assert not nothing.agrees
    assert "no result metric is defined" in str(nothing)
