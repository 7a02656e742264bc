"""The permutation test of a batch: the whole search again on markets in another order.

The markets are computed by the workers of the batch, and nothing of their runs is recorded but the
best result of each, which is written down as soon as it is known: a batch that was interrupted goes
on where it was.
"""

import contextlib
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from backtest_batch.analysis.overfitting.permutation import NOT_ASKED, PermutationTest
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, OUT_OF_SAMPLE
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.batch.nested import NestedRounds
from backtest_batch.batch.rounds import DrawnRuns, SearchRounds, judged, search_settings
from backtest_batch.batch.session import Session
from backtest_batch.batch.trials import decision_labels
from backtest_batch.core.data.panel import FIELDS
from backtest_batch.core.data.permutation import share_moved
from backtest_batch.core.engine.metrics import BENCHMARK, FACTORS, metric_named
from backtest_batch.core.fingerprint import digest
from backtest_batch.core.fitting import session_end
from backtest_batch.records import (
    PermutedMarket,
    RunFailure,
    RunRecord,
    RunResult,
    RunSpec,
)
from backtest_batch.report.tables import one_line
from backtest_batch.report.terminal import ProgressDisplay, duration
from backtest_batch.search.samplers import IGNORES_RESULTS
from backtest_batch.search.study import FAILED, Judged, Proposal, Study
from backtest_batch.streams import say
from backtest_batch.workers.watch import INPUTS, UNKNOWN

USUAL_MARKETS = 200
USUAL_SECONDS = 60.0
"""A search that adapts is tested without being asked if that takes no longer than this."""

LEAST_MOVED = 0.5
"""Share of the bars that must be able to change places."""

MOST_FAILED = 0.1
"""Share of the runs that may fail on permuted markets; if more do, nothing can be said."""

RESULTS = "permuted_markets.jsonl"
"""File in the scratch folder with the best result of each market."""

_RUNS_AT_ONCE = 20_000
_SEARCHES_AT_ONCE = 16


def permutation_test(session: Session, ranking: Ranking) -> PermutationTest | str:
    """Return what the search of a batch finds on permuted markets, or why that is not known.

    Parameters
    ----------
    session
        The batch, all of whose runs have ended; its workers are there.
    ranking
        What is better.
    """
    wanted = session.config["permutation_test"]["n"]
    search = _search_of(session, ranking)
    if wanted == 0:
        return "switched off (permutation_test.n=0)"
    if wanted is None and not search.is_adaptive:
        return NOT_ASKED
    refusal = _refusal(session, ranking, search)
    if refusal:
        if wanted is not None:
            session.notes.append(f"There is no permutation test: {refusal}.")
        return refusal
    n_markets = USUAL_MARKETS if wanted is None else wanted
    seconds = search.seconds * n_markets
    if wanted is None and seconds > USUAL_SECONDS:
        return (
            f"it takes about {duration(seconds)}, and is not made without being asked for: "
            f"permutation_test.n={USUAL_MARKETS}"
        )
    say(
        f"Permutation test: the search again on {n_markets:,} permuted markets, "
        f"about {duration(seconds)}.\n"
    )
    return _tested(session, ranking, search, n_markets)


