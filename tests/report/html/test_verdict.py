from typing import Any

import pytest

from backtest_batch.analysis.overfitting.explanations import EXPLANATIONS
from backtest_batch.report.html import ReportData
from backtest_batch.report.html.verdict import figure_text, verdict_view


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("spa_pvalue", 0.0004, "< 0.001"),
        ("spa_pvalue", 1 / 1001, "0.001"),
        ("spa_pvalue", 0.0494, "0.049"),
        ("dsr", 0.95049, "0.950"),
        ("sr0", 0.11324, "0.1132 a bar"),
        ("min_track_record_length_bars", 4852.4, "4,852 bars"),
        ("min_backtest_length_years", 2.726, "2.73 years"),
        ("sharpe_ci", {"low": -0.123, "high": 1.0, "level": 0.95}, "-0.12 to 1.00 a year (95%)"),
        (
            "adjusted_pvalues",
            {"holm": 0.5, "benjamini_yekutieli": 1.0},
            "Holm 0.500, Benjamini-Yekutieli 1.000",
        ),
        ("stepm_survivors", [], "none"),
        ("stepm_survivors", ["a", "b"], "2: a, b"),
        ("effective_trials", 1.08234, "1.082"),
        ("n_trials", 1234, "1,234"),
        ("pbo", None, "undefined"),
    ],
)
def test_figures_as_text(key: str, value: Any, text: str) -> None:
    assert figure_text(key, value) == text


def test_many_survivors_are_counted() -> None:
    text = figure_text("stepm_survivors", [f"r{i}" for i in range(25)])
    assert text == "25: r0, r1, r2, r3, r4, r5 and 19 more"


def test_every_figure_of_a_real_verdict_is_explained(grid: ReportData) -> None:
    assert grid.overfitting is not None
    view = verdict_view(grid.overfitting)
    assert view.label in ("skill", "luck", "cannot_tell")
    assert [figure.key for figure in view.figures] == [
        key for key in EXPLANATIONS if key != "verdict"
    ]
    assert all(figure.what and figure.what_not and figure.source for figure in view.figures)
    assert view.scenarios is not None
    assert len(view.scenarios.rows) == 3


def test_the_sentence_does_not_repeat_the_label() -> None:
    verdict = {"label": "cannot_tell", "sentence": "cannot tell: one strategy was tried"}
    view = verdict_view({"verdict": verdict})
    assert view.word == "Cannot tell"
    assert view.sentence == "One strategy was tried."
    assert view.figures == []
    assert view.basis == ""


def test_an_undefined_figure_has_its_reason_and_no_tile() -> None:
    view = verdict_view(
        {
            "verdict": {"label": "luck", "sentence": "luck: x"},
            "pbo": None,
            "dsr": 0.5,
            "undefined": {"pbo": "fewer bars than blocks"},
        }
    )
    by_key = {figure.key: figure for figure in view.figures}
    assert (by_key["pbo"].value, by_key["pbo"].reason) == ("undefined", "fewer bars than blocks")
    assert view.tiles == [("deflated Sharpe ratio", "0.500")]


def test_trials_of_earlier_batches_are_shown_where_there_are_any() -> None:
    def trials(n_trials: int, n_trials_experiment: int) -> str:
        counts = {"n_trials": n_trials, "n_trials_experiment": n_trials_experiment}
        return verdict_view(counts).figures[0].value

    assert trials(20, 20) == "20"
    assert trials(20, 55) == "20 in this batch, 55 in the experiment"


def test_an_invalid_verdict_shows_what_the_audit_has_seen() -> None:
    sentence = (
        "on 2015-01-07 the weight of A is 1 with all bars, and 0 when the bars after are cut off"
    )
    run = {
        "run_id": "run_1",
        "strategy": "mine.Cheat",
        "lookahead": "found",
        "warmup": "untested",
        "deterministic": True,
        "n_decisions": 12,
        "reasons": {"warmup": "it is fitted in each split"},
        "examples": [{"sentence": sentence}],
    }
    view = verdict_view(
        {
            "verdict": {"label": "invalid", "sentence": "invalid: run_1 knows the future"},
            "audit": {"lookahead": "found", "runs": [run]},
        }
    )
    assert (view.label, view.word, view.mark) == ("invalid", "Invalid", "!")
    assert view.sentence == "Run_1 knows the future."
    assert view.audit is not None
    seen = f"{sentence}; it is fitted in each split"
    assert view.audit.rows == [("run_1", "yes", "not tested", "yes", "12", seen)]


def test_without_audited_runs_there_is_no_table_of_them() -> None:
    verdict = {"label": "luck", "sentence": "luck: x"}
    assert verdict_view({"verdict": verdict, "audit": {"runs": []}}).audit is None
    assert verdict_view({"verdict": verdict}).audit is None
