"""Judge a batch from memory: its comparison, its walk-forward, its decisions."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.conclusion import Conclusion, ReturnsOfRuns, conclude
from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.analysis.overfitting.samples import OverfittingSettings
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import AxisKinds, cap_notes, is_market
from backtest_batch.analysis.walk_forward.curve import Bootstrap
from backtest_batch.analysis.walk_forward.tables import run_metrics, sentences, summarise
from backtest_batch.analysis.walk_forward.walk import ScenarioWalk, walk_forward
from backtest_batch.arrays import FloatArray
from backtest_batch.batch.log import Stopwatch
from backtest_batch.batch.own_returns import OwnBatch, OwnTogether
from backtest_batch.batch.provenance import write_trials
from backtest_batch.batch.returns import BatchReturns, batch_returns
from backtest_batch.batch.session import Session
from backtest_batch.batch.trials import (
    OneTrial,
    decision_labels,
    one_trial_each,
    source_kind,
    source_label,
)
from backtest_batch.config.schema import AUTO
from backtest_batch.core.backtest import compute_chunk
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.simulation import Simulation, simulation_settings
from backtest_batch.core.factors import FactorReturns, factor_returns
from backtest_batch.core.fitting import (
    common_bars,
    drifted_weights,
    periods_per_year,
    session_end,
    walk_forward_settings,
    walks_forward,
)
from backtest_batch.core.own_account import OwnAccount
from backtest_batch.core.own_bars import bars_alone
from backtest_batch.core.windows import PER_BAR, ScenarioRuns
from backtest_batch.errors import ConfigurationError, StoreError
from backtest_batch.interrupt import heed
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.report.tables import one_line
from backtest_batch.store.artifacts import SplitRun
from backtest_batch.store.search import earlier_decisions, read_runs
from backtest_batch.store.selection import with_earlier_runs


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchWalk:
    """The walk-forward of a batch.

    Attributes
    ----------
    walks
        One for each scenario, data set and dates, in the order of its first run.
    findings
        What each found, as plain values.
    """

    walks: tuple[ScenarioWalk, ...]
    findings: tuple[Mapping[str, Any], ...]

    @cached_property
    def run_metrics(self) -> pd.DataFrame:
        """Metrics oos_* of each run on all test bars, indexed by run_id."""
        return run_metrics(self.walks)

    def first(self, run_id: str) -> int:
        """Return the position of the walk that a run took part in; 0 if there is none."""
        positions = (n for n, walk in enumerate(self.walks) if run_id in walk.runs.run_ids)
        return next(positions, 0)

    @property
    def t_statistics(self) -> dict[str, float]:
        """The t-statistic of the stitched out-of-sample returns, by run_id of the walked runs.

        Choices of the combinatorial method have seen bars after the test, and give none.
        """
        return {
            run_id: float(finding["t_statistic"])
            for walk, finding in zip(self.walks, self.findings, strict=True)
            if finding["t_statistic"] is not None and walk.settings.method != "combinatorial"
            for run_id in walk.runs.run_ids
        }


def walk_batch(
    session: Session,
    table: RunTable,
    returns: BatchReturns,
    ranking: Ranking,
    own: OwnBatch | None = None,
) -> BatchWalk | None:
    """Return the walk-forward of a batch's finished runs; None when none was requested.

    Parameters
    ----------
    session
        The batch.
    table
        Its runs that have ended.
    returns
        Their returns.
    ranking
        Which run is better in-sample.
    own
        The runs on common bars, where they read their own data.

    Raises
    ------
    ConfigurationError
        When the ranking needs a metric that windows do not have; where runs read their own data,
        also when the bars that they share are too few.
    """
    records = session.in_order
    if not walks_forward(session.config) or not any(table.finished):
        return None
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(table.finished).tolist():
        groups.setdefault(table.walk_group.iloc[row], []).append(row)
    common = common_bars(session.plan.runs)
    walks = []
    for scenario, rows in groups.items():
        heed()
        chosen = [records[row] for row in rows]
        if own is None:
            panel = session.plan.panels[chosen[0].spec.data_fingerprint]
            bars = common[chosen[0].spec.index]
            runs = _scenario_runs(session, table, returns, scenario, rows, panel, bars)
        else:
            found = own.together([record.spec for record in chosen])
            panel, bars = bars_alone(found.index), (1, len(found.index))
            runs = _own_runs(table, scenario, rows, [item.spec for item in chosen], found)
        settings = walk_forward_settings(chosen[0].spec, panel, bars)
        searched = session.rounds.searched([record.spec.run_key for record in chosen])
        walks.append(walk_forward(runs, settings, ranking, _drifted(chosen, panel), searched))
    bootstrap = Bootstrap(seed=session.config["seed"])
    findings = summarise(walks, ranking, bootstrap)
    return BatchWalk(walks=tuple(walks), findings=tuple(findings))


def _scenario_runs(
    session: Session,
    table: RunTable,
    returns: BatchReturns,
    scenario: str,
    rows: Sequence[int],
    panel: Panel,
    bars: tuple[int, int],
) -> ScenarioRuns:
    records = session.in_order
    specs = [records[row].spec for row in rows]
    config = specs[0].config
    positions = [spec.index for spec in specs]
    n_bars = panel.n_bars
    n_benchmarks = len(set(returns.benchmark_row) - {None})
    stored = session.workspace.returns(len(session.plan.runs) + n_benchmarks)
    per_bar = {
        name: session.workspace.array(name, len(session.plan.runs))[positions, :n_bars].T
        for name in PER_BAR
    }
    in_sample: dict[int, Mapping[str, FloatArray]] = {}
    for position, row in enumerate(rows):
        outcome = records[row].outcome
        if isinstance(outcome, RunResult) and outcome.in_sample:
            in_sample[position] = {
                name: np.array(values) for name, values in outcome.in_sample.items()
            }
    of_runs = [returns.benchmark_row[row] for row in positions]
    benchmark = None
    # What a run is compared with is a scenario: either all runs of one have a benchmark or none.
    known = [row for row in of_runs if row is not None]
    if known:
        benchmark = stored[known[0] if len(set(known)) == 1 else known, :n_bars].T
    names = [name for name in table.decision_axes if not is_market(name)]
    return ScenarioRuns(
        scenario=scenario,
        run_ids=tuple(spec.run_id for spec in specs),
        index=panel.index,
        returns=stored[positions, :n_bars].T,
        parameters=table.params.iloc[list(rows)][names].reset_index(drop=True),
        periods_per_year=periods_per_year(config),
        session_end=session_end(config),
        risk_free_rate=config["risk_free_rate"],
        cash_rate=config["cash_rate"],
        cost_rate=simulation_settings(config).cost_rate,
        execution_lag=config["execution_lag"],
        initial_capital=config["initial_capital"],
        benchmark=benchmark,
        in_sample=in_sample,
        return_bars=range(*bars),
        factors=factor_returns(specs[0]),
        **per_bar,
    )


def _own_runs(
    table: RunTable,
    scenario: str,
    rows: Sequence[int],
    specs: Sequence[RunSpec],
    found: OwnTogether,
) -> ScenarioRuns:
    """Return runs that read their own data, on the bars that they share."""
    config = specs[0].config
    names = [name for name in table.decision_axes if not is_market(name)]
    return ScenarioRuns(
        scenario=scenario,
        run_ids=tuple(spec.run_id for spec in specs),
        index=found.index,
        returns=found.returns,
        parameters=table.params.iloc[list(rows)][names].reset_index(drop=True),
        periods_per_year=periods_per_year(config),
        session_end=None,
        risk_free_rate=config["risk_free_rate"],
        cash_rate=config["cash_rate"],
        cost_rate=simulation_settings(config).cost_rate,
        execution_lag=config["execution_lag"],
        initial_capital=config["initial_capital"],
        benchmark=found.benchmark,
        in_sample={},
        return_bars=range(1, len(found.index)),
        factors=found.factors,
        **found.per_bar,
    )


def _drifted(records: Sequence[RunRecord], panel: Panel) -> Callable[[int, int], FloatArray]:
    """Return a function that gives the weights of a run after its trades at a bar's close.

    Runs on both sides of a switch are computed again: they are few, while the holdings of all runs
    on all bars would not fit into memory.
    """
    simulations: dict[int, Simulation | OwnAccount] = {}

    def weights(run: int, bar: int) -> FloatArray:
        if records[run].spec.strategy_kind == "account":
            return np.zeros(panel.n_assets)  # what it holds is not known: a switch is not charged
        if run not in simulations:
            simulations[run] = compute_chunk([records[run].spec], panel).runs[0].account
        found = simulations[run]
        assert isinstance(found, Simulation)
        return drifted_weights(found, panel, bar)

    return weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A batch, compared.

    Attributes
    ----------
    conclusion
        Ranking, sensitivity and verdict. Its first rows are the runs of the batch in the order in
        which they were planned; rows of earlier batches may follow.
    returns
        Net returns of the batch.
    walk
        The walk-forward; None without one.
    permutation
        The permutation test, or why there is none.
    """

    conclusion: Conclusion
    returns: BatchReturns
    walk: BatchWalk | None
    permutation: PermutationTest | str

    @property
    def walk_order(self) -> list[int]:
        """Positions of the walks, beginning with the one of the best ranked run."""
        if self.walk is None:
            return []
        best = self.conclusion.best
        runs = self.conclusion.table.runs
        first = 0
        # Runs of earlier batches may be compared too, but are not walked.
        if best is not None and runs["batch_id"][best] == runs["batch_id"].iloc[0]:
            first = self.walk.first(str(runs["run_id"][best]))
        others = [number for number in range(len(self.walk.walks)) if number != first]
        return [first, *others]

    @property
    def walk_sentences(self) -> list[str]:
        """The findings of the first of these walks; empty without one."""
        if self.walk is None:
            return []
        return sentences(self.walk.findings[self.walk_order[0]])


