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
            title="Probabilistic Sharpe ratio",
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
            title="Deflated Sharpe ratio",
            what="The probability that the true Sharpe ratio is above the expected best of N "
            "trials without skill.",
            what_not="The probability that the strategy makes money.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "min_track_record_length_bars": Explanation(
            title="Minimum track record length",
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
        "beta": Explanation(
            title="Beta",
            what="How much the winner moves when the benchmark moves by one.",
            what_not="Constant in time: it is one least-squares slope over the common bars.",
            source="Jensen (1968)",
        ),
    }
)
"""Explanations by the key of overfitting.json."""
