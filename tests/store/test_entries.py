"""What is written of a run is what is read of it."""

from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from backtest_batch.core.engine.metrics import RESULT_METRICS
from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.store.kinds import RunColumns
from backtest_batch.store.mlflow_run import (
    RESULT_TAGS,
    BatchInfo,
    RunEntry,
    configuration,
    run_entry,
    run_record,
)
from backtest_batch.store.recorded import swept_values, table_of
from backtest_batch.workers.watch import INPUTS, UNKNOWN

BATCH = BatchInfo(batch_id="b1", batch_name="demo", n_runs=1, started_ms=1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | NUMBERS | TEXTS
TIMES = st.integers(0, 4_000_000_000_000)


@st.composite
def results(draw) -> RunResult:
    undefined = draw(st.lists(st.sampled_from(RESULT_METRICS), unique=True))
    defined = [name for name in RESULT_METRICS if name not in undefined]
    return RunResult(
        metrics=draw(st.fixed_dictionaries(dict.fromkeys(defined, NUMBERS))),
        undefined_metrics=tuple(undefined),
        tags=draw(st.dictionaries(st.sampled_from(RESULT_TAGS), TEXTS.filter(bool))),
        n_decisions=draw(st.integers(0, 100)),
        runtime_s=draw(NUMBERS),
        cpu_s=draw(NUMBERS),
        peak_rss_mb=draw(NUMBERS),
        chunk_runs=draw(st.integers(1, 100)),
        artifacts=draw(st.none() | st.just(Path("/somewhere"))),
        timings={"load": 0.5},
    )


FAILURES = st.builds(RunFailure, error_type=NAMES, error_message=TEXTS, traceback=TEXTS, log=TEXTS)
SPECS = st.builds(
    RunSpec,
    index=st.just(0),
    run_id=NAMES,
    run_name=NAMES,
    run_key=st.just("ab" * 32),
    config_hash=st.just("c0" * 32),
    swept=st.dictionaries(NAMES, SCALARS, max_size=4),
    config=st.dictionaries(NAMES, SCALARS | st.dictionaries(NAMES, SCALARS), max_size=6),
    overrides=st.just(()),
    data_fingerprint=st.just("d4" * 32),
    code_fingerprint=st.just("e5" * 32),
    strategy_seed=st.just(7),
    first_bar=st.just(0),
    n_bars=st.just(500),
)
RECORDS = st.builds(
    RunRecord,
    spec=SPECS,
    outcome=st.none() | results() | FAILURES,
    attempts=st.integers(1, 9),
    started_ms=TIMES,
    ended_ms=TIMES,
)


def frame_of(entry: RunEntry):
    """The table that both kinds of store return, of a run with these values."""
    columns = RunColumns(("metrics", "params", "tags"))
    columns.add_info("m" * 32, entry.status, entry.name, entry.started_ms, entry.ended_ms)
    for part in ("metrics", "params", "tags"):
        values = getattr(entry, part)
        columns.add_values(part, (("m" * 32, key, value) for key, value in values.items()))
    return columns.frame()


@given(RECORDS)
@settings(max_examples=50, deadline=None)
def test_a_run_comes_back_as_it_was_recorded(record):
    (row,) = frame_of(run_entry(record, BATCH, "p" * 32)).to_dict("records")

    expected, outcome = record, record.outcome
    if isinstance(outcome, RunResult):
        kept = replace(outcome, n_decisions=0, artifacts=None, timings={})
        expected = replace(record, outcome=kept)
    elif isinstance(outcome, RunFailure):
        expected = replace(record, outcome=replace(outcome, traceback="", log=""))
    assert run_record(record.spec, row) == expected


@given(RECORDS)
@settings(max_examples=50, deadline=None)
def test_swept_values_and_configuration_come_back(record):
    spec = record.spec
    frame = frame_of(run_entry(record, BATCH, "p" * 32))
    (row,) = frame.to_dict("records")

    # Of a text that is swept only its value counts: one that looks like JSON is what JSON says.
    plain = {key: value for key, value in spec.swept.items() if str(value)[:1] not in ("[", "{")}
    assert {key: value for key, value in swept_values(row).items() if key in plain} == plain
    flat = {key: value for key, value in spec.config.items() if isinstance(value, bool | int)}
    read = configuration(row)
    assert {key: read[key] for key in flat} == flat
    (facts,) = table_of(frame).runs.to_dict("records")
    assert (facts["run_id"], facts["status"], facts["started_ms"], facts["ended_ms"]) == (
        spec.run_id,
        record.status,
        record.started_ms,
        record.ended_ms,
    )
    undefined = getattr(record.outcome, "undefined_metrics", ())
    assert facts["undefined_metrics"] == ", ".join(undefined)


def test_what_a_strategy_reads_belongs_to_its_result():
    assert {INPUTS, UNKNOWN} <= set(RESULT_TAGS)