def compare(
    session: Session, ranking: Ranking, watch: Stopwatch, permutation: PermutationTest | str
) -> Compared:
    """Compare the runs of a batch, given its permutation test or why there is none."""
    with watch.stage("comparison"):
        own = session.bring_together()
        table = run_table(session)
        lost = session.lost_returns()
        if own is None:
            returns = batch_returns(
                session.workspace,
                session.plan.runs,
                session.plan.panels,
                lost=[spec.index for spec in lost],
            )
        else:
            returns = own.returns
        walk, unwalked = None, ""
        try:
            walk = None if lost else walk_batch(session, table, returns, ranking, own)
        except ConfigurationError as error:
            if own is None:
                raise
            unwalked = f"There is no walk-forward on the bars of these runs: {one_line(str(error))}"
        if walk is not None:
            table = _with_out_of_sample(table, walk)
        kinds = AxisKinds.of(session.config)
        notes: Sequence[str] = (*session.plan.notes, *session.rounds.notes, *session.notes)
        if own is not None:
            notes = (*notes, *own.notes, *([unwalked] if unwalked else []))
        if lost:
            notes = (*notes, f"The returns of {len(lost)} runs are missing: there is no verdict.")
        recorder = session.recording.recorder
        if session.config["filter_tags"] and recorder is not None and not session.recording.error:
            configs = [record.spec.config for record in session.in_order]
            table, earlier_notes = with_earlier_runs(
                table, configs, recorder.store, session.config["filter_tags"], kinds
            )
            notes = (*notes, *earlier_notes)
        notes = (*notes, *cap_notes(session.in_order, session.plan.swept))
        notes = (*notes, *_own_account_notes(session))
        once = _one_trial_each(session, table, returns)
        if not lost:
            notes = (*notes, *once.notes([item.spec.run_id for item in session.in_order]))
        notes = (*notes, *kinds.without_effect(list(table.params.columns)))
        heed()
        conclusion = conclude(
            table,
            ranking,
            returns=None if lost else returns_of_runs(session, returns, once.labels, own),
            settings=OverfittingSettings(
                seed=session.config["seed"],
                trials=session.config["trials"],
                mean_block=session.config["statistics"]["mean_block"] or AUTO,
            ),
            notes=notes,
            walk_forward_t={} if walk is None else walk.t_statistics,
            permutation=permutation,
        )
        return Compared(conclusion=conclusion, returns=returns, walk=walk, permutation=permutation)


