"""The rules of the verdict, one by one."""

from dataclasses import replace

import pytest

from backtest_batch.analysis.overfitting.scenario import (
    AGAINST_CASH,
    ALL_SAME,
    ALL_SAME_WITHIN,
)
from backtest_batch.analysis.overfitting.trials_band import TrialsBand
from backtest_batch.analysis.overfitting.verdict import (
    Evidence,
    FactorEvidence,
    Opinions,
    judge,
    judged_apart,
    percentage,
)

FINE = Opinions(sharpe=0.15, noise_sharpe=0.08, dsr=0.99, pbo=0.05, p_oos_loss=0.02)

SKILL = Evidence(
    n_trials=20,
    n_trials_experiment=20,
    n_counted=20,
    n_valid=20,
    untested="",
    n_bars=1_000,
    bars_per_year=252.0,
    longest_warmup="run_9",
    first_end=None,
    run_id="run_3",
    annual_sharpe=2.38,
    interval=(1.1, 3.6),
    ranked_first=None,
    all_equal="",
    spa_pvalue=0.002,
    benchmark_spa_pvalue=0.004,
    no_benchmark="",
    psr=0.999,
    benchmark_t=4.2,
    winner_beats_benchmark=True,
    survivors=("run_3", "run_4"),
    raw=FINE,
    adjusted=FINE,
    neighbour_t=1.0,
    walk_forward_t=1.5,
    min_track_record_bars=120.0,
)


def test_skill():
    verdict = judge(SKILL)
    assert verdict.label == "skill"
    assert verdict.sentence == (
        "skill: the best of 20 trials, run_3 (Sharpe ratio 2.38 a year), beats zero (p = 0.002) "
        "and the benchmark at equal beta (p = 0.004), the selection accounted for; 1 other run "
        "survives"
    )
    assert verdict.reasons == (
        "1,000 daily returns, 252 of them a year",
        "SPA test against zero: p = 0.002",
        "SPA test against the benchmark at equal beta: p = 0.004",
        "runs that survive both tests: 2 of 20",
        "probabilistic Sharpe ratio: 0.999",
        "deflated Sharpe ratio: 0.990",
        "probability of backtest overfitting: 0.050",
        "minimum track record: 120 bars, there are 1,000",
    )


CASH = replace(
    SKILL,
    benchmark_spa_pvalue=None,
    is_against_cash=True,
    no_benchmark=AGAINST_CASH,
    benchmark_t=None,
    winner_beats_benchmark=False,
)


