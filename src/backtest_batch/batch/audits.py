"""The audit of a batch: the strategies that could win are asked again by a worker."""

import time
from collections.abc import Sequence
from dataclasses import replace

from backtest_batch.analysis.audited import AuditedRun, not_audited, untested_run, with_audits
from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.auditing.findings import AuditSettings
from backtest_batch.batch.extras import Extra
from backtest_batch.batch.judging import Compared
from backtest_batch.batch.session import Session
from backtest_batch.batch.trials import decision_labels
from backtest_batch.core.construct import TARGET
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.report.tables import one_line
from backtest_batch.workers.watch import INPUTS

LEAST_SECONDS = 5.0
SHARE = 0.1
"""The audit may take this share of the time of the runs, and :data:`LEAST_SECONDS` in any case."""

MOST_RUNS = 8
"""Most runs that are audited."""

_PATIENCE_SECONDS = 30.0
_OF_LIMIT = 0.5
"""Share of ``timeout_seconds`` that an audit takes: at its end a worker would be ended."""


def audit_best(session: Session, compared: Compared) -> Compared:
    """Audit the strategies that could win, and return the comparison with what was found.

    These are the first of the ranking, the best of the trials that the verdict speaks of, the first
    of each scenario, and the best run of each strategy; equal decisions once.
    """
    conclusion = compared.conclusion
    if not session.config["audit"]["enabled"]:
        return replace(compared, conclusion=not_audited(conclusion, "audit.enabled=false"))
    chosen = runs_to_audit(session, conclusion)
    if not chosen:
        return replace(compared, conclusion=not_audited(conclusion, "no run is ranked"))
    audits = _audits(session, chosen)
    session.add_extras(
        {
            record.spec.run_key: Extra(spec=record.spec, tags=item.tags)
            for record, item in zip(chosen, audits, strict=True)
        }
    )
    strategies = {
        label: _target(record)
        for label, record in zip(conclusion.table.runs.index, session.in_order, strict=False)
    }
    return replace(compared, conclusion=with_audits(conclusion, audits, strategies))


def runs_to_audit(session: Session, conclusion: Conclusion) -> list[RunRecord]:
    """Return the runs of the batch that are audited, the most important first."""
    records = session.in_order
    rows = [
        row
        for row in conclusion.ranked.index[conclusion.ranked["rank"].notna()]
        if row < len(records) and records[row].status == "FINISHED"
    ]
    if not rows:
        return []
    winner = None
    if conclusion.assessment is not None:
        winner = str(conclusion.assessment.document.get("run_id")).rpartition("/")[2]
    first = conclusion.ranked["rank_in_scenario"]
    wanted = [rows[0]]
    wanted += [row for row in rows if records[row].spec.run_id == winner][:1]
    wanted += [row for row in rows if first[row] == 1]
    seen: set[str] = set()
    for row in rows:
        if _target(records[row]) not in seen:
            seen.add(_target(records[row]))
            wanted.append(row)
    wanted = list(dict.fromkeys(wanted))
    labels = decision_labels([records[row].spec for row in wanted], AxisKinds.of(session.config))
    once = dict(zip(reversed(labels), reversed(wanted), strict=True))
    kept = set(once.values())
    return [records[row] for row in wanted if row in kept][:MOST_RUNS]


def _audits(session: Session, records: Sequence[RunRecord]) -> list[AuditedRun]:
    left = _budget(session)
    audits: list[AuditedRun] = []
    for record in records:
        if left <= 0:
            audits.append(_untested(record, "there was no time left (audit.budget_seconds)"))
            continue
        began = time.perf_counter()
        audits.append(_audited(session, record, left))
        left -= time.perf_counter() - began
    return audits


def _budget(session: Session) -> float:
    given = session.config["audit"]["budget_seconds"]
    if given is not None:
        return float(given)
    outcomes = (record.outcome for record in session.in_order)
    computed = sum(item.runtime_s for item in outcomes if isinstance(item, RunResult))
    return max(LEAST_SECONDS, SHARE * computed)


def _audited(session: Session, record: RunRecord, seconds: float) -> AuditedRun:
    run, result = record.spec, record.outcome
    assert isinstance(result, RunResult)
    if run.own_data:
        return _untested(record, "it reads its own data (data=none), which cannot be cut off")
    asked, limit = session.config["audit"], session.config["timeout_seconds"]
    if limit is not None:
        seconds = min(seconds, _OF_LIMIT * limit)
    settings = AuditSettings(
        budget_seconds=seconds,
        decisions=asked["decisions"],
        tolerance=asked["tolerance"],
        seed=session.config["seed"],
        expected_seconds=_seconds_of_an_answer(run, result),
        recorded=dict(result.metrics),
    )
    found = session.audit(run, settings, 4 * seconds + _PATIENCE_SECONDS)
    if isinstance(found, str):
        return _untested(record, f"while it was asked again, {one_line(found)}")
    inputs = result.tags.get(INPUTS)
    if found.lookahead == "clean" and inputs is not None:
        said = "it reads files besides the prices, of which nothing could be cut off"
        earlier = found.reasons.get("lookahead")
        said = f"{earlier}; {said}" if earlier else said
        found = replace(found, reasons={**found.reasons, "lookahead": said})
    return AuditedRun(
        run_id=run.run_id,
        strategy=_target(record),
        findings=found,
        account=run.strategy_kind == "account",
    )


def _seconds_of_an_answer(run: RunSpec, result: RunResult) -> float:
    """Return how long the strategy took to answer in this run; others may be faster by far."""
    # Runs that trade the same weights have shared the time.
    shared = result.chunk_runs if run.strategy_kind == "weights" else 1
    return result.timings.get("signals", result.runtime_s) * shared


def _untested(record: RunRecord, reason: str) -> AuditedRun:
    return untested_run(record.spec.run_id, _target(record), reason)


def _target(record: RunRecord) -> str:
    return str(record.spec.config["strategy"][TARGET])
