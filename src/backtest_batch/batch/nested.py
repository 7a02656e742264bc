"""A walk-forward with a search of its own in each split, which sees its training bars alone.

The studies of all splits ask in common rounds, and a run that several of them ask for is computed
once. Each hears how its proposals did on its own training bars. What it chooses from is what it has
evaluated; what others have found on later bars is none of its business.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.scenarios import is_market
from backtest_batch.analysis.walk_forward.walk import in_sample_ranking
from backtest_batch.arrays import BoolArray
from backtest_batch.batch.rounds import (
    DrawnRuns,
    Measure,
    Records,
    Rounds,
    SearchRounds,
    judged,
    search_settings,
)
from backtest_batch.core.fitting import split_plan, walks_forward
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import BatchRequest, RunResult
from backtest_batch.search.samplers import IGNORES_RESULTS
from backtest_batch.search.study import FAILED, Judged, Proposal, Study


class NestedRounds:
    """The studies of all splits of a walk-forward.

    Parameters
    ----------
    request
        The batch; its ``proposals`` say what can be chosen.
    ranking
        What is better; ``oos_`` metrics are read as those of the training bars.

    Raises
    ------
    ConfigurationError
        When the splits are not the same for whatever may be proposed, the search cannot be made, or
        none of its first points can be run.
    """

    def __init__(self, request: BatchRequest, ranking: Ranking) -> None:
        assert request.proposals is not None
        config, space = request.config, request.proposals.space
        _refuse_moving_splits(config, list(space.axes))
        self._ranking = in_sample_ranking(ranking)
        settings = search_settings(request, self._ranking)
        self._drawn = drawn = DrawnRuns(request, ranking)
        first = Study(space, settings, drawn.identify)
        asked = first.ask()
        if not asked:
            raise drawn.refusal()
        run = drawn.runs_of(asked[0].point)[0]
        plan = drawn.plan(0)
        if run.own_data or any(one.fit_bars is not None for one in plan.runs):
            what = "reads its own data" if run.own_data else "is fitted on the training bars"
            raise ConfigurationError(
                f"search={settings.method} with walk_forward: a strategy that {what} is not "
                "measured on the training bars of a split while the batch runs. Use search=random "
                "or search=sobol, whose proposals depend on no result"
            )
        panel = plan.panels[run.data_fingerprint]
        self._splits = split_plan(run, panel, (run.first_bar + 1, run.n_bars)).splits
        others = [Study(space, settings, drawn.identify) for _ in self._splits[1:]]
        self.studies = [first, *others]
        self._asked: list[list[Proposal]] = [asked, *(study.ask() for study in others)]
        self._searched: list[set[str]] = [set() for _ in self._splits]
        most = settings.n_trials * len(self._splits)
        self._most_runs = min(most, space.size or most) * request.proposals.n_scenarios
        if self._most_runs > config["max_runs"]:
            raise ConfigurationError(
                f"the searches of {len(self._splits)} splits may have {self._most_runs:,} runs, "
                f"more than max_runs={config['max_runs']:,}; nothing was run. Raise max_runs, or "
                "lower search.n_trials"
            )
        self._note_round()

    @property
    def is_over(self) -> bool:
        """Whether no study proposes more."""
        return not any(self._asked)

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know at the end."""
        method, n_splits = self.studies[0].settings.method, len(self.studies)
        n_asked = sum(study.n_asked for study in self.studies)
        return self._drawn.notes(
            f"search={method} in each of {n_splits} splits, on its training bars alone, asked "
            f"{n_asked:,} times for"
        )

    def searched(self, run_keys: Sequence[str]) -> BoolArray:
        """Return which runs the study of each split has evaluated, shape (n_splits, n_runs)."""
        return np.array([[key in found for key in run_keys] for found in self._searched])

    def advance(self, records: Records, measure: Measure) -> bool:
        """Tell each study how its proposals did on its training bars, and plan the next round."""
        if self.is_over:
            return False
        points = [item.point for asked in self._asked for item in asked]
        runs = {run.run_key: run for run in (self._drawn.runs_of(point)[0] for point in points)}
        done = [run for key, run in runs.items() if isinstance(records[key].outcome, RunResult)]
        windows = [split.train for split in self._splits]
        found = measure(done, windows) if done else [[] for _ in windows]
        for study, asked, values in zip(self.studies, self._asked, found, strict=True):
            metrics = {run.run_key: one for run, one in zip(done, values, strict=True)}
            study.tell({item.number: self._judge(item, metrics) for item in asked})
        self._drawn.round_number += 1
        self._asked = [study.ask() for study in self.studies]
        self._note_round()
        return not self.is_over

    def _judge(self, item: Proposal, metrics: Mapping[str, Mapping[str, float]]) -> Judged:
        key = self._drawn.runs_of(item.point)[0].run_key
        return judged([metrics[key]], self._ranking, mean=False) if key in metrics else FAILED

    def _note_round(self) -> None:
        for found, asked in zip(self._searched, self._asked, strict=True):
            for item in asked:
                found.update(run.run_key for run in self._drawn.runs_of(item.point))
        self.plan = self._drawn.plan(0 if self.is_over else self._most_runs)


def _refuse_moving_splits(config: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Refuse what makes the splits depend on what is proposed, or a study on other bars."""
    method, named = config["walk_forward"]["method"], f"search={config['search']['method']}"
    market = [name for name in axes if is_market(name)]
    why = ""
    if method == "combinatorial":
        why = "trains on bars after the test, and cannot be searched split by split; use rolling"
    elif config["start_date"] is None:
        why = (
            "needs start_date: the splits must be known before the first proposal, whatever "
            "warm-up it has"
        )
    elif market:
        why = f"needs the same bars for all proposals, but {', '.join(market)} is searched"
    elif config["search"]["across"] != "first":
        why = "judges in the first scenario; leave search.across out"
    if why:
        raise ConfigurationError(f"walk_forward={method} with {named}: {why}")


def search_rounds(request: BatchRequest, ranking: Ranking) -> Rounds:
    """Plan the first round of a search.

    Raises
    ------
    ConfigurationError
        When the search cannot begin.
    """
    search = request.config["search"]
    looks = search["method"] not in IGNORES_RESULTS or search["patience"] is not None
    if looks and walks_forward(request.config):
        return NestedRounds(request, ranking)
    return SearchRounds(request, ranking)
