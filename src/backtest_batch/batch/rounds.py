"""What a batch computes next: everything at once, or one round of a search after another."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from backtest_batch.analysis.ranking import OPERATORS, Constraint, Ranking
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, OUT_OF_SAMPLE
from backtest_batch.arrays import BoolArray
from backtest_batch.batch.plan import Plan, Planning
from backtest_batch.batch.plan_notes import faults_text
from backtest_batch.core.fitting import walks_forward
from backtest_batch.core.splits import Windows
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.interrupt import heed
from backtest_batch.records import BatchRequest, RunRecord, RunResult, RunSpec
from backtest_batch.search.samplers import SEVERAL_METRICS
from backtest_batch.search.space import Point, place_of
from backtest_batch.search.study import FAILED, Judged, Proposal, SearchSettings, Study

MOST_INVALID = 200
"""If none of the first so many points can be run, the search is refused."""

LEAST_EXCESS = 1e-12
"""How far a bound is exceeded that must not even be reached."""

Records = Mapping[str, RunRecord]
"""The runs that have ended, by run key."""

Measure = Callable[[Sequence[RunSpec], Sequence[Windows]], Sequence[Sequence[Mapping[str, float]]]]
"""Measures finished runs on windows: for each window the metrics of each run."""


class Rounds(Protocol):
    """Knows the runs of a batch as far as they are known, and which ones come next."""

    @property
    def plan(self) -> Plan:
        """All runs that are known."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know at the end."""

    def advance(self, records: Records, measure: Measure) -> bool:
        """Add the next runs, given how all known ones ended; return whether there are any."""

    def searched(self, run_keys: Sequence[str]) -> BoolArray | None:
        """Return which runs the splits of a walk-forward may choose among; None for all."""


class OneRound:
    """A batch whose runs are all known when it begins."""

    notes: Sequence[str] = ()

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def advance(self, records: Records, measure: Measure) -> bool:  # noqa: ARG002 - none follow
        """Return False: there are no further runs."""
        return False

    def searched(self, run_keys: Sequence[str]) -> None:
        """Return None: splits choose among all runs."""