@pytest.mark.parametrize(
    ("changes", "label", "said"),
    [
        ({}, "skill", "this is against cash alone, no benchmark was given (benchmark=none)"),
        ({"spa_pvalue": 0.2}, "luck", "is no better than the best of as many strategies"),
        ({"walk_forward_t": -0.1}, "luck", "(p = 0.002 against zero; no benchmark was given), but"),
        ({"is_against_cash": False}, "cannot_tell", "beats zero (p = 0.002), but there is none"),
    ],
)
def test_without_a_benchmark_by_choice_the_test_against_zero_decides(changes, label, said):
    verdict = judge(replace(CASH, **changes))
    assert verdict.label == label
    assert said in verdict.sentence
    assert any("no test against the benchmark" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("changes", "label", "said"),
    [
        ({"spa_pvalue": 0.05}, "skill", "p = 0.050"),
        ({"spa_pvalue": 0.051}, "luck", "is no better than the best of as many strategies"),
        ({"benchmark_spa_pvalue": 0.05}, "skill", "p = 0.050"),
        ({"benchmark_spa_pvalue": 0.2}, "luck", "but not the benchmark at equal beta (p = 0.200)"),
        ({"winner_beats_benchmark": False}, "luck", "is not among the runs that beat the bench"),
        ({"annual_sharpe": -0.1}, "luck", "is no better than"),
        ({"walk_forward_t": -0.1}, "luck", "the walk-forward loses out of sample (t = -0.1)"),
        ({"walk_forward_t": None}, "skill", ""),
        ({"neighbour_t": -1.7}, "luck", "its neighbours in the grid lose (t = -1.7)"),
        ({"neighbour_t": -1.6}, "skill", ""),
        ({"n_valid": 18}, "skill", "the best of 20 trials, 18 testable, run_3"),
        ({"n_bars": 250}, "skill", ""),
        (
            {"n_bars": 249},
            "cannot_tell",
            "share 249 daily returns, at least 250 are needed (they start where run_9 does)",
        ),
        ({"n_bars": 361, "bars_per_year": 365.0}, "cannot_tell", "at least 362 are needed"),
        ({"n_bars": 60, "bars_per_year": 12.0}, "skill", ""),
        (
            {"n_bars": 59, "bars_per_year": 52.0},
            "cannot_tell",
            "share 59 weekly returns, at least 60 are needed",
        ),
        ({"n_bars": 59, "bars_per_year": 26.0}, "cannot_tell", "the trials share 59 returns, at"),
        ({"n_valid": 1}, "cannot_tell", "only 1 of 20 strategies can be tested"),
        (
            {"n_bars": 200, "first_end": "run_2"},
            "cannot_tell",
            "(they start where run_9 does and end where run_2 does)",
        ),
        ({"n_valid": 0}, "cannot_tell", "no run has returns"),
        (
            {"n_valid": 0, "untested": "the trials share 0 returns (a ends before b)"},
            "cannot_tell",
            "cannot tell: the trials share 0 returns (a ends before b)",
        ),
        (
            {"n_trials": 1, "n_valid": 1, "n_trials_experiment": 60},
            "cannot_tell",
            "one strategy was tried, after 59 others in earlier batches: if it was picked among "
            "these, that is not accounted for (its own",
        ),
        (
            {"n_trials": 1, "n_valid": 1, "n_trials_experiment": 1},
            "cannot_tell",
            "cannot tell: one strategy was tried, nothing was selected (its own Sharpe ratio is "
            "2.38 a year, 1.10 to 3.60 at 95 %, beyond the benchmark at equal beta t = 4.2)",
        ),
        (
            {"all_equal": ALL_SAME, "spa_pvalue": None, "benchmark_spa_pvalue": None},
            "cannot_tell",
            "all 20 strategies have the same returns, nothing was selected",
        ),
        (
            {"all_equal": ALL_SAME_WITHIN, "spa_pvalue": None, "benchmark_spa_pvalue": None},
            "cannot_tell",
            "all 20 strategies have the same returns on the bars that they share: what was "
            "selected lies outside",
        ),
        (
            {"benchmark_spa_pvalue": None, "no_benchmark": "there is no benchmark"},
            "cannot_tell",
            "beats zero (p = 0.002), but there is no benchmark",
        ),
        (
            {"benchmark_spa_pvalue": None, "spa_pvalue": 0.3, "no_benchmark": "none"},
            "luck",
            "is no better than",
        ),
        # The minimum track record is shown and does not decide.
        ({"min_track_record_bars": 5_000.0}, "skill", ""),
    ],
)
def test_rules(changes, label, said):
    verdict = judge(replace(SKILL, **changes))
    assert verdict.label == label
    assert said in verdict.sentence
    assert verdict.sentence.startswith(label.replace("_", " ") + ": ")


