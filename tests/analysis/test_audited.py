"""What an audit does to a comparison: the worst counts, and a winner that cheats is invalid."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.analysis.audited import AuditedRun, audit_document, not_audited, with_audits
from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.auditing.findings import AuditExample, AuditFindings, untested

CLEAN = AuditFindings(lookahead="clean", warmup="ok", deterministic=True, n_decisions=12)
FOUND = AuditFindings(
    lookahead="found",
    warmup="ok",
    deterministic=True,
    examples=(
        AuditExample(
            kind="lookahead",
            timestamp="2015-01-07",
            symbol="A",
            value=1.0,
            other=float("nan"),
            known="when the bars after 2015-01-07 are cut off",
        ),
    ),
    n_decisions=12,
)
SHORT = replace(CLEAN, warmup="short")


@pytest.fixture(scope="module")
def conclusion() -> Conclusion:
    """Ten trials of noise around a market; the best of them is called by its name."""
    numbers = np.random.default_rng(3)
    index = pd.bdate_range("2015-01-01", periods=600)
    market = numbers.normal(0.0005, 0.01, 600)
    trials = {f"rule_{n}": market + numbers.normal(0.0, 0.01, 600) for n in range(10)}
    returns = pd.DataFrame(trials, index)
    return bb.skill_or_luck(returns, pd.Series(market, index)).conclusion


def audited(run_id: str, findings: AuditFindings, strategy: str = "mine.A") -> AuditedRun:
    return AuditedRun(run_id=run_id, strategy=strategy, findings=findings)


def best_of(conclusion: Conclusion) -> str:
    return str(conclusion.table.runs["run_id"][conclusion.best])


@pytest.mark.parametrize(
    ("findings", "lookahead", "warmup", "deterministic"),
    [
        ((CLEAN, CLEAN), "clean", "ok", True),
        ((CLEAN, FOUND), "found", "ok", True),
        ((CLEAN, untested("why")), "untested", "untested", None),
        ((untested("why"), FOUND), "found", "untested", None),
        ((SHORT, CLEAN), "clean", "short", True),
        ((CLEAN, replace(CLEAN, deterministic=False)), "clean", "ok", False),
    ],
)
def test_the_worst_of_all_runs_counts(findings, lookahead, warmup, deterministic):
    found = audit_document([audited(f"run_{n}", item) for n, item in enumerate(findings)])
    assert (found["lookahead"], found["warmup"]) == (lookahead, warmup)
    assert found["deterministic"] is deterministic
    assert [run["run_id"] for run in found["runs"]] == ["run_0", "run_1"]


def test_a_value_that_is_no_number_is_null():
    (example,) = audit_document([audited("run", FOUND)])["examples"]
    assert (example["value"], example["other"]) == (1.0, None)
    assert "and not a number when the bars after" in example["sentence"]


def test_a_winner_that_cheats_is_invalid_and_its_strategy_has_no_skill(conclusion):
    best = best_of(conclusion)
    labels = dict.fromkeys(conclusion.table.runs.index, "mine.A")
    found = with_audits(conclusion, [audited(best, FOUND)], labels)
    assert found.verdict["label"] == "invalid"
    assert found.sentence.startswith(f"invalid: the best of 10 trials, {best}, knows the future: ")
    assert (
        f"without the audit the verdict would be: {conclusion.sentence}"
        in (found.verdict["reasons"])
    )
    assert not found.skill["skilled"].any()
    assert not found.assessment.columns["skilled"].any()
    # The comparison itself is left alone.
    assert conclusion.verdict["label"] != "invalid"
    assert conclusion.assessment.document["audit"]["lookahead"] == "untested"


def test_a_cheat_that_does_not_win_is_told_and_changes_no_verdict(conclusion):
    spoken_of = {best_of(conclusion), conclusion.assessment.document["run_id"]}
    other = next(name for name in conclusion.table.runs["run_id"] if name not in spoken_of)
    found = with_audits(conclusion, [audited(other, FOUND, "mine.B")], {})
    assert found.verdict == conclusion.verdict
    assert any(f"{other} knows the future: on 2015-01-07" in note for note in found.notes)


def test_what_is_in_order_is_one_line(conclusion):
    best = best_of(conclusion)
    found = with_audits(conclusion, [audited(best, CLEAN), audited("other", CLEAN)], {})
    (line,) = [note for note in found.notes if note.startswith("Audit: ")]
    assert line == (
        f"Audit: {best}, other do not know the future (asked again with the bars after 12 "
        "decisions cut off); the warm-up is enough and answers repeat."
    )


def test_of_an_account_no_more_is_said_than_its_returns_show(conclusion):
    own = replace(audited(best_of(conclusion), CLEAN), account=True)
    found = with_audits(conclusion, [own, audited("other", CLEAN)], {})
    first, second = [note for note in found.notes if note.startswith("Audit: ")]
    assert first.startswith("Audit: other does not know the future")
    assert "returns up to 12 cuts do not change when later bars are cut off" in second
    assert "Whether a position earns the bar on which it was decided cannot be seen" in second
    assert "know the future" not in second


def test_what_does_not_repeat_itself_is_told_that_looking_ahead_was_not_tested(conclusion):
    reason = {"lookahead": "asked twice, it gave two answers"}
    findings = AuditFindings(deterministic=False, reasons=reason)
    found = with_audits(conclusion, [audited("other", findings)], {})
    assert (
        "other does not repeat itself: asked twice, it gave two answers, so whether it knows the "
        "future is not tested."
    ) in found.notes


def test_without_an_audit_the_reason_is_kept(conclusion):
    found = not_audited(conclusion, "audit.enabled=false")
    assert found.assessment.document["audit"]["reason"] == "audit.enabled=false"
    assert found.notes == conclusion.notes


def test_without_returns_there_are_notes_alone(conclusion):
    bare = replace(conclusion, assessment=None, skill=None)
    found = with_audits(bare, [audited(best_of(conclusion), FOUND)], {})
    assert found.assessment is None
    assert any("knows the future" in note for note in found.notes)
