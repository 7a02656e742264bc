"""Skill or luck, of any returns: what a batch says of its runs, said of trials from anywhere."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd

from backtest_batch.analysis.audited import not_audited
from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.analysis.given_returns import (
    GivenReturns,
    conclude_given,
    metrics_of_benchmark,
    untested_note,
)
from backtest_batch.analysis.overfitting.samples import OverfittingSettings
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, direction_of
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.api.decisions import (
    BENCHMARK_COLUMN,
    TriedValues,
    column_levels,
    tried_values,
)
from backtest_batch.api.return_factors import GivenFactors, given_factors
from backtest_batch.api.return_files import (
    GivenBenchmark,
    given_benchmark,
    late_note,
    refuse_cumulative,
    returns_of_file,
    returns_of_trials,
    rows_beside,
)
from backtest_batch.api.single import market_session_end, told_bars_a_year
from backtest_batch.config.checks import checked, default
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.engine.length_change import BarLengths
from backtest_batch.core.engine.metrics import EQUITY_METRICS
from backtest_batch.core.engine.spacing import SESSIONS_PER_YEAR
from backtest_batch.core.kernel_cache import use_kernel_cache
from backtest_batch.errors import ConfigurationError, DataError
from backtest_batch.report.best_params import json_text
from backtest_batch.report.html.figures import MAX_CURVES, returns_curves
from backtest_batch.report.html.notebook import outcome_html
from backtest_batch.report.html.page import render_report
from backtest_batch.report.html.picture import verdict_picture
from backtest_batch.report.markdown import report_data
from backtest_batch.report.tables import rankings_table

_LOG = logging.getLogger("backtest_batch.api")

_NO_BENCHMARK = (
    "No benchmark was given: what beats zero may only have been in a market that rose, and is not "
    "called skill (benchmark: a column or a file; none compares with cash)."
)


class Judgement(dict[str, Any]):
    """The verdict on trials: overfitting.json as a dict, and what people look at.

    In a notebook it shows the verdict, a picture and the best trials. Two are equal when their
    figures are.

    Parameters
    ----------
    conclusion
        The comparison of the trials, with an assessment.
    given
        The trials.
    benchmark
        What they are compared with.
    title
        What they are called.
    """

    def __init__(
        self, conclusion: Conclusion, given: GivenReturns, benchmark: GivenBenchmark, title: str
    ) -> None:
        assert conclusion.assessment is not None
        super().__init__(conclusion.assessment.document)
        self.conclusion = conclusion
        self.given = given
        self.benchmark = benchmark
        self.title = title

    @property
    def label(self) -> str:
        """``skill``, ``luck``, ``cannot_tell`` or, of a batch, ``invalid``."""
        return str(self["verdict"]["label"])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return str(self["verdict"]["sentence"])

    @property
    def reasons(self) -> list[str]:
        """The figures behind the verdict, one line each."""
        return list(self["verdict"]["reasons"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know before trusting the verdict."""
        return self.conclusion.notes

    @property
    def ranking(self) -> pd.DataFrame:
        """The trials, best first, with their metrics."""
        return rankings_table(self.conclusion.table, self.conclusion.ranked, self.conclusion.bounds)

    @property
    def svg(self) -> str:
        """The picture: the best trial's Sharpe ratio, and what the best shows without skill."""
        assert self.conclusion.assessment is not None
        return verdict_picture(self.conclusion.assessment)

    def html(self) -> str:
        """Return report.html."""
        conclusion, given = self.conclusion, self.given
        best = conclusion.best
        name = None if best is None else str(conclusion.table.runs["run_id"][best])
        data = report_data(
            conclusion,
            title=self.title,
            details={},
            facts=self._facts(),
            curves=self._curves(),
            benchmark_metrics=metrics_of_benchmark(given, name),
            benchmark_name=self.benchmark.name or "none",
        )
        return render_report(data)

    def _facts(self) -> dict[str, str]:
        index = self.given.returns.index
        shown = {"Trials": f"{self['n_trials']:,}"}
        kept = len(self.given.returns.columns)
        if kept != self["n_trials"]:
            shown["With returns"] = f"{kept:,} columns"
        return {
            **shown,
            "Bars": f"{len(index):,}, {self.given.periods_per_year:,.4g} of them a year",
            "From": moment_text(index[0]),
            "To": moment_text(index[-1]),
            "Benchmark": self.benchmark.name or "not given",
        }

    def _curves(self) -> Any:
        conclusion, returns = self.conclusion, self.given.returns
        rows = [row for row in conclusion.ranked.index if row < returns.shape[1]]
        shown = rows[:MAX_CURVES]
        frame = returns.iloc[:, shown].set_axis(shown, axis=1)
        if self.given.benchmark is not None:
            frame = frame.assign(benchmark=self.given.benchmark)
        return returns_curves(
            conclusion.table, frame, total=len(rows) if len(shown) < len(rows) else None
        )

    def documents(self) -> dict[str, str]:
        """Return overfitting.json and report.html, by name."""
        return {"overfitting.json": json_text(self), "report.html": self.html()}

    def save(self, folder: str | Path) -> Path:
        """Write overfitting.json and report.html into a folder, which is made; return it.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, text in self.documents().items():
            (target / name).write_text(text, encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        figures = "\n".join([self.sentence, *self.reasons])
        return f"<div>{self.svg}{outcome_html(self.conclusion, figures, output_dir=None)}</div>"


def skill_or_luck(
    returns: pd.DataFrame | pd.Series | str | Path,
    benchmark: Any = None,
    *,
    n_trials: int | None = None,
    decisions: Any = None,
    scenario_axes: Collection[str] = (),
    decision_axes: Collection[str] = (),
    rank_by: str | Mapping[str, float] = default("rank_by"),
    risk_free_rate: float = 0.0,
    periods_per_year: float | None = None,
    session_end: str | None = None,
    returns_unit: str | None = None,
    options: Mapping[str, Any] | None = None,
    benchmark_values: str = default("benchmark_values"),
    factors: Any = None,
    settings: OverfittingSettings | None = None,
    title: str = "",
) -> Judgement:
    """Say whether the best of several return series is skill or luck.

    Parameters
    ----------
    returns
        Net simple returns of shape (n_bars, n_trials), one column for everything that was tried, on
        a DatetimeIndex; 0.01 is 1 %. A Series is one trial. A column ``benchmark`` is the
        benchmark, and no trial. Or the path of a CSV or Parquet file with such a table.
    benchmark
        What the trials are compared with: net returns on the same index, the name of a column, the
        path of a file, or ``none`` for cash alone.
    n_trials
        How many trials there were, if more than there are columns.
    decisions
        Which values each trial tried: a table with a column ``trial`` (or ``run_id``) and one a
        key, a mapping of trials to mappings, or the path of a file, such as rankings.csv of a
        batch; by default the levels of the columns, where they have several, as those of vectorbt.
        Trials that differ only in costs and other scenario keys are then one choice, and
        neighbours in the grid are looked at. Beside the returns.parquet of a batch its
        batch_summary.csv is used, and said; ``none`` leaves it out.
    scenario_axes, decision_axes
        Further keys of these values that count as conditions, or as choices.
    rank_by
        By which metric the trials are ranked.
    risk_free_rate
        Annual rate; 1 / ``periods_per_year`` of it is subtracted per bar.
    periods_per_year
        Bars a year; by default taken from the index, and logged where they are not 252.
    session_end
        When the market's day ends, ``HH:MM`` on the clock of the index; by default at midnight.
        Returns within days are compounded to days.
    returns_unit
        Whether a file holds ``percent`` or ``fraction``; by default told from its size. Given, the
        values are taken for returns of each bar even where they look cumulative.
    options
        How a file is read, with keys of the data's sources: ``{"timestamp_column": "day"}``.
    benchmark_values
        Whether a file of a benchmark holds ``prices`` or ``returns``.
    factors
        What the trials must beat as well, all of it together: a DataFrame of returns (one column a
        factor, above the risk-free rate or long-short), the path of such a file, ``{file: ...,
        unit: percent}``, or a list of columns of ``returns``, which are then no trials.
    settings
        Blocks, draws, mean block and seed of the statistics.
    title
        What the trials are called in the report.

    Returns
    -------
    Judgement
        overfitting.json as a dict (see docs/statistics.md), with ``label``, ``sentence``,
        ``ranking``, a picture ``svg``, and ``save(folder)``.

    Raises
    ------
    DataError
        When a file cannot be read, the index holds no increasing timestamps, the benchmark has
        another index or does not cover the trials, values are not returns (text, prices, percent),
        they go over from one length to another (months to days) and ``periods_per_year`` is not
        given, or ``decisions`` does not fit the trials.
    ConfigurationError
        When ``risk_free_rate``, ``periods_per_year`` or ``n_trials`` is out of its range, or there
        is no such benchmark or metric.
    """
    ranking = Ranking.parse(rank_by)
    _check_metrics(ranking)
    _check_unit(returns_unit)
    _check_count(n_trials)
    kinds = AxisKinds(tuple(scenario_axes), tuple(decision_axes))
    rate = checked({"risk_free_rate": risk_free_rate})["risk_free_rate"]
    place, notes = "the returns", tuple[str, ...]()
    path = str(returns) if isinstance(returns, str | Path) else None
    if isinstance(returns, str | Path):
        place = Path(returns).name
        table, notes = returns_of_file(str(returns), returns_unit, options)
        title = title or place
    else:
        table = returns_of_trials(returns)
    if returns_unit in (None, "auto"):
        refuse_cumulative(table, place)
    found = given_benchmark(benchmark, table, values=benchmark_values, place=place)
    explained = given_factors(factors, table, place)
    trials = _only_trials(table, found, explained, place)
    if decisions is None and isinstance(returns, pd.DataFrame):
        decisions = column_levels(returns.columns, trials.columns)
    tried, about = _tried(decisions, trials, path)
    index = pd.DatetimeIndex(trials.index)
    end = market_session_end(session_end)
    per_year, counted = _per_year(periods_per_year, index, end)
    for note in counted if path is None else ():
        _LOG.warning("%s", note)
    use_kernel_cache()
    given = GivenReturns(
        returns=trials,
        benchmark=found.returns,
        is_against_cash=found.name == "none",
        factors=explained.returns,
        params=None if tried is None else tried.params,
        failed=frozenset() if tried is None else tried.failed,
        kinds=kinds,
        n_trials=None if n_trials is None else int(n_trials),
        periods_per_year=per_year,
        session_end=end,
        risk_free_rate=rate,
    )
    lacking = [] if found.name else [_NO_BENCHMARK]
    said = [*notes, *about, *counted, *found.notes, *explained.notes, *late_note(trials), *lacking]
    conclusion = conclude_given(given, ranking, settings or OverfittingSettings(), said)
    conclusion = _with_notes(conclusion, _late_notes(conclusion, found))
    conclusion = not_audited(conclusion, "only returns were given: there is no strategy to ask")
    return Judgement(conclusion, given, found, title or "returns")


def _late_notes(conclusion: Conclusion, benchmark: GivenBenchmark) -> list[str]:
    notes = untested_note(conclusion)
    if benchmark.returns is not None and conclusion.table.scenario.nunique() > 1:
        notes.append(
            "All scenarios are compared with one benchmark, though each may have had one at its "
            "own costs."
        )
    return notes


def _with_notes(conclusion: Conclusion, notes: list[str]) -> Conclusion:
    return replace(conclusion, notes=(*conclusion.notes, *notes)) if notes else conclusion


def _only_trials(
    table: pd.DataFrame, benchmark: GivenBenchmark, factors: GivenFactors, place: str
) -> pd.DataFrame:
    """Return the columns that are trials."""
    known = (BENCHMARK_COLUMN, benchmark.column, *factors.columns)
    others = [name for name in known if name in table]
    trials = table.drop(columns=list(dict.fromkeys(others)))
    if trials.columns.empty:
        beside = "the benchmark and the factors" if factors.columns else "the benchmark"
        raise DataError(f"{place}: there is no trial beside {beside}")
    return trials


def _tried(
    decisions: Any, trials: pd.DataFrame, path: str | None
) -> tuple[TriedValues | None, list[str]]:
    names = trials.columns.tolist()
    if isinstance(decisions, str) and decisions == "none":
        return None, []
    if decisions is None:
        beside = None if path is None else rows_beside(path, names)
        if beside is None:
            return None, []
        said = f"{beside} says which values each run tried; decisions=none leaves it out."
        return tried_values(beside, names), [said]
    return tried_values(decisions, names), []


def _per_year(
    given: float | None, index: pd.DatetimeIndex, session_end: str | None
) -> tuple[float, tuple[str, ...]]:
    if len(index) < 2 and given is None:
        return float(SESSIONS_PER_YEAR), ()
    measured = BarLengths(index, session_end).measured()
    return told_bars_a_year(given, measured, session_end, has_dates=False)


def _check_unit(unit: str | None) -> None:
    if unit not in (None, "auto", "percent", "fraction"):
        raise ConfigurationError(f"returns_unit={unit}: must be one of auto, percent, fraction")


def _check_metrics(ranking: Ranking) -> None:
    known = (*EQUITY_METRICS, NEIGHBOURHOOD)
    lacking = [name for name in ranking.metrics if name not in known]
    if lacking:
        raise ConfigurationError(
            f"rank_by={lacking[0]}: cannot be worked out from returns alone; they have "
            f"{', '.join(name for name in known if direction_of(name))}"
        )


_MOST_TRIALS = 10**100


def _check_count(n_trials: Any) -> None:
    whole = isinstance(n_trials, Integral) and not isinstance(n_trials, bool)
    if n_trials is not None and not (whole and n_trials >= 1):
        raise ConfigurationError(f"n_trials={n_trials}: must be a whole number >= 1")
    if n_trials is not None and n_trials > _MOST_TRIALS:
        raise ConfigurationError("n_trials: must be at most 10^100")
