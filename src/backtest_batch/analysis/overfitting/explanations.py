"""Every figure of overfitting.json in plain words: what it is, what it is not, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One figure in plain words.

    Attributes
    ----------
    title
        Its name in full.
    what
        What it is.
    what_not
        What it is not.
    source
        Author and year.
    """

    title: str
    what: str
    what_not: str
    source: str


EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        "verdict": Explanation(
            title="Verdict",
            what="Whether the best run of the sweep is better than the best of as many runs "
            "without skill, by fixed rules.",
            what_not="A forecast, or a judgement of costs, data and assumptions of the backtest.",
            source="The rules in docs/statistics.md",
        ),
        "n_trials": Explanation(
            title="Number of trials",
            what="Distinct strategies tried, failed ones included; runs that differ only in "
            "costs, dates or caps are one strategy.",
            what_not="The number of independent ideas: similar strategies count one by one.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "sharpe_ci": Explanation(
            title="Confidence interval of the Sharpe ratio",
            what="The range of the winner's annual Sharpe ratio over resampled histories.",
            what_not="Corrected for having picked the winner: it is too high by the selection.",
            source="Politis and Romano (1994)",
        ),
        "psr": Explanation(
            title="Probabilistic Sharpe ratio (classical)",
            what="The probability that the true Sharpe ratio is above zero, given the length, "
            "skew and fat tails of the returns.",
            what_not="Corrected for the number of trials; it treats the bars as independent.",
            source="Bailey and Lopez de Prado (2012)",
        ),
        "sr0": Explanation(
            title="Expected best Sharpe ratio without skill",
            what="The Sharpe ratio a bar that the best of N trials is expected to show by chance.",
            what_not="A hurdle the market sets: it depends on how much the trials differ, and is "
            "too high when they truly differ.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "dsr": Explanation(
            title="Deflated Sharpe ratio (classical)",
            what="The probability that the true Sharpe ratio is above the expected best of N "
            "trials without skill.",
            what_not="The probability that the strategy makes money.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "min_track_record_length_bars": Explanation(
            title="Minimum track record length (classical)",
            what="How many bars it takes until the probabilistic Sharpe ratio reaches 95 %.",
            what_not="A rule of the verdict, or corrected for selection.",
            source="Bailey and Lopez de Prado (2012)",
        ),
        "min_backtest_length_years": Explanation(
            title="Minimum backtest length",
            what="On fewer years than this, the best of N trials without skill is expected to "
            "show the winner's Sharpe ratio.",
            what_not="Long enough: it is the length below which the result means nothing.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2014)",
        ),
        "pbo": Explanation(
            title="Probability of backtest overfitting",
            what="How often the run that is best on one half of the history is no better than "
            "the median run on the other half.",
            what_not="The probability of a loss: equally good runs give about one half.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2017)",
        ),
        "p_oos_loss": Explanation(
            title="Probability of an out-of-sample loss",
            what="How often the run that is best on one half of the history loses on the other.",
            what_not="A forecast of a loss: halves of one history are not the future.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2017)",
        ),
        "reality_check_pvalue": Explanation(
            title="Reality check",
            what="The probability of a best Sharpe ratio this high when no run has skill, all "
            "runs taken as equally good.",
            what_not="Sensitive: a sweep full of poor runs hides a good one.",
            source="White (2000)",
        ),
        "spa_pvalue": Explanation(
            title="Test for superior predictive ability, against zero",
            what="The same, with runs that are clearly poor left out.",
            what_not="Enough for skill: in a rising market any long book beats zero.",
            source="Hansen (2005)",
        ),
        "benchmark_spa_pvalue": Explanation(
            title="Test for superior predictive ability, against the benchmark",
            what="The same on what is left of the returns when the benchmark's share is taken "
            "out (at equal beta).",
            what_not="Proof against other known sources of return: there is one benchmark.",
            source="Hansen (2005)",
        ),
        "stepm_survivors": Explanation(
            title="Surviving runs",
            what="The runs that are better than zero, with at most a 5 % chance that even one "
            "of them is there by luck.",
            what_not="A list of good strategies: it is not corrected for the market.",
            source="Romano and Wolf (2005)",
        ),
        "adjusted_pvalues": Explanation(
            title="Adjusted p-values of the winner",
            what="The p-value of the winner's t-statistic, raised for the number of trials: Holm "
            "bounds any false find, Benjamini-Yekutieli the share of false finds.",
            what_not="Aware that similar runs repeat each other: both are strict.",
            source="Holm (1979); Benjamini and Yekutieli (2001)",
        ),
        "haircut_sharpe": Explanation(
            title="Haircut Sharpe ratio",
            what="The Sharpe ratio a bar that a single trial would need for the winner's "
            "Holm-adjusted p-value.",
            what_not="An estimate of the true Sharpe ratio.",
            source="Harvey and Liu (2015)",
        ),
        "permutation": Explanation(
            title="Permutation test of the whole search",
            what="How often the same search finds as much on markets whose bars have changed "
            "places.",
            what_not="A test of what does not depend on the order of the bars: assets that rise in "
            "the long run rise in any order.",
            source="Ramdas, Barber, Candes and Tibshirani (2023)",
        ),
        "factors": Explanation(
            title="Test against the factors",
            what="The test on what is left of the returns when the shares of the factors and of "
            "the benchmark are taken out together; t is that of the winner's intercept, with a "
            "standard error that allows for autocorrelation.",
            what_not="A bound on slopes that move with what follows: each is one number for the "
            "whole time.",
            source="Jensen (1968); Newey and West (1987); Hansen (2005)",
        ),
        "effective_trials": Explanation(
            title="Effective number of trials",
            what="How many uncorrelated runs are as diverse as these (participation ratio of "
            "the correlation matrix).",
            what_not="Used by any test: the tests know the correlation already.",
            source="Participation ratio of the eigenvalues",
        ),
        "sharpe_lower_bound": Explanation(
            title="Lower bound of the Sharpe ratio",
            what="The winner's true Sharpe ratio a year is above this with 95 % confidence, "
            "whichever run was picked: the bounds of all runs hold together, and are in "
            "rankings.csv.",
            what_not="Tight: it asks nothing of the returns but thin tails and independent bars, "
            "and is far below zero on a few years.",
            source="Paleologo (2024)",
        ),
        "trials_band.participation": Explanation(
            title="Trials by participation ratio",
            what="How many uncorrelated runs have as many squared correlations as these.",
            what_not="The number of ideas: what moves the whole market counts as one.",
            source="Participation ratio of the eigenvalues",
        ),
        "trials_band.effective_rank": Explanation(
            title="Trials by effective rank",
            what="How many directions the returns of the runs take: the exponential of the "
            "entropy of the eigenvalues of their correlation matrix.",
            what_not="Small for runs with much noise of their own, even if they are one idea.",
            source="Roy and Vetterli (2007)",
        ),
        "trials_band.onc": Explanation(
            title="Trials by clusters",
            what="The number of groups of runs that resemble each other (k-means, the number by "
            "the quality of the silhouettes), among at most 80 runs.",
            what_not="Good where there are no groups: of independent runs it finds two or a few.",
            source="Lopez de Prado and Lewis (2019)",
        ),
        "trials_band.flips_at": Explanation(
            title="Number of trials that turns the deflated ratio",
            what="From how many trials on chance alone is expected to show the winner's Sharpe "
            "ratio, so that it is held against it.",
            what_not="A count of anything: compare it with the number of trials and the estimates "
            "of it.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "inference.power": Explanation(
            title="Power",
            what="How often the test, with the selection accounted for, finds a run whose true "
            "Sharpe ratio is 0.5 a year.",
            what_not="The probability that the winner has skill; other true ratios have other "
            "powers.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025); Hansen (2005)",
        ),
        "inference.critical_sharpe": Explanation(
            title="Critical Sharpe ratio",
            what="The Sharpe ratio a bar that the best run must exceed to pass the test at 5 %.",
            what_not="What a single strategy needs: that is lower, since nothing was selected.",
            source="Hansen (2005)",
        ),
        "inference.psr_null": Explanation(
            title="Probability of a lower Sharpe ratio without skill",
            what="One less the p-value of the winner's ratio against zero, its error taken at "
            "zero and with the autocorrelation of the returns.",
            what_not="Corrected for the number of trials; or the classical ratio, whose error is "
            "that at the observed one.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025)",
        ),
        "inference.dsr": Explanation(
            title="The same against the best of the trials",
            what="One less the p-value against the ratio that the best of N trials is expected to "
            "show, with the variance of a maximum.",
            what_not="The classical deflated ratio, or aware of trials that truly differ.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025)",
        ),
        "inference.observed_fdr": Explanation(
            title="Probability of a false find",
            what="The probability that there is no skill, given a best ratio of at least this, if "
            "one sweep in ten holds a run whose true ratio is 0.5 a year.",
            what_not="Known without that assumption, which nobody can check.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025)",
        ),
        "inference.min_track_record_bars": Explanation(
            title="Bars that the winner's ratio needs",
            what="On how many bars the winner's ratio would just be significant at 5 % by itself, "
            "its error taken at zero and with autocorrelation.",
            what_not="Corrected for selection.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025)",
        ),
        "inference.rho": Explanation(
            title="Autocorrelation",
            what="The correlation of the winner's return with that of the bar before.",
            what_not="All dependence in time: the bootstrap's blocks keep what lies further back.",
            source="Lopez de Prado, Lipton and Zoonekynd (2025)",
        ),
        "mean_block": Explanation(
            title="Mean block of the bootstrap",
            what="How many bars in a row are resampled together, on average, so that dependence "
            "in time is kept.",
            what_not="Shorter than 10 bars, unless statistics.mean_block says so.",
            source="Politis and White (2004); Patton, Politis and White (2009)",
        ),
        "beta": Explanation(
            title="Beta",
            what="How much the winner moves when the benchmark moves by one.",
            what_not="Constant in time: it is one least-squares slope over the common bars.",
            source="Jensen (1968)",
        ),
    }
)
"""Explanations by the key of overfitting.json; a dot leads into a figure that holds others."""