@pytest.mark.parametrize("kind", ["raw", "adjusted"])
@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"noise_sharpe": 0.16}, "luck"),
        # A low DSR alone may come from trials that truly differ.
        ({"dsr": 0.01}, "skill"),
        # PBO alone may come from equally good runs.
        ({"pbo": 0.9}, "skill"),
        ({"pbo": 0.9, "p_oos_loss": 0.6}, "luck"),
        ({"pbo": 0.4, "p_oos_loss": 0.6}, "skill"),
        ({"dsr": None, "noise_sharpe": None, "pbo": None, "p_oos_loss": None}, "skill"),
    ],
)
def test_second_opinions(kind, changes, label):
    verdict = judge(replace(SKILL, **{kind: replace(FINE, **changes)}))
    assert verdict.label == label
    if label == "luck":
        assert "passes the tests" in verdict.sentence
        said, figures, _ = verdict.reasons[-1].partition(" (")
        beyond = " beyond the benchmark" * (kind == "adjusted")
        assert said.replace(" after", f"{beyond} after") in verdict.sentence
        assert figures
        assert "a bar" not in verdict.sentence
        assert "beta-adjusted" not in verdict.sentence


def test_a_low_deflated_sharpe_ratio_that_does_not_count_says_so():
    verdict = judge(replace(SKILL, raw=replace(FINE, dsr=0.1)))
    assert (
        "deflated Sharpe ratio: 0.100 (not held against it: the trials differ by more than "
        "sampling noise)" in verdict.reasons
    )


def test_earlier_trials_are_mentioned_and_whether_they_count():
    said = "11 more strategies were tried in earlier batches: "
    verdict = judge(replace(SKILL, n_trials_experiment=31, n_counted=31))
    assert verdict.reasons[-1] == (f"{said}they enter the deflated Sharpe ratio, not the tests")
    verdict = judge(replace(SKILL, n_trials_experiment=31))
    assert verdict.reasons[-1] == f"{said}with trials=batch they are not counted"


def test_skill_is_said_of_the_survivors_and_luck_of_nobody():
    verdict = judge(SKILL)
    assert [verdict.calls_skilled(name) for name in ("run_3", "run_4", "run_5")] == [
        True, True, False,
    ]  # fmt: skip
    # Another run may well pass the tests: no run is called skilled beside a verdict of luck.
    verdict = judge(replace(SKILL, winner_beats_benchmark=False, survivors=("run_4",)))
    assert verdict.label == "luck"
    assert verdict.calls_skilled("run_4") is False
    assert judge(replace(SKILL, n_bars=249)).calls_skilled("run_3") is None


def test_data_that_were_judged_one_by_one_are_no_selection():
    luck = judge(replace(SKILL, spa_pvalue=0.3))
    verdict = judged_apart(judge(SKILL), ["data.symbols"], [judge(SKILL), luck, luck])
    assert verdict.label == "skill"
    assert (
        "the values of data.symbols were judged one by one, nothing was selected over them"
        in verdict.sentence
    )
    assert verdict.reasons[-1] == (
        "of 3 scenarios, 1 of 3 that can be judged pass as skill; without any skill, up to 0.2 "
        "would"
    )
    assert verdict.calls_skilled("run_3")


def test_another_run_that_ranks_first_is_mentioned():
    verdict = judge(replace(SKILL, ranked_first="run_8"))
    assert verdict.label == "skill"
    assert verdict.reasons[-1] == "the ranking's first is another run, run_8"
    assert verdict.sentence.endswith("; the ranking's first, run_8, is not among those that do")
    verdict = judge(replace(SKILL, ranked_first="run_4"))
    assert verdict.sentence.endswith("; the ranking's first, run_4, is among those that do")