def _own_account_notes(session: Session) -> list[str]:
    """Say what was noticed in accounts that strategies made themselves, each once."""
    found: dict[str, list[str]] = {}
    for record in session.in_order:
        if isinstance(record.outcome, RunResult):
            for text in filter(None, record.outcome.tags.get("account_notes", "").split("; ")):
                found.setdefault(text, []).append(record.spec.run_id)
    texts = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: the account {text}"
        for text, names in found.items()
    ]
    shown = texts[:_SHOWN_NOTES]
    more = [f"{len(texts) - len(shown)} more notes on accounts: see the tags account_notes"]
    own = any(run.strategy_kind == "account" for run in session.plan.runs)
    unpaid = walks_forward(session.config) and own
    return [
        *shown,
        *(more if len(texts) > len(shown) else []),
        *([_UNPAID] if unpaid else []),
    ]


_SHOWN_NOTES = 5
_UNPAID = (
    "What an account of a strategy's own holds is not known: changing between such runs in the "
    "walk-forward costs nothing."
)


def run_table(session: Session) -> RunTable:
    """Return the table of the runs that have ended."""
    records = session.in_order
    table = RunTable.from_records(
        records,
        batch_id=session.batch_id,
        kinds=AxisKinds.of(session.config),
    )
    ruined = [
        isinstance(record.outcome, RunResult) and "ruined" in record.outcome.tags
        for record in records
    ]
    ids = [session.recording.recorded.get(record.spec.run_key) for record in records]
    runs = table.runs.assign(ruined=ruined, mlflow_run_id=pd.Series(ids, dtype=object))
    return RunTable(
        runs=runs,
        params=table.params,
        metrics=table.metrics,
        scenario_axes=table.scenario_axes,
    )


