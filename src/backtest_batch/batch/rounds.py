"""What a batch computes next: everything at once, or one round of a search after another."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from backtest_batch.analysis.ranking import OPERATORS, Constraint, Ranking
from backtest_batch.batch.plan import Plan, Planning, faults_text, make_plan
from backtest_batch.core.fitting import walks_forward
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.interrupt import heed
from backtest_batch.records import BatchRequest, RunRecord, RunResult, RunSpec
from backtest_batch.search.samplers import IGNORES_RESULTS, SEVERAL_METRICS
from backtest_batch.search.space import Point
from backtest_batch.search.study import FAILED, Judged, Proposal, SearchSettings, Study

MOST_INVALID = 200
"""If none of the first so many points can be run, the search is refused."""

LEAST_EXCESS = 1e-12
"""How far a bound is exceeded that must not even be reached."""

Records = Mapping[str, RunRecord]
"""The runs that have ended, by run key."""


class Rounds(Protocol):
    """Knows the runs of a batch as far as they are known, and which ones come next."""

    @property
    def plan(self) -> Plan:
        """All runs that are known."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know at the end."""

    def advance(self, records: Records) -> bool:
        """Add the next runs, given how all known ones ended; return whether there are any."""


class OneRound:
    """A batch whose runs are all known when it begins."""

    notes: Sequence[str] = ()

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def advance(self, records: Records) -> bool:  # noqa: ARG002 - all runs have ended
        """Return False: there are no further runs."""
        return False


class SearchRounds:
    """A search: its rounds depend on how the runs of the rounds before have ended.

    Parameters
    ----------
    request
        The batch; its ``proposals`` say what can be chosen.
    ranking
        What is better.

    Raises
    ------
    ConfigurationError
        When the search cannot be made, or none of its first points can be run.
    """

    def __init__(self, request: BatchRequest, ranking: Ranking) -> None:
        assert request.proposals is not None
        config = request.config
        self.proposals = request.proposals
        self._ranking = ranking
        self._across = config["search"]["across"]
        self.study = Study(self.proposals.space, search_settings(request, ranking), self._identify)
        self._planning = Planning()
        self._faults: list[Fault] = []
        self._n_invalid = 0
        self._n_left_out = 0
        self._specs: dict[int, list[RunSpec]] = {}
        self._most_runs = request.size
        self.points: dict[int, Point] = {}
        """The points that were proposed, by number."""
        self._round: list[Proposal] = []
        if walks_forward(config):
            self._ask_all()
        else:
            self._ask()
        if not self.points:
            raise self._refusal()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is proposed."""
        return not self._round

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know at the end."""
        study, settings = self.study, self.study.settings
        before = " before the constraint" if self.proposals.constraint else ""
        n_cells = self.proposals.space.grid_size(list(self.points.values()))
        n_points, did = study.n_asked, "evaluated" if self.is_over else "proposed"
        grid = (
            f"; a grid of the same resolution has {n_cells:,}{before}" if n_cells > n_points else ""
        )
        said = [
            f"search={settings.method} {did} {n_points:,} decisions{grid}. Every one that was "
            "evaluated counts as a trial."
        ]
        if study.ending:
            said.append(
                f"The search ended before search.n_trials={settings.n_trials:,}: {study.ending}."
            )
        if self._n_left_out:
            said.append(
                f"{self._n_left_out:,} proposals do not satisfy the constraint: they are no runs."
            )
        if self._n_invalid:
            first = self._faults[0]
            said.append(
                f"{self._n_invalid:,} proposals cannot be run and were passed over; the first: "
                f"{first} ({first.run})."
            )
        return said

    def advance(self, records: Records) -> bool:
        """Tell the search how the runs of its round ended, and plan the next round."""
        if self.is_over:
            return False
        self.study.tell({item.number: self._judge(item.number, records) for item in self._round})
        self._ask()
        return bool(self._round)

    def _ask_all(self) -> None:
        """Plan all rounds at once: what is proposed depends on no result.

        A walk-forward must know all runs before it divides their bars. Since no study of a split
        would look at results, each would ask for the same: every split may choose among all runs.
        """
        unseen = Judged(values=(0.0,) * len(self._ranking.metrics))
        while proposals := self.study.ask():
            self.points |= {item.number: item.point for item in proposals}
            self.study.tell({item.number: unseen for item in proposals})
        self.plan = replace(self._planning.plan(), n_skipped_cells=self.study.n_impossible)

    def _ask(self) -> None:
        self._round = self.study.ask()
        self.points |= {item.number: item.point for item in self._round}
        most = 0 if self.is_over else self._most_runs
        plan = self._planning.plan(most)
        self.plan = replace(plan, n_skipped_cells=self.study.n_impossible)

    def _identify(self, point: Point) -> Hashable | None:
        """Plan the runs of a point; return their run keys, or None if one is invalid."""
        heed()
        if not self._holds(point):
            self._n_left_out += 1
            return None
        number = self.study.n_asked + 1
        specs, faults = self._planning.add_together(
            self.proposals.compose(point), trial=number, search_round=self.study.round_number
        )
        if faults or not specs:
            self._faults += faults if len(self._faults) < MOST_INVALID else ()
            self._n_invalid += 1
            if self._n_invalid >= MOST_INVALID and not self._specs:
                raise self._refusal()
            return None
        keys = tuple(dict.fromkeys(spec.run_key for spec in specs))
        self._specs[number] = specs  # of a point that is known, the next one takes its place
        return keys

    def _holds(self, point: Point) -> bool:
        try:
            return self.proposals.holds(point)
        except ConfigurationError:
            if self.study.round_number == 1:  # nothing has been run
                raise
            return False

    def _refusal(self) -> ConfigurationError:
        if not self._faults:
            return ConfigurationError(
                f"constraint: none of {self._n_left_out:,} points that were drawn satisfies "
                f"{self.proposals.constraint}; nothing was run. Change the constraint, or the axes"
            )
        return ConfigurationError(
            faults_text(self._faults, self._n_invalid, max(self._n_invalid, 2)), self._faults
        )

    def _judge(self, number: int, records: Records) -> Judged:
        """Return how good a decision is, in the first scenario or across all of them."""
        specs = self._specs[number][: 1 if self._across == "first" else None]
        found = []
        for spec in specs:
            outcome = records[spec.run_key].outcome
            if not isinstance(outcome, RunResult):
                return FAILED
            found.append(outcome.metrics)
        wanted = [*self._ranking.metrics, *(item.metric for item in self._ranking.constraints)]
        if any(name not in metrics for metrics in found for name in wanted):
            return FAILED
        merge = np.mean if self._across == "mean" else min
        values = []
        for name in self._ranking.metrics:
            sign = self._ranking.direction_of(name)
            values.append(sign * float(merge([sign * metrics[name] for metrics in found])))
        worst = np.mean if self._across == "mean" else max
        constraints = {
            str(bound): float(worst([excess(bound, metrics[bound.metric]) for metrics in found]))
            for bound in self._ranking.constraints
        }
        return Judged(values=tuple(values), constraints=constraints)


