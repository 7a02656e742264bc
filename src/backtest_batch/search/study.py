"""A search: rounds of proposals, each chosen with what the rounds before it have found.

What is asked depends on the space, the seed, the number of proposals a round, and the results:
never on how many processes compute them, or when. A search that was interrupted is repeated with
its recorded results, and goes on as if nothing had happened.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_batch.search.samplers import make_sampler, quiet
from backtest_batch.search.space import Point, SearchSpace, place_of

if TYPE_CHECKING:
    from optuna.trial import Trial

LONGEST_MISS = 25
"""After so many proposals in a row that were known or impossible, the next ones are drawn at
random among the points that nobody has asked for."""
MOST_MISSES = 10_000
"""After so many in a row, the search ends."""
MOST_LISTED = 1_000_000
"""Up to so many points, those that nobody has asked for are listed."""

EXHAUSTED = "every point of the space was tried"
NO_GAIN = "there was no gain in {patience:,} trials (search.patience)"
NOTHING_ELSE = f"no further point was found in {MOST_MISSES:,} attempts"


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a search proceeds.

    Attributes
    ----------
    method
        One of :data:`.SAMPLERS`.
    n_trials
        How many points are evaluated at most.
    batch_size
        How many points a round has.
    seed
        Seed of the sampler.
    patience
        The search ends after so many points without gain; None: never.
    options
        Further arguments of Optuna's sampler.
    directions
        For each objective, +1 where more is better, -1 where less is.
    """

    method: str
    n_trials: int
    batch_size: int = 8
    seed: int = 42
    patience: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    directions: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A point to be evaluated.

    Attributes
    ----------
    number
        Its position among all that are evaluated, from 1.
    round_number
        Number of its round, from 1.
    point
        The values.
    """

    number: int
    round_number: int
    point: Point


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the evaluation of a point has found.

    Attributes
    ----------
    values
        The objectives; None when it failed.
    constraints
        By name, how far a bound is exceeded: zero or less where it is kept.
    """

    values: tuple[float, ...] | None
    constraints: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_feasible(self) -> bool:
        """Whether it has values, and every bound is kept."""
        return self.values is not None and all(over <= 0 for over in self.constraints.values())


FAILED = Judged(values=None)

Identify = Callable[[Point], Hashable | None]
"""Tells what a point is, so that it is evaluated once; None when it cannot be evaluated."""