def _with_out_of_sample(table: RunTable, walk: BatchWalk) -> RunTable:
    """Return the table with the metrics oos_* of the walk-forward."""
    found = walk.run_metrics.reindex(table.runs["run_id"])
    metrics = pd.concat([table.metrics, found.set_axis(table.metrics.index)], axis=1)
    return RunTable(
        runs=table.runs,
        params=table.params,
        metrics=metrics,
        scenario_axes=table.scenario_axes,
    )


def _one_trial_each(session: Session, table: RunTable, returns: BatchReturns) -> OneTrial:
    """Return what was chosen in each run; accounts of strategies that are equal are one choice.

    Weights are left alone: they are what was chosen, whatever came of them. Of an account nothing
    is known but what it returned.
    """
    records = session.in_order
    labels = decision_labels([item.spec for item in records], AxisKinds.of(session.config))
    if not any(item.spec.strategy_kind == "account" for item in records):
        return OneTrial(labels=labels, same_as={})
    own = [
        returns.rows[item.spec.index]
        if item.spec.strategy_kind == "account" and item.status == "FINISHED"
        else None
        for item in records
    ]
    once = one_trial_each(labels, table.scenario.tolist()[: len(records)], own)
    if once.same_as and len(records) == len(session.plan.runs):
        # Later batches count the trials of this one.
        with contextlib.suppress(OSError):
            write_trials(session.workspace, session.request, session.plan, once.labels)
    return once


def returns_of_runs(
    session: Session,
    returns: BatchReturns,
    decisions: Sequence[str],
    own: OwnBatch | None = None,
) -> ReturnsOfRuns:
    """Return the returns of the runs that have ended, in the order of their table.

    Parameters
    ----------
    session, returns
        The batch, and the returns of its runs.
    decisions
        What was chosen in each run.
    own
        The runs on common bars, where they read their own data.
    """
    records = session.in_order
    rows = np.array([record.spec.index for record in records], dtype=np.int64)
    n_runs = len(session.plan.runs)
    matrix = returns.rows[:n_runs] if len(rows) == n_runs else returns.rows[rows]
    configs = [record.spec.config for record in records]
    kinds = AxisKinds.of(session.config)
    swept = session.plan.swept
    factors, factors_of = _factors_of_runs(records, returns, own)
    return ReturnsOfRuns(
        index=returns.index,
        returns=matrix.T,
        benchmarks=returns.rows[n_runs:].T,
        benchmark_of=[_benchmark_column(returns, row, n_runs) for row in rows.tolist()],
        decisions=decisions,
        risk_free=[config["risk_free_rate"] / periods_per_year(config) for config in configs],
        bars_a_year=[periods_per_year(config) for config in configs],
        periods_per_year=periods_per_year(session.plan.runs[0].config),
        session_end=session_end(session.plan.runs[0].config),
        calendars=returns.calendars,
        calendar_of=[returns.calendar_of[row] for row in rows] if returns.calendar_of else (),
        earlier_decisions=_tried_before(session, configs, kinds),
        judged_apart=[name for name in kinds.scenario_names(swept) if is_market(name)],
        factors=factors,
        factors_of=factors_of,
    )


