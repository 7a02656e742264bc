"""A comparison with the audit of its best strategies: what knows the future has no skill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.auditing.findings import USUAL_CAUSES, AuditFindings, untested

_WORST = {
    "lookahead": ("found", "untested", "clean"),
    "warmup": ("short", "untested", "ok"),
    "deterministic": (False, None, True),
}
"""What counts for several runs together: the first of these that one of them has."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class AuditedRun:
    """The audit of one run of a batch.

    Attributes
    ----------
    run_id, strategy
        The run, and the import path of its strategy.
    findings
        What was found.
    account
        Whether it makes its own account, of which returns are compared, and not weights.
    """

    run_id: str
    strategy: str
    findings: AuditFindings
    account: bool = False

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the run."""
        return {"lookahead": self.findings.lookahead, "warmup": self.findings.warmup}

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"run_id": self.run_id, "strategy": self.strategy, **self.findings.document()}


def audit_document(audits: Sequence[AuditedRun], why_none: str = "") -> dict[str, Any]:
    """Return the key ``audit`` of overfitting.json.

    Parameters
    ----------
    audits
        The audited runs, the most important first.
    why_none
        Why there are none.

    Returns
    -------
    dict
        lookahead, warmup, deterministic: the worst of all audited runs (found, untested, clean;
        short, untested, ok; false, null, true); examples of all; reason, where there are no runs;
        runs, with the same keys for each.
    """
    runs = [item.document() for item in audits]
    whole = {
        name: next((value for value in order if any(run[name] == value for run in runs)), None)
        for name, order in _WORST.items()
    }
    if not runs:
        whole = {"lookahead": "untested", "warmup": "untested", "deterministic": None}
    return {
        **whole,
        "reason": why_none if not runs else None,
        "examples": [
            {"run_id": run["run_id"], **example} for run in runs for example in run["examples"]
        ],
        "runs": runs,
    }


def not_audited(conclusion: Conclusion, why: str) -> Conclusion:
    """Return a comparison whose strategies were not audited, and why."""
    return with_audits(conclusion, (), {}, why_none=why)


def with_audits(
    conclusion: Conclusion,
    audits: Sequence[AuditedRun],
    strategies: Mapping[Any, str],
    *,
    why_none: str = "",
) -> Conclusion:
    """Return a comparison with the audit of its best strategies.

    If the first of the ranking, or the best of the trials that the verdict speaks of, knows the
    future, the verdict is ``invalid``, whatever the statistics say. No run of a strategy that knows
    the future is called skilled.

    Parameters
    ----------
    conclusion
        The comparison.
    audits
        The audited runs, the most important first.
    strategies
        Import path of each run's strategy, by index label of the table.
    why_none
        Why nothing was audited.
    """
    assessment, skill = conclusion.assessment, conclusion.skill
    if assessment is None:
        return replace(conclusion, notes=(*conclusion.notes, *_notes(audits, None)))
    cheats = {item.strategy for item in audits if item.findings.lookahead == "found"}
    known = {label for label, strategy in strategies.items() if strategy in cheats}
    document = {**assessment.document, "audit": audit_document(audits, why_none)}
    winner = _winner_that_cheats(conclusion, audits, document)
    if winner is not None:
        document["verdict"] = _invalid(winner, document)
    if skill is not None and known:
        skill = skill.copy()
        skill.loc[[label in known for label in skill.index], "skilled"] = False
    return replace(
        conclusion,
        assessment=replace(
            assessment,
            document=document,
            columns=_unskilled(conclusion, assessment.columns, known),
        ),
        skill=skill,
        notes=(*conclusion.notes, *_notes(audits, winner)),
    )


def _unskilled(conclusion: Conclusion, columns: pd.DataFrame, known: set[Any]) -> pd.DataFrame:
    if not known or len(columns) > len(conclusion.table):
        return columns
    columns = columns.copy()
    labels = conclusion.table.runs.index[: len(columns)]
    columns.loc[[label in known for label in labels], "skilled"] = False
    return columns


def _winner_that_cheats(
    conclusion: Conclusion, audits: Sequence[AuditedRun], document: Mapping[str, Any]
) -> AuditedRun | None:
    """Return the run that the verdict would speak of, if it knows the future."""
    best = conclusion.best
    first = None if best is None else str(conclusion.table.runs["run_id"][best])
    # Of several batches, a run is called batch/run in the statistics.
    winner = str(document.get("run_id")).rpartition("/")[2]
    return next(
        (
            item
            for item in audits
            if item.findings.lookahead == "found" and item.run_id in (first, winner)
        ),
        None,
    )


def _invalid(item: AuditedRun, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a sweep whose best run knows the future."""
    told = document["verdict"]
    count = document.get("n_trials", 1)
    which = f"the best of {count} trials, {item.run_id}," if count > 1 else item.run_id
    example = item.findings.example("lookahead")
    seen = "" if example is None else f": {example.sentence}"
    return {
        "label": "invalid",
        "sentence": f"invalid: {which} knows the future{seen}",
        "reasons": [
            f"usual causes: {USUAL_CAUSES}",
            f"without the audit the verdict would be: {told['sentence']}",
            *told["reasons"],
        ],
    }