class DrawnRuns:
    """The runs of the points that a search proposes, planned when they are proposed.

    Parameters
    ----------
    request
        The batch; its ``proposals`` say what can be chosen.
    ranking
        What is better.
    """

    def __init__(self, request: BatchRequest, ranking: Ranking) -> None:
        assert request.proposals is not None
        self.proposals = request.proposals
        self.ranking = ranking
        self.planning = Planning()
        self.points: list[Point] = []
        """The points that were proposed, in order."""
        self.round_number = 1
        self.n_left_out = self.n_invalid = 0
        self._faults: list[Fault] = []
        self._specs: dict[Hashable, list[RunSpec]] = {}
        self._known: dict[Hashable, Hashable | None] = {}

    def identify(self, point: Point) -> Hashable | None:
        """Plan the runs of a point; return their run keys, or None if one is invalid."""
        place = place_of(point)
        if place not in self._known:
            self._known[place] = self._planned(point)
        return self._known[place]

    def runs_of(self, point: Point) -> list[RunSpec]:
        """Return the runs of a point that was proposed, one for each scenario."""
        return self._specs[self._known[place_of(point)]]

    def _planned(self, point: Point) -> Hashable | None:
        heed()
        if not self._holds(point):
            self.n_left_out += 1
            return None
        specs, faults = self.planning.add_together(
            self.proposals.compose(point),
            trial=len(self._specs) + 1,
            search_round=self.round_number,
        )
        if faults or not specs:
            self._faults += faults if len(self._faults) < MOST_INVALID else ()
            self.n_invalid += 1
            if self.n_invalid >= MOST_INVALID and not self._specs:
                raise self.refusal()
            return None
        keys = tuple(dict.fromkeys(spec.run_key for spec in specs))
        if keys not in self._specs:
            self._specs[keys] = specs
            self.points.append(point)
        return keys

    def _holds(self, point: Point) -> bool:
        try:
            return self.proposals.holds(point)
        except ConfigurationError:
            if self.round_number == 1:  # nothing has been run
                raise
            return False

    def refusal(self) -> ConfigurationError:
        """Return the error when nothing that was drawn can be run."""
        if not self._faults:
            return ConfigurationError(
                f"constraint: none of {self.n_left_out:,} points that were drawn satisfies "
                f"{self.proposals.constraint}; nothing was run. Change the constraint, or the axes"
            )
        return ConfigurationError(
            faults_text(self._faults, self.n_invalid, max(self.n_invalid, 2)), self._faults
        )

    def plan(self, most_runs: int) -> Plan:
        """Return the plan of all runs so far."""
        n_skipped = self.n_left_out + self.n_invalid
        return replace(self.planning.plan(most_runs), n_skipped_cells=n_skipped)

    def notes(self, did: str, ending: str = "") -> list[str]:
        """Say what was done, and what was passed over.

        Parameters
        ----------
        did
            The search, and its verb.
        ending
            Why it ended early.
        """
        before = " before the constraint" if self.proposals.constraint else ""
        n_cells, n_points = self.proposals.space.grid_size(self.points), len(self.points)
        grid = (
            f"; a grid of the same resolution has {n_cells:,}{before}" if n_cells > n_points else ""
        )
        said = [
            f"{did} {n_points:,} decisions{grid}. Every one that was evaluated counts as a trial."
        ]
        said += [ending] if ending else []
        if self.n_left_out:
            said.append(
                f"{self.n_left_out:,} proposals do not satisfy the constraint: they are no runs."
            )
        if self.n_invalid:
            first = self._faults[0]
            said.append(
                f"{self.n_invalid:,} proposals cannot be run and were passed over; the first: "
                f"{first} ({first.run})."
            )
        return said


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
        self._across = request.config["search"]["across"]
        self._most_runs = request.size
        settings = search_settings(request, ranking)
        self._drawn = DrawnRuns(request, ranking)
        self._ranking = ranking
        self.study = Study(self._drawn.proposals.space, settings, self._drawn.identify)
        self._round: list[Proposal] = []
        self._asking: list[float] = []
        if walks_forward(request.config):
            self._ask_all()
        else:
            self._ask()
        if not self._drawn.points:
            raise self._drawn.refusal()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is proposed."""
        return not self._round

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know at the end."""
        settings, ending = self.study.settings, self.study.ending
        did = "evaluated" if self.is_over else "proposed"
        return self._drawn.notes(
            f"search={settings.method} {did}",
            f"The search ended before search.n_trials={settings.n_trials:,}: {ending}."
            if ending
            else "",
        )

    @property
    def points(self) -> Sequence[Point]:
        """The points that were proposed."""
        return self._drawn.points

    @property
    def n_scenarios(self) -> int:
        """How many runs a point has."""
        return self._drawn.proposals.n_scenarios

    @property
    def asking_seconds(self) -> float:
        """About how long it takes to choose and plan all points, the data being known."""
        # The first rounds read and import what later ones find there.
        return self._asking[-1] * self.study.round_number if self._asking else 0.0

    def advance(self, records: Records, measure: Measure) -> bool:  # noqa: ARG002 - all bars count
        """Tell the search how the runs of its round ended, and plan the next round."""
        if self.is_over:
            return False
        begun = time.perf_counter()
        self.study.tell({item.number: self.judge(item.point, records) for item in self._round})
        self._ask()
        self._asking.append(time.perf_counter() - begun)
        return bool(self._round)

    def _ask_all(self) -> None:
        """Plan all rounds at once: what is proposed depends on no result.

        A walk-forward must know all runs before it divides their bars. Since no study of a split
        would look at results, each would ask for the same: every split may choose among all runs.
        """
        unseen = Judged(values=(0.0,) * len(self._ranking.metrics))
        while proposals := self.study.ask():
            self.study.tell({item.number: unseen for item in proposals})
            self._drawn.round_number += 1
        self.plan = self._drawn.plan(0)

    def _ask(self) -> None:
        self._drawn.round_number = self.study.round_number + 1
        self._round = self.study.ask()
        self.plan = self._drawn.plan(0 if self.is_over else self._most_runs)

    def searched(self, run_keys: Sequence[str]) -> BoolArray:
        """Return True throughout: a search that looks at no result asks in each split the same."""
        return np.ones((1, len(run_keys)), dtype=np.bool_)

    def judge(self, point: Point, records: Records) -> Judged:
        """Return how good a decision is, in the first scenario or across all of them."""
        found = []
        for spec in self._drawn.runs_of(point)[: 1 if self._across == "first" else None]:
            outcome = records[spec.run_key].outcome
            if not isinstance(outcome, RunResult):
                return FAILED
            found.append(outcome.metrics)
        return judged(found, self._ranking, mean=self._across == "mean")


def judged(found: Sequence[Mapping[str, float]], ranking: Ranking, *, mean: bool) -> Judged:
    """Return how good the metrics of a decision are.

    Parameters
    ----------
    found
        Its metrics in each scenario that counts.
    ranking
        What is better.
    mean
        Whether the mean of the scenarios counts, rather than the worst of them.
    """
    wanted = [*ranking.metrics, *(item.metric for item in ranking.constraints)]
    if any(name not in metrics for metrics in found for name in wanted):
        return FAILED
    values = []
    for name in ranking.metrics:
        sign = ranking.direction_of(name)
        good = [sign * metrics[name] for metrics in found]
        values.append(sign * float(np.mean(good) if mean else min(good)))
    constraints = {}
    for bound in ranking.constraints:
        over = [excess(bound, metrics[bound.metric]) for metrics in found]
        constraints[str(bound)] = float(np.mean(over) if mean else max(over))
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
    if ranking.weighted and (method not in SEVERAL_METRICS or chosen["patience"] is not None):
        of_what = "search.patience needs" if method in SEVERAL_METRICS else "it seeks"
        raise ConfigurationError(
            f"search={method}: rank_by weighs several metrics ({', '.join(ranking.metrics)}), and "
            f"a weighted score depends on all runs of the batch; {of_what} the best of one metric. "
            "Use search=nsga2, which looks for the best compromises of several, or rank by one "
            "metric"
        )
    wanted = (*ranking.metrics, *(item.metric for item in ranking.constraints))
    late = [name for name in wanted if name == NEIGHBOURHOOD or name.startswith(OUT_OF_SAMPLE)]
    if late:
        raise ConfigurationError(
            f"search={method}: {', '.join(late)} is known only when all runs have ended, and a "
            "search needs to know it after each round. Rank by another metric, or use search=grid"
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