def _factors_of_runs(
    records: Sequence[RunRecord], returns: BatchReturns, own: OwnBatch | None
) -> tuple[dict[str, FactorReturns], list[str | None]]:
    """Return the factors of runs on the bars of the batch, by name, and the name of each run's."""
    found: dict[str, FactorReturns] = {}
    names: list[str | None] = []
    for record in records:
        spec = record.spec
        if spec.factors is None or record.status != "FINISHED":
            names.append(None)
            continue
        name = spec.factors.content
        if own is not None:
            name = f"{name} {own.calendar_of.get(spec.run_key)}"
        names.append(name)
        if name not in found:
            values = np.full((len(returns.index), len(spec.factors.names)), np.nan)
            if own is not None:
                values[own.bars_of(spec)] = own.factors_of(spec)
            else:
                held = factor_returns(spec)
                assert held is not None
                values[returns.bars_of[spec.data_fingerprint]] = held.values
            found[name] = FactorReturns(factors=spec.factors, values=values)
    return found, names


def _benchmark_column(returns: BatchReturns, run: int, n_runs: int) -> int | None:
    row = returns.benchmark_row[run]
    return None if row is None else row - n_runs


def _tried_before(
    session: Session, configs: Sequence[Mapping[str, Any]], kinds: AxisKinds
) -> Sequence[frozenset[str]]:
    """Return what earlier batches of the experiment tried on the data of each run.

    Other files, or other seeds, are further data to choose from, unless judged one by one.
    """
    recorder = session.recording.recorder
    if recorder is None or session.recording.error:
        return ()
    apart = any(kinds.is_scenario(f"data.{name}") for name in ("path", "seed"))
    label = source_label if apart else source_kind
    sources = [label(config) for config in configs]
    found = earlier_decisions(recorder.store, set(sources), batch_id=session.batch_id)
    return [found[source] for source in sources]


WINDOWS = ("train_start", "train_end", "test_start", "test_end")


def record_walk(session: Session, compared: Compared) -> str:
    """Record the walk-forward of a batch.

    Returns
    -------
    str
        Empty, or what to tell the user when something could not be recorded.
    """
    walk = compared.walk
    recorder = session.recording.recorder
    if walk is None or recorder is None or session.recording.error is not None:
        return ""
    ids = {
        record.spec.run_id: session.recording.recorded.get(record.spec.run_key)
        for record in session.in_order
    }
    found = {
        mlflow_run_id: {str(name): float(value) for name, value in values.dropna().items()}
        for run_id, values in walk.run_metrics.iterrows()
        if (mlflow_run_id := ids.get(str(run_id))) is not None
    }
    try:
        recorder.add_metrics(found)
        splits = list(_split_runs(session, walk.walks, ids))
        n_splits = sum(len(item.plan.splits) * len(item.runs.run_ids) for item in walk.walks)
        if walk.walks[0].settings.logs_split_runs(n_splits):
            if session.earlier is not None:  # an earlier attempt may have got this far
                again = read_runs(
                    recorder.store, batches=[session.batch_id], role="split", parts=()
                )
                recorder.retire(again["mlflow_run_id"].tolist())
            recorder.record_splits(splits)
    except StoreError as error:
        return f"{error}\nThe walk-forward is in the files of the batch, not in the store.\n"
    return ""


def _split_runs(
    session: Session, walks: tuple[ScenarioWalk, ...], ids: dict[str, str | None]
) -> Iterator[SplitRun]:
    keys = {record.spec.run_id: record.spec.run_key for record in session.in_order}
    for walk in walks:
        for split, choice in zip(walk.plan.splits, walk.choices, strict=True):
            windows = {name: str(walk.runs.index[getattr(split, name)]) for name in WINDOWS}
            for position, run_id in enumerate(walk.runs.run_ids):
                mlflow_run_id = ids.get(run_id)
                if mlflow_run_id is None:
                    continue
                metrics = {
                    prefix + name: float(values[split.number, position])
                    for prefix, part in (("is_", walk.in_sample), ("oos_", walk.out_of_sample))
                    for name, values in zip(part.names, part.values, strict=True)
                    if np.isfinite(values[split.number, position])
                }
                yield SplitRun(
                    run_key=keys[run_id],
                    run_id=run_id,
                    mlflow_run_id=mlflow_run_id,
                    split=split.number,
                    windows=windows,
                    chosen=choice == position,
                    metrics=metrics,
                )