def _notes(audits: Sequence[AuditedRun], winner: AuditedRun | None) -> list[str]:
    """Say what was audited; of what is in order, one line for all.

    Of the winner that knows the future the verdict tells.
    """
    lines: list[str] = []
    for item in audits:
        lines += _warnings(item, told=item is winner)
    if any(item.findings.lookahead == "found" for item in audits):
        lines.append(f"Usual causes of knowing the future: {USUAL_CAUSES}.")
    clean = [item for item in audits if item.findings.lookahead == "clean"]
    weights = [item for item in clean if not item.account]
    accounts = [item for item in clean if item.account]
    if weights:
        lines.append(
            f"Audit: {_names(weights)} {'does' if len(weights) == 1 else 'do'} not know the future "
            f"(asked again with the bars after {_cuts(weights, 'decision')} cut off)"
            f"{_also(weights)}."
        )
    if accounts:
        lines.append(
            f"Audit: {_names(accounts)}: returns up to {_cuts(accounts, 'cut')} do not change when "
            f"later bars are cut off{_also(accounts)}. Whether a position earns the bar on which "
            "it was decided cannot be seen."
        )
    return lines


def _cuts(clean: Sequence[AuditedRun], what: str) -> str:
    most = max(item.findings.n_decisions for item in clean)
    return f"{most} {what}{'s' * (most > 1)}" if most else f"a {what}"


def _also(clean: Sequence[AuditedRun]) -> str:
    enough = all(item.findings.warmup == "ok" for item in clean)
    repeats = all(item.findings.deterministic for item in clean)
    said = [
        text
        for holds, text in ((enough, "the warm-up is enough"), (repeats, "answers repeat"))
        if holds
    ]
    return f"; {' and '.join(said)}" if said else ""


def _warnings(item: AuditedRun, *, told: bool) -> list[str]:
    findings, lines = item.findings, []
    if findings.lookahead == "found" and not told:
        example = findings.example("lookahead")
        seen = "" if example is None else f": {example.sentence}"
        lines.append(f"{item.run_id} knows the future{seen}.")
    if findings.deterministic is False:
        lines.append(
            f"{item.run_id} does not repeat itself: {findings.reasons['lookahead']}, so whether it "
            "knows the future is not tested."
        )
    elif findings.lookahead == "untested":
        reason = findings.reasons.get("lookahead", "it was not asked")
        lines.append(f"Whether {item.run_id} knows the future is not tested: {reason}.")
    elif "lookahead" in findings.reasons and findings.lookahead == "clean":
        lines.append(f"{item.run_id}: {findings.reasons['lookahead']}.")
    if findings.deterministic and "deterministic" in findings.reasons:
        lines.append(f"{item.run_id}: {findings.reasons['deterministic']}.")
    # Of what knows the future, the rest does not matter.
    if findings.warmup == "short" and findings.lookahead != "found":
        lines.append(_short_warmup(item))
    return lines


def _short_warmup(item: AuditedRun) -> str:
    findings = item.findings
    example = findings.example("warmup")
    seen = "" if example is None else f": {example.sentence}"
    effect = findings.effect
    changed = ""
    if effect:
        changed = (
            f"; the annual return is {effect['annual_return']:.2%} with that much history, and "
            f"{effect['annual_return_with_more_history']:.2%} with more"
        )
    return f"The warm-up of {item.run_id} is too short{seen}{changed}."


def _names(audits: Sequence[AuditedRun]) -> str:
    names = [item.run_id for item in audits]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def untested_run(run_id: str, strategy: str, reason: str) -> AuditedRun:
    """Return the audit of a run that could not be asked."""
    return AuditedRun(run_id=run_id, strategy=strategy, findings=untested(reason))