def _tested(
    session: Session, ranking: Ranking, search: "_Search", n_markets: int
) -> PermutationTest | str:
    observed = search.observed
    assert observed is not None
    seed = session.config["seed"]
    mean_block = float(session.config["permutation_test"]["mean_block"])
    known = _Results(session.workspace.scratch.folder / RESULTS, search.key(seed, mean_block))
    numbers = [number for number in range(1, n_markets + 1) if number not in known.found]
    markets = [PermutedMarket(number=n, seed=seed, mean_block=mean_block) for n in numbers]
    with ProgressDisplay(total=n_markets, what="permuted markets") as progress:
        progress.counts.done = n_markets - len(markets)

        def compute(runs: Sequence[RunSpec]) -> Iterator[RunRecord]:
            for ended in session.compute_apart(runs):
                progress.show()
                yield from ended

        for result in search.results(markets, compute):
            known.add(result)
            progress.counts.done += 1
            progress.show()
    found = [known.found[number] for number in range(1, n_markets + 1)]
    n_failed, n_runs = sum(item.n_failed for item in found), sum(item.n_runs for item in found)
    if n_failed > MOST_FAILED * n_runs:
        example = next(result.failure for result in found if result.failure)
        return (
            f"{n_failed:,} of {n_runs:,} runs failed on permuted markets, which so say nothing; "
            f"the first: {example}"
        )
    return PermutationTest(
        metric=ranking.metrics[0],
        direction=ranking.direction_of(ranking.metrics[0]),
        observed=observed,
        # A market on which runs failed and none counts is no evidence for skill.
        found=tuple(
            observed if item.best is None and item.n_failed else item.best for item in found
        ),
        n_failed=n_failed,
        seed=seed,
        mean_block=mean_block,
        is_adaptive=search.is_adaptive,
    )


def _refusal(session: Session, ranking: Ranking, search: "_Search") -> str:
    """Return why a batch cannot be repeated on permuted markets; empty if it can."""
    runs = search.runs
    if session.plan.own_data:
        return "its strategies read their own data (data=none), which is not in the panel"
    if isinstance(session.rounds, NestedRounds):
        return "it searches in each split of a walk-forward"
    if ranking.weighted:
        return "a weighted score compares the runs of one market with each other; rank by a metric"
    wanted = (*ranking.metrics, *(item.metric for item in ranking.constraints))
    late = [name for name in wanted if name == NEIGHBOURHOOD or name.startswith(OUT_OF_SAMPLE)]
    if late:
        return f"{', '.join(late)} is known only when all runs of a batch have ended"
    compares = [name for name in wanted if _needs(name, FACTORS)]
    if any(run.benchmark.content for run in runs):
        compares += [name for name in wanted if _needs(name, BENCHMARK)]
    if compares:
        return f"{', '.join(compares)} compares with returns that keep their order"
    if search.observed is None:
        return "no run of the first scenario has a result that counts"
    for record in session.in_order:
        if isinstance(record.outcome, RunResult):
            for tag in (INPUTS, UNKNOWN):
                if read := record.outcome.tags.get(tag):
                    return f"a strategy reads more than the prices ({read}), which keeps its order"
    for fingerprint in dict.fromkeys(run.data_fingerprint for run in runs):
        panel = session.plan.panels[fingerprint]
        more = [*(set(panel.fields) - set(FIELDS)), *panel.feature_arrays]
        if more:
            return (
                f"the data has {', '.join(sorted(more))}, and how that would go with other prices "
                "is not known"
            )
        share = share_moved(panel, session_end(runs[0].config))
        if share < LEAST_MOVED:
            return (
                f"assets appear and end so often that only {share:.0%} of the bars could change "
                "places"
            )
    return ""


def _needs(name: str, what: str) -> bool:
    metric = metric_named(name)
    return metric is not None and what in metric.needs


@dataclass(frozen=True, kw_only=True)
class MarketResult:
    """What a search has found on a permuted market.

    Attributes
    ----------
    number
        Which market.
    best
        The best result; None where no run has one that counts.
    n_runs, n_failed
        How many runs were computed, and how many of them failed.
    failure
        Why one of these did; empty if none did.
    """

    number: int
    best: float | None
    n_runs: int
    n_failed: int = 0
    failure: str = ""