def excess(bound: Constraint, value: float) -> float:
    """Return how far a metric is beyond its bound: zero or less where the bound is kept."""
    distance = abs(value - bound.bound)
    if OPERATORS[bound.operator](value, bound.bound):
        return -distance
    return max(distance, LEAST_EXCESS)


def search_settings(request: BatchRequest, ranking: Ranking) -> SearchSettings:
    """Return how the search of a batch proceeds.

    Raises
    ------
    ConfigurationError
        When it cannot work with such a ranking.
    """
    chosen = request.config["search"]
    method = chosen["method"]
    if walks_forward(request.config) and (
        method not in IGNORES_RESULTS or chosen["patience"] is not None
    ):
        raise ConfigurationError(
            f"search={method}: looks at results of all bars, and would have seen those that "
            "walk_forward tests on. Use search=random or search=sobol without search.patience, "
            "whose proposals depend on no result, search=grid, or leave walk_forward out"
        )
    if ranking.weighted and (method not in SEVERAL_METRICS or chosen["patience"] is not None):
        of_what = "search.patience needs" if method in SEVERAL_METRICS else "it seeks"
        raise ConfigurationError(
            f"search={method}: rank_by weighs several metrics ({', '.join(ranking.metrics)}), and "
            f"a weighted score depends on all runs of the batch; {of_what} the best of one metric. "
            "Use search=nsga2, which looks for the best compromises of several, or rank by one "
            "metric"
        )
    directions = tuple(ranking.direction_of(name) for name in ranking.metrics)
    return SearchSettings(
        method=method,
        n_trials=chosen["n_trials"],
        batch_size=chosen["batch_size"],
        seed=chosen["seed"],
        patience=chosen["patience"],
        options=chosen["sampler"] or {},
        directions=directions,
    )


def make_rounds(request: BatchRequest, ranking: Ranking) -> Rounds:
    """Plan a batch: all of its runs, or the first round of its search.

    Raises
    ------
    ConfigurationError
        When any combination is invalid, or the search cannot begin.
    """
    if request.proposals is None:
        plan = make_plan(
            request.compositions,
            invalid=request.config["invalid"],
            n_left_out=request.n_left_out,
        )
        return OneRound(plan)
    return SearchRounds(request, ranking)