class Study:
    """A search in progress: ask for a round, tell what was found, and so on.

    Parameters
    ----------
    space
        What is drawn from.
    settings
        How it proceeds.
    identify
        Tells which points are the same, and which are none; by default all differ.

    Raises
    ------
    ConfigurationError
        When the sampler is not installed, or refuses its options.
    """

    def __init__(
        self, space: SearchSpace, settings: SearchSettings, identify: Identify = place_of
    ) -> None:
        self.space = space
        self.settings = settings
        sampler = make_sampler(settings.method, settings.seed, settings.options)
        with quiet():
            import optuna
            from optuna.study import StudyDirection

            better = {1: StudyDirection.MAXIMIZE, -1: StudyDirection.MINIMIZE}
            directions = [better[sign] for sign in settings.directions]
            self._study = optuna.create_study(sampler=sampler, directions=directions)
            self._distributions = space.distributions()
        self._identify = identify
        self._seen: dict[Hashable, Hashable | None] = {}
        self._numbers: dict[Hashable, int] = {}
        self._judged: dict[int, Judged] = {}
        self._open: list[tuple[Trial, int]] = []
        self._unseen: Iterator[Point] | None = None
        self._round = 0
        self._front: list[tuple[float, ...]] = []
        self._last_gain = 0
        self.n_repeats = 0
        """How often a known point was proposed again."""
        self.ending = ""
        """Why it ended before ``n_trials`` points, if it did."""

    @property
    def round_number(self) -> int:
        """Number of the present round, from 1."""
        return self._round

    @property
    def n_asked(self) -> int:
        """How many points were proposed for evaluation."""
        return len(self._numbers)

    @property
    def n_impossible(self) -> int:
        """How many proposed points could not be evaluated."""
        return sum(identity is None for identity in self._seen.values())

    def ask(self) -> list[Proposal]:
        """Return the next round; an empty one when the search is over."""
        patience = self.settings.patience
        if patience is not None and self.n_asked - self._last_gain >= patience:
            self.ending = NO_GAIN.format(patience=patience)
            return []
        wanted = min(self.settings.batch_size, self.settings.n_trials - self.n_asked)
        self._round += 1
        found: list[Proposal] = []
        with quiet():
            while len(found) < wanted and not self.ending:
                proposal = self._next()
                if proposal is not None:
                    found.append(proposal)
        return found

    def tell(self, judged: Mapping[int, Judged]) -> None:
        """Take what was found, by number; the sampler hears it in the order of its proposals."""
        self._judged |= judged
        with quiet():
            for trial, number in self._open:
                self._answer(trial, self._judged[number])
        self._open.clear()
        for number in sorted(judged):
            if self._gains(judged[number]):
                self._last_gain = number

    def _next(self) -> Proposal | None:
        for miss in range(MOST_MISSES):
            if len(self._seen) == self.space.size:
                self.ending = EXHAUSTED
                return None
            if miss >= LONGEST_MISS:
                self._study.enqueue_trial(self.space.params(self._other_point()))
            trial = self._study.ask(self._distributions)
            point = self.space.point(trial.params)
            place = place_of(point)
            if place not in self._seen:
                self._seen[place] = self._identify(point)
            identity = self._seen[place]
            if identity is None:
                self._answer(trial, FAILED)
                continue
            is_new = identity not in self._numbers
            number = self._numbers.setdefault(identity, len(self._numbers) + 1)
            self._open.append((trial, number))
            if is_new:
                return Proposal(number=number, round_number=self._round, point=point)
            self.n_repeats += 1
        self.ending = NOTHING_ELSE
        return None

    def _answer(self, trial: "Trial", judged: Judged) -> None:
        from optuna.trial import TrialState

        if judged.values is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        for name, over in judged.constraints.items():
            trial.set_constraint(name, over)
        self._study.tell(trial, list(judged.values))

    def _other_point(self) -> Point:
        """Return a point that the sampler did not choose, and nobody has asked for."""
        if self._unseen is None:
            self._unseen = self._shuffled()
        return next(point for point in self._unseen if place_of(point) not in self._seen)

    def _shuffled(self) -> Iterator[Point]:
        rng = np.random.default_rng(self.settings.seed)
        size = self.space.size
        if size is not None and size <= MOST_LISTED:
            yield from (self.space.cell(int(number)) for number in rng.permutation(size))
        while True:
            yield self.space.random(rng)

    def _gains(self, judged: Judged) -> bool:
        """Return whether a point is better than all before it; with several objectives, in one."""
        if judged.values is None or not judged.is_feasible:
            return False
        signs = self.settings.directions
        values = tuple(v * sign for v, sign in zip(judged.values, signs, strict=True))
        if any(all(a >= b for a, b in zip(best, values, strict=True)) for best in self._front):
            return False
        self._front = [
            best for best in self._front if any(a > b for a, b in zip(best, values, strict=True))
        ]
        self._front.append(values)
        return True


def search(
    space: SearchSpace,
    settings: SearchSettings,
    evaluate: Callable[[Sequence[Proposal]], Mapping[int, Judged]],
    identify: Identify = place_of,
) -> dict[int, tuple[Proposal, Judged]]:
    """Search to the end: a function of the space, the settings and what evaluation finds.

    Parameters
    ----------
    space, settings, identify
        As in :class:`Study`.
    evaluate
        Evaluates a round: what was found by the number of the proposal.

    Returns
    -------
    dict
        Each evaluated point with what was found, by number.
    """
    study = Study(space, settings, identify)
    found: dict[int, tuple[Proposal, Judged]] = {}
    while proposals := study.ask():
        judged = evaluate(proposals)
        study.tell(judged)
        found |= {item.number: (item, judged[item.number]) for item in proposals}
    return found