Compute = Callable[[Sequence[RunSpec]], Iterator[RunRecord]]
"""Computes runs on their markets, and yields the record of each when it has ended."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """How a batch looks for its best run, and how that is done on another market."""

    session: Session
    ranking: Ranking
    is_adaptive = False

    @cached_property
    def runs(self) -> list[RunSpec]:
        """What is computed on each market: the decisions of the batch in its first scenario."""
        runs = self.session.plan.runs
        kinds = AxisKinds.of(self.session.config)
        scenarios = [_scenario(run, kinds) for run in runs]
        labels = decision_labels(runs, kinds)
        first = {
            label: run
            for label, run, scenario in reversed(list(zip(labels, runs, scenarios, strict=True)))
            if scenario == scenarios[0]
        }
        return sorted(first.values(), key=lambda run: run.index)

    @cached_property
    def observed(self) -> float | None:
        """The best result on the real market; None if no run has one that counts."""
        records = self.session.records
        return self._best([_judged([records.get(run.run_key)], self.ranking) for run in self.runs])

    @property
    def seconds(self) -> float:
        """About how long a market takes."""
        return self._computing(self.runs)

    def key(self, seed: int, mean_block: float) -> str:
        """Return a hash of what determines the results."""
        return digest([
            [run.run_key for run in self.runs],
            *(str(self.ranking), seed, mean_block, self.is_adaptive),
            self.session.config["search"] if self.is_adaptive else None,
        ])  # fmt: skip

    def results(
        self, markets: Sequence[PermutedMarket], compute: Compute
    ) -> Iterator[MarketResult]:
        """Yield what is found on each market."""
        size = max(1, _RUNS_AT_ONCE // len(self.runs))
        for start in range(0, len(markets), size):
            ended: dict[int, list[RunRecord]] = defaultdict(list)
            runs = [
                on(run, market) for market in markets[start : start + size] for run in self.runs
            ]
            for record in compute(runs):
                assert record.spec.market is not None
                number = record.spec.market.number
                ended[number].append(record)
                if len(ended[number]) == len(self.runs):
                    records = ended.pop(number)
                    found = [_judged([item], self.ranking) for item in records]
                    yield self._result(number, found, records)

    def _result(
        self, number: int, found: Sequence[Judged], records: Sequence[RunRecord]
    ) -> MarketResult:
        # What fails on the real market too says nothing about the others.
        known = self.session.records
        real = {key for key, item in known.items() if not isinstance(item.outcome, RunResult)}
        failed = [
            record.outcome
            for record in records
            if isinstance(record.outcome, RunFailure)
            and record.spec.run_key.partition(_MARK)[0] not in real
        ]
        return MarketResult(
            number=number,
            best=self._best(found),
            n_runs=len(records),
            n_failed=len(failed),
            failure=one_line(f"{failed[0].error_type}: {failed[0].error_message}")
            if failed
            else "",
        )

    def _best(self, found: Sequence[Judged]) -> float | None:
        sign = self.ranking.direction_of(self.ranking.metrics[0])
        values = [item.values[0] for item in found if item.values and item.is_feasible]
        return max(values, key=lambda value: sign * value, default=None)

    def _computing(self, runs: Sequence[RunSpec]) -> float:
        records = self.session.records
        outcomes = [records[run.run_key].outcome for run in runs if run.run_key in records]
        known = [item.runtime_s for item in outcomes if isinstance(item, RunResult)]
        each = statistics.median(known) if known else 0.0
        workers: int = max(1, min(self.session.config["n_jobs"], os.cpu_count() or 1))
        return each * len(runs) / workers


class _AdaptiveSearch(_Search):
    """A search whose proposals depend on results: on another market it takes another course."""

    is_adaptive = True

    @property
    def _rounds(self) -> SearchRounds:
        assert isinstance(self.session.rounds, SearchRounds)
        return self.session.rounds

    @cached_property
    def observed(self) -> float | None:
        """The best result on the real market; None if no run has one that counts."""
        rounds, records = self._rounds, self.session.records
        return self._best([rounds.judge(point, records) for point in rounds.points])

    @property
    def seconds(self) -> float:
        """About how long a market takes: the runs, and the choice of them in this process."""
        runs = self.session.plan.runs
        each = 1 if self._is_first else self._rounds.n_scenarios
        share = each / self._rounds.n_scenarios
        return float(self._computing(runs) * share + self._rounds.asking_seconds)

    def results(
        self, markets: Sequence[PermutedMarket], compute: Compute
    ) -> Iterator[MarketResult]:
        """Yield what a search of its own finds on each market."""
        drawn = DrawnRuns(self.session.request, self.ranking)
        for start in range(0, len(markets), _SEARCHES_AT_ONCE):
            some = markets[start : start + _SEARCHES_AT_ONCE]
            yield from self._side_by_side(some, drawn, compute)

    def _side_by_side(
        self, markets: Sequence[PermutedMarket], drawn: DrawnRuns, compute: Compute
    ) -> list[MarketResult]:
        settings = search_settings(self.session.request, self.ranking)
        space = drawn.proposals.space
        studies = {market: Study(space, settings, drawn.identify) for market in markets}
        found: dict[PermutedMarket, list[Judged]] = {market: [] for market in markets}
        ended: dict[int, list[RunRecord]] = defaultdict(list)
        while asked := {m: items for m, study in studies.items() if (items := study.ask())}:
            runs = [
                on(run, market)
                for market, items in asked.items()
                for item in items
                for run in self._counted(drawn, item)
            ]
            records = {record.spec.run_key: record for record in compute(runs)}
            for record in records.values():
                assert record.spec.market is not None
                ended[record.spec.market.number].append(record)
            for market, items in asked.items():
                told = {
                    item.number: _judged(
                        [records.get(on(r, market).run_key) for r in self._counted(drawn, item)],
                        self.ranking,
                        mean=self._across == "mean",
                    )
                    for item in items
                }
                studies[market].tell(told)
                found[market] += told.values()
            studies = {market: studies[market] for market in asked}
        return [
            self._result(market.number, judgements, ended[market.number])
            for market, judgements in found.items()
        ]

    @property
    def _across(self) -> str:
        return str(self.session.config["search"]["across"])

    @property
    def _is_first(self) -> bool:
        return self._across == "first"

    def _counted(self, drawn: DrawnRuns, item: Proposal) -> list[RunSpec]:
        """Return the runs of a proposal that say how good it is."""
        return drawn.runs_of(item.point)[: 1 if self._is_first else None]


def _search_of(session: Session, ranking: Ranking) -> _Search:
    method = session.config["search"]["method"]
    adapts = isinstance(session.rounds, SearchRounds) and method not in IGNORES_RESULTS
    return (_AdaptiveSearch if adapts else _Search)(session=session, ranking=ranking)


_MARK = "@"
"""Between the key of a run and the number of a permuted market."""


def on(run: RunSpec, market: PermutedMarket) -> RunSpec:
    """Return a run as it is computed on a permuted market."""
    mark = f"{_MARK}{market.number}"
    return replace(run, market=market, run_key=run.run_key + mark, chunk_key=run.chunk_key + mark)


def _judged(records: Sequence[RunRecord | None], ranking: Ranking, *, mean: bool = False) -> Judged:
    outcomes = [None if record is None else record.outcome for record in records]
    metrics = [outcome.metrics for outcome in outcomes if isinstance(outcome, RunResult)]
    return judged(metrics, ranking, mean=mean) if len(metrics) == len(outcomes) else FAILED


def _scenario(run: RunSpec, kinds: AxisKinds) -> tuple[tuple[str, object], ...]:
    return tuple((name, run.swept[name]) for name in kinds.scenario_names(run.swept))


class _Results:
    """The best results that are known, in a file: an interrupted test goes on from there.

    Parameters
    ----------
    file
        Where they are written; results of another search in it do not count.
    key
        What determines them.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._key = file, key
        self.found: dict[int, MarketResult] = {}
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="utf-8").splitlines():
                # A crash may have cut off a line.
                with contextlib.suppress(ValueError, TypeError):
                    of, values = json.loads(line)
                    if of == key:
                        self.found[int(values["number"])] = MarketResult(**values)

    def add(self, result: MarketResult) -> None:
        """Note what was found on a market; on a full disk it is not written down."""
        self.found[result.number] = result
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([self._key, asdict(result)])}\n")
