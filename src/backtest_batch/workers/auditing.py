"""The audit of a run inside a worker, where its strategy may do what it likes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from backtest_batch.auditing.afresh import imported_afresh
from backtest_batch.auditing.audit import Alone, Question, asked_alone, audit_apart, audit_case
from backtest_batch.auditing.case import StrategyAnswer, case_of_run
from backtest_batch.auditing.findings import AuditFindings, AuditSettings
from backtest_batch.core.construct import TARGET
from backtest_batch.core.data.panel import Panel
from backtest_batch.records import RunSpec


def audit_run(
    run: RunSpec,
    panel: Panel,
    settings: AuditSettings,
    objects: Mapping[str, bytes],
    in_state: Callable[[], AbstractContextManager[None]],
) -> AuditFindings:
    """Audit a run with its strategy imported anew, so that nothing kept from its run helps it.

    Parameters
    ----------
    run, panel
        The run and its data.
    settings
        How it is audited.
    objects
        Strategies that no file holds, by value.
    in_state
        Puts the process into the state in which a strategy is asked.
    """
    target = str(run.config["strategy"][TARGET])
    with imported_afresh(target, objects) as reachable:
        found = audit_case(case_of_run(run, panel, in_state), settings)
    if found.remembers or found.alike_after is not None:
        cut = found.alike_after

        def ask(question: Question, whole: StrategyAnswer | None) -> Alone:
            with imported_afresh(target, objects):
                case = case_of_run(run, panel, in_state)
                return asked_alone(case, settings, question, whole, cut)

        apart = audit_apart(ask)
        if found.remembers or apart.lookahead == "found":
            found = apart
    if reachable and found.lookahead == "clean":
        said = f"{reachable}: a cache that remembers the future would not be noticed"
        found = replace(found, reasons={**found.reasons, "lookahead": said})
    return found