def test_trials_without_returns_are_named_where_the_selection_is_accounted_for():
    verdict = judge(replace(SKILL, n_unkept=20))
    assert "of the trials, 20 left no returns: the deflated Sharpe ratio" in verdict.sentence
    assert any("20 left no returns" in reason for reason in verdict.reasons)
    assert "left no returns" not in str(judge(SKILL))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spa_pvalue": 0.2}, "a true Sharpe ratio of 0.5 a year would have been found in 31 %"),
        (
            {"benchmark_spa_pvalue": 0.2},
            "(p = 0.200); a true Sharpe ratio of 0.5 a year beyond the benchmark would have been "
            "found in 8 % of such samples",
        ),
        ({"n_bars": 249}, "0.5 a year beyond the benchmark would have been found in 8 %"),
        ({"n_trials": 1, "n_valid": 1}, "0.5 a year beyond the benchmark would have been found"),
        ({"all_equal": ALL_SAME}, "0.5 a year beyond the benchmark would have been found in 8 %"),
    ],
)
def test_luck_and_cannot_tell_say_what_the_test_could_have_found(changes, said):
    verdict = judge(replace(SKILL, powers=(0.311, 0.082), **changes))
    assert said in verdict.sentence
    assert verdict.sentence.count(": ") <= 2
    assert any(
        reason == "power at a true Sharpe ratio of 0.5 a year: 31 % against zero, 8 % against the "
        "benchmark"
        for reason in verdict.reasons
    )


def test_a_test_that_was_passed_has_no_power_to_tell():
    for changes in ({}, {"walk_forward_t": -1.0}, {"benchmark_spa_pvalue": None}):
        verdict = judge(replace(SKILL, powers=(0.3, 0.1), **changes))
        assert "would have been found" not in verdict.sentence


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.001, "less than 1 %"), (0.31, "31 %"), (0.999, "more than 99 %")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_none_or_all(share, text):
    assert percentage(share) == text


BAND = TrialsBand(participation=3.4, effective_rank=8.0, onc=4)


def test_the_sentence_says_when_similar_trials_would_change_it():
    close = replace(FINE, sharpe=0.07, noise_sharpe=0.08, turns_at=6)
    verdict = judge(replace(SKILL, raw=close, band=BAND))
    assert verdict.label == "luck"
    though = ", though not after fewer than 6, and these trials are so alike that they count as "
    assert f"Sharpe ratio after 20 trials{though}3 to 8" in verdict.sentence
    assert f"(returns: 0.0700 a bar against 0.0800){though}3 to 8" in verdict.reasons[-1]
    same = judge(replace(SKILL, raw=close, band=replace(BAND, effective_rank=3.1)))
    assert same.sentence.endswith(f"{though}3")
    assert any("or 4 (clusters): chance is expected to do as well with 6 t" in reason
               for reason in verdict.reasons)  # fmt: skip
    sure = judge(replace(SKILL, raw=replace(close, turns_at=3), band=BAND))
    assert "though" not in sure.sentence


@pytest.mark.parametrize(
    "changes",
    [{"n_trials_experiment": 57, "n_counted": 57}, {"n_trials": 57, "n_counted": 57,
     "n_unkept": 37}, {"n_trials": 57, "n_counted": 57}],
)  # fmt: skip
def test_correlations_say_nothing_of_trials_whose_returns_are_not_known(changes):
    close = replace(FINE, sharpe=0.07, noise_sharpe=0.08, turns_at=6)
    verdict = judge(replace(SKILL, raw=close, band=BAND, **changes))
    assert "Sharpe ratio after 57 trials" in verdict.sentence
    assert "alike" not in str(verdict)
    assert any(
        reason.startswith("57 trials; of the 20 trials whose returns are known, by their corr")
        for reason in verdict.reasons
    )


def test_large_numbers_of_trials_are_written_in_thousands():
    verdict = judge(replace(SKILL, n_trials=10**9, n_counted=10**9, n_unkept=10**9 - 20))
    assert "the best of 1,000,000,000 trials, 20 testable" in verdict.sentence


def test_a_benchmark_that_the_factors_make_up_is_said_to_be_left_out():
    factors = FactorEvidence(
        names=("A",), pvalue=0.01, n_bars=1_000, alpha_t=2.0, is_winner_among=True, nothing="",
        left_out="the benchmark is left out",
    )  # fmt: skip
    verdict = judge(replace(SKILL, factors=factors))
    assert "test against the factors: the benchmark is left out" in verdict.reasons
