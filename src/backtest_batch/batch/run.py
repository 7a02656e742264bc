"""A sweep on one page: plan, execute, record, compare, report."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward.walk import check_ranking, needed_metrics
from backtest_batch.batch.audits import audit_best
from backtest_batch.batch.dry_run import describe
from backtest_batch.batch.files import complete_best_runs
from backtest_batch.batch.finish import end_parent, finish, print_summary, publish
from backtest_batch.batch.judging import Compared, compare
from backtest_batch.batch.log import Stopwatch, end_log
from backtest_batch.batch.nested import search_rounds
from backtest_batch.batch.permutation import permutation_test
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.batch.rerun import Winner, read_winner, verify
from backtest_batch.batch.rounds import OneRound, Rounds
from backtest_batch.batch.session import MakeExecutor, Session, open_session
from backtest_batch.batch.training import measure_runs
from backtest_batch.core.engine.metrics import FACTOR_BETA
from backtest_batch.core.factors import factor_metric_names
from backtest_batch.core.fitting import walks_forward
from backtest_batch.core.windows import PER_BAR, metrics_with
from backtest_batch.errors import BacktestError, ConfigurationError, StoreError
from backtest_batch.interrupt import (
    Interrupted,
    begun,
    finished,
    heed,
    interruptible,
    remember,
    signals_deferred,
    taken,
)
from backtest_batch.records import BatchRequest, Factors, RunRecord
from backtest_batch.report.html.templates import start_packing
from backtest_batch.store.store import close_stores
from backtest_batch.streams import say, tell
from backtest_batch.workers.settings import make_executor

CUT_OFF = "Ended at once: what was not recorded by then is computed again.\n"


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """The outcome of a sweep.

    Attributes
    ----------
    exit_code
        What the command returns: 0 when every run succeeded, 1 when a run failed, 3 when results
        could not be recorded, 129, 130 or 143 when it was interrupted.
    batch_id
        Unique name of the batch; empty after a dry run.
    output_dir
        Its folder; None after a dry run.
    records
        The runs that ended, in the order of the plan.
    conclusion
        Their comparison; None after an interruption.
    keys
        Run key of each combination, duplicates included.
    """

    exit_code: int
    batch_id: str = ""
    output_dir: Path | None = None
    records: tuple[RunRecord, ...] = ()
    conclusion: Conclusion | None = None
    keys: tuple[str, ...] = ()

    @property
    def values(self) -> list[float | Exception]:
        """The ranking score of each combination (larger is better), or why there is none."""
        if self.conclusion is None:
            return [BacktestError("the batch was interrupted")] * len(self.keys)
        ranked, table = self.conclusion.ranked, self.conclusion.table
        rows = dict(zip(table.runs["run_key"], table.runs.index, strict=True))
        scores = ranked["score"].to_dict()
        values: list[float | Exception] = []
        for key in self.keys:
            row = rows.get(key)
            if row is None:
                values.append(BacktestError("it was not run"))
                continue
            why = str(ranked.at[row, "unranked"])
            values.append(BacktestError(why) if why else scores[row])
        return values


def run(
    request: BatchRequest, *, output: TextIO, make_executor: MakeExecutor = make_executor
) -> BatchOutcome:
    """Run a batch from its request to its reports.

    Parameters
    ----------
    request
        The batch.
    output
        Where its summary is written: leaderboard, notes, verdict, where to look further.
    make_executor
        Makes the executor that computes its runs.

    Raises
    ------
    BacktestBatchError
        When nothing was run: the configuration, the data or the store are unusable.
    """
    try:
        return _run(request, make_executor, output)
    finally:
        close_stores()
        end_log()


@dataclass(frozen=True)
class _Opened:
    """A batch that has begun, the ranking of its runs, and the earlier run that it repeats."""

    session: Session
    ranking: Ranking
    winner: Winner | None


def _run(request: BatchRequest, make_executor: MakeExecutor, output: TextIO) -> BatchOutcome:
    watch = Stopwatch.of_this_process()
    with interruptible():
        try:
            opened = _open(request, make_executor, watch, output)
        except BaseException as error:
            interruption = taken(error)
            if interruption is None:
                raise
            _say(f"\nInterrupted ({interruption}); nothing was run.\n")
            return BatchOutcome(exit_code=interruption.exit_code)
        if opened is None:
            return BatchOutcome(exit_code=0)
        winner = opened.winner
        with opened.session as session:
            try:
                remember(f"\nInterrupted. {CUT_OFF}{_how_to_go_on(session)}")
                if session.complete:
                    return _already_complete(session, output)
                compared = _compute_and_compare(session, opened.ranking, watch)
                exit_code = finish(session, compared, watch)
            except BaseException as error:
                interruption = taken(error)
                if interruption is not None:
                    return _interrupted(session, interruption)
                _abandon(session)
                raise
        with contextlib.suppress(Interrupted):
            print_summary(session, compared, output)
            if winner is not None and request.config["verify"]:
                verification = verify(winner, session.in_order, session.facts)
                tell(f"\n{verification}", output)
                exit_code = exit_code or (0 if verification.agrees else 1)
    return _outcome(session, exit_code, compared.conclusion)


def _open(
    request: BatchRequest, make_executor: MakeExecutor, watch: Stopwatch, output: TextIO
) -> _Opened | None:
    """Plan a batch and begin it; describe a dry run, and return None."""
    started_ms = time.time_ns() // 1_000_000
    ranking = _ranking(request)
    if request.config["dry_run"]:
        with signals_deferred():
            describe(request, ranking, output)
        return None
    _refuse_too_many(request)
    with watch.stage("planning"):
        rounds = _rounds(request, ranking)
        _check_factors(ranking, request, rounds.plan)
        # Read before anything is written: the reports may replace the file.
        winner = _winner(request)
        begun()
        session = open_session(
            request,
            rounds,
            make_executor,
            started_ms,
            rerun_of="" if winner is None else winner.batch_id,
            measure=measure_runs,
        )
    return _Opened(session, ranking, winner)


def _rounds(request: BatchRequest, ranking: Ranking) -> Rounds:
    """Plan all runs of a grid or a list, or the first round of a search."""
    if request.proposals is not None:
        return search_rounds(request, ranking)
    return OneRound(
        make_plan(
            request.compositions,
            invalid=request.config["invalid"],
            n_left_out=request.n_left_out,
        )
    )


def _compute_and_compare(session: Session, ranking: Ranking, watch: Stopwatch) -> Compared:
    with watch.stage("execution"):
        heed()
        session.compute(ranking)
    with watch.stage("comparison"):
        permutation = permutation_test(session, ranking)
    if not (session.computes_best_again or session.config["audit"]["enabled"]):
        session.end_workers()
    with watch.stage("recording"):
        session.recording.close()
        session.retire_unclaimed()
    start_packing()
    heed()
    compared = _compare(session, ranking, watch, permutation)
    heed()
    with watch.stage("audit"):
        compared = audit_best(session, compared)
    if not session.computes_best_again:
        session.end_workers()
    with watch.stage("recording"):
        return complete_best_runs(session, compared)


def _compare(
    session: Session, ranking: Ranking, watch: Stopwatch, permutation: PermutationTest | str
) -> Compared:
    try:
        return compare(session, ranking, watch, permutation)
    except StoreError as error:
        # Earlier batches cannot be read any more, but are not needed for this one.
        session.recording.stop(error)
        return compare(session, ranking, watch, permutation)


def _winner(request: BatchRequest) -> Winner | None:
    """Return the run to be computed again; None if there is none, or it has begun already."""
    config = request.config
    needed = config["verify"] or config["resume"] is None
    return read_winner(config["best"]) if config["best"] is not None and needed else None


def _ranking(request: BatchRequest) -> Ranking:
    config = request.config
    ranking = Ranking.parse(
        *(config[name] for name in ("rank_by", "constraints", "normalise", "metric_directions"))
    )
    if walks_forward(config):
        compared = config["benchmark"] not in (None, "none")
        names = metrics_with(PER_BAR, benchmark=compared)
        has_factors = config["factors"] is not None or "factors" in request.axes
        explained = factor_metric_names(_ANY_FACTORS) if has_factors else ()
        # The names of the factors stand in a file that has not been read yet.
        named = [name for name in needed_metrics(ranking) if name.startswith(FACTOR_BETA)]
        check_ranking(ranking, (*names, *explained, *(named if explained else ())))
    return ranking


_ANY_FACTORS = Factors(names=(), content="")


def _check_factors(ranking: Ranking, request: BatchRequest, plan: Plan) -> None:
    """Refuse a ranking of a walk-forward by the slope on a factor that some run does not have."""
    config = request.config
    if not walks_forward(config):
        return
    compared = config["benchmark"] not in (None, "none")
    names = metrics_with(PER_BAR, benchmark=compared)
    for factors in dict.fromkeys(run.factors for run in plan.runs):
        check_ranking(ranking, (*names, *factor_metric_names(factors)))


def _refuse_too_many(request: BatchRequest) -> None:
    limit = request.config["max_runs"]
    if request.size > limit and request.proposals is not None:
        raise ConfigurationError(
            f"the search may have {request.size:,} runs, more than max_runs={limit:,}; nothing was "
            f"run. Raise max_runs, or lower search.n_trials: each of them has "
            f"{request.proposals.n_scenarios:,} runs"
        )
    if request.size > limit:
        left_out = f", of which {request.n_left_out:,} do not satisfy the constraint"
        left_out = left_out if request.n_left_out else ""
        raise ConfigurationError(
            f"the batch has {request.size:,} runs, more than max_runs={limit:,}; nothing was run. "
            f"Raise max_runs, or take fewer values: {request.size_text}{left_out}"
        )


def _interrupted(session: Session, interruption: Interrupted) -> BatchOutcome:
    """Record what has ended, and say how to continue; what hangs may be cut off."""
    try:
        message = _end_early(session)
    except Interrupted:
        message = CUT_OFF
    _say(f"\nInterrupted ({interruption}). {message}{_how_to_go_on(session)}")
    return _outcome(session, interruption.exit_code, None)


def _say(text: str) -> None:
    # The terminal itself may be gone.
    with contextlib.suppress(OSError):
        say(text)


def _end_early(session: Session) -> str:
    """End the workers and the parent run; return what to tell the user."""
    session.interrupt()
    session.stop()
    if session.recording.recorder is None:
        # The store could not even be opened: nothing counts as run.
        session.workspace.discard()
        return f"{session.recording.error} Nothing was recorded.\n"
    session.note_trials()
    tried = session.workspace.start_files if session.searches else None
    unrecorded = end_parent(session, "KILLED", artifacts=tried)
    recorded = session.recording.recorded
    done = sum(
        record.status == "FINISHED" and record.spec.run_key in recorded
        for record in session.in_order
    )
    return f"{done} of {session.plan.n_rows} runs are recorded.\n{unrecorded}"


def _abandon(session: Session) -> None:
    """Leave nothing behind that seems to be running, whatever went wrong."""
    with contextlib.suppress(Exception):
        session.stop()
    if session.recording.recorder is None:
        # The store could not even be opened: nothing counts as run.
        session.workspace.discard()
        return
    with contextlib.suppress(Exception):
        say(end_parent(session, "FAILED"))
    say(_how_to_go_on(session))


def _how_to_go_on(session: Session) -> str:
    if not session.workspace.output_dir.exists():  # nothing was begun that could be continued
        return ""
    return f"To go on: python -m backtest_batch resume={session.batch_id}\n"


def _already_complete(session: Session, output: TextIO) -> BatchOutcome:
    # Its process may have died just before moving them.
    say(publish(session.workspace.reports, session.workspace.output_dir))
    if not session.failed:  # if failed runs run again, they need the returns of the others
        session.workspace.close()
    finished(0)
    later = () if session.earlier is None else session.earlier.unclaimed
    tell(
        f"The batch {session.batch_id} is complete: {len(session.records) + len(later)} runs are "
        "recorded, "
        f"nothing is left to run.\nReports: {session.workspace.output_dir}\n",
        output,
    )
    return _outcome(session, 0, None)


def _outcome(session: Session, exit_code: int, conclusion: Conclusion | None) -> BatchOutcome:
    return BatchOutcome(
        exit_code=exit_code,
        batch_id=session.batch_id,
        output_dir=session.workspace.output_dir,
        records=tuple(session.in_order),
        conclusion=conclusion,
        keys=session.plan.keys,
    )
