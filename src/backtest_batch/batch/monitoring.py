"""The winner of a batch on newer data: frozen, computed once more, and set beside its record."""

import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.analysis.monitoring import FEWEST_RETURNS, Followed
from backtest_batch.analysis.overfitting.samples import day_starts
from backtest_batch.arrays import BoolArray, FloatArray
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.batch.rerun import RecordedCommand, Winner
from backtest_batch.batch.session import MakeExecutor
from backtest_batch.config.arguments import Argument, Arguments
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.cache import find_panel
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.renewal import describe_renewal, renewal
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.core.fingerprint import derived_seed
from backtest_batch.core.fitting import (
    periods_per_year,
    session_end,
    split_plan,
    walk_forward_settings,
)
from backtest_batch.core.live import packed
from backtest_batch.core.own_bars import benchmark_on, with_bars_a_year, with_recorded_bars
from backtest_batch.core.splits import make_splits, moved
from backtest_batch.errors import ConfigurationError, StrategyError
from backtest_batch.records import BatchRequest, RunFailure, RunResult, RunSpec
from backtest_batch.report.best_params import COMMAND_KEYS
from backtest_batch.rows import open_rows
from backtest_batch.store.batch_document import names_destination
from backtest_batch.store.folders import default_output_dir, is_batch_id
from backtest_batch.workers.chunks import (
    RETURNS,
    ChunkTask,
    Scratch,
    array_file,
    benchmark_rows,
    targets_of,
)
from backtest_batch.workers.own_files import read_own_returns
from backtest_batch.workers.settings import ExecutorSettings, make_executor

MAY_BE_NEWER = ("data", "benchmark", "benchmark_values", "end_date")
"""Root keys that say which data a frozen winner is computed on."""

_OF_ANY_SOURCE = ("data.session_end",)
"""Keys that every source has, and that hold for newer data from another one."""

_NOT_OF_THE_WINNER = frozenset(
    {"batch_name", "end_date", "factors", "fail_on_verdict", "n_jobs", "profiling.enabled"}
)
"""Keys of its batch that say nothing about what it computes on later bars."""

_AGREE = 1e-6
"""Relative difference up to which returns and totals are the same."""


def frozen_arguments(winner: Winner, recorded: Arguments, given: Arguments) -> Arguments:
    """Return the command of a winner with newer data, and without an end.

    Parameters
    ----------
    winner
        The run that ``best`` names.
    recorded
        Its command.
    given
        What is newer: keys of the data, of the benchmark, ``end_date``, and of tracking.

    Raises
    ------
    ConfigurationError
        When another key is given, which would change what the winner computes.
    """
    named = f"best={winner.path}"
    roots = (*MAY_BE_NEWER, "tracking")
    others = sorted(
        item.key for item in given.keys if item.key.partition(".")[0].lstrip("+~") not in roots
    )
    if others:
        raise ConfigurationError(
            f"{named}: what {winner.run_id} computes cannot change, but these are given: "
            f"{', '.join(others)}. Newer data are all that a monitor takes: data, data.*, "
            "benchmark, end_date"
        )
    leaves = [leaf for item in recorded.keys for leaf in item.leaves]
    usable = [item for item in leaves if winner.is_own or not names_destination(item.text)]
    config = winner.entry.get("config")
    command = RecordedCommand(
        named=named,
        arguments=recorded.with_keys(
            item for item in usable if not item.is_hydra or item.key == "hydra.searchpath"
        ),
        config=config if isinstance(config, Mapping) else {},
    )
    remaining = command.remaining(given, without=COMMAND_KEYS | _NOT_OF_THE_WINNER)
    keys = [item for item in remaining.keys if not _is_of_other_data(item, recorded, given)]
    alone = Argument.of("n_jobs", 1)
    fixed = _fixed(winner)
    return Arguments(keys=(*keys, *given.keys, *fixed, alone), options=remaining.options).merged()


def _fixed(winner: Winner) -> list[Argument]:
    """Return what would be found anew in newer data, and change what was computed before."""
    found = []
    number = recorded_bars_a_year(winner)
    if number is not None:
        found.append(Argument.of("periods_per_year", number))
    config = winner.entry.get("config")
    walk = config.get("walk_forward") if isinstance(config, Mapping) else None
    if isinstance(walk, Mapping) and walk.get("max_splits") is not None:
        # The latest splits are others at each look.
        found.append(Argument.of("walk_forward.max_splits", None))
    return found


def recorded_bars_a_year(winner: Winner) -> float | None:
    """Return the bars a year of the batch; None where they were not recorded."""
    config = winner.entry.get("config")
    if not isinstance(config, Mapping):
        return None
    given, data = config.get("periods_per_year"), config.get("data")
    if given is None and isinstance(data, Mapping) and data.get("freq"):
        try:
            given = periods_per_year(config)
        except (KeyError, ValueError):  # of another version, or damaged
            return None
    if isinstance(given, int | float) and math.isfinite(given) and given > 0:
        return float(given)
    return None


def hints(error: ConfigurationError) -> list[str]:
    """Return what to do about newer data on which a winner cannot be planned."""
    keys = {fault.key for fault in error.faults}
    found = []
    if any(
        fault.key.startswith("data.") and "is not an argument" in fault.allowed
        for fault in error.faults
    ):
        found.append(
            "The batch read another source: name that of the newer data, too, as in data=csv "
            "data.path=newer.csv."
        )
    if keys & {"strategy", "start_date"}:
        found.append("Newer data hold the bars of the batch, too: the strategy needs them.")
    if "benchmark" in keys:
        found.append("A newer benchmark is named beside the data: benchmark=FILE.")
    return found


def _is_of_other_data(item: Argument, recorded: Arguments, given: Arguments) -> bool:
    """Return whether a recorded key belongs to another source than the one that is given."""
    source = given.value("data")
    if source is None or source == recorded.value("data"):
        return False
    return item.key == "data" or (item.key.startswith("data.") and item.key not in _OF_ANY_SOURCE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """A frozen winner on newer data.

    Attributes
    ----------
    spec
        The run.
    panel
        Its data; of a strategy that reads its own, without prices.
    index
        Timestamps of the measured bars, shape (n_bars,).
    net_return
        Net returns, NaN on the first bar and after ruin.
    benchmark
        Those of the benchmark; None without one.
    ruined
        The bar at which its equity fell to zero; None without ruin.
    notes
        What the user should know of the data.
    """

    spec: RunSpec
    panel: Panel
    index: pd.DatetimeIndex
    net_return: FloatArray
    benchmark: FloatArray | None
    ruined: pd.Timestamp | None
    notes: tuple[str, ...] = ()


def planned(request: BatchRequest) -> Plan:
    """Return the plan of a frozen winner: one run."""
    return make_plan(request.compositions)


def replay(plan: Plan, winner: Winner, make: MakeExecutor = make_executor) -> Replay:
    """Compute a frozen winner in a worker process, as its batch did, with the seed that it had.

    Raises
    ------
    StrategyError
        When it fails on these data.
    """
    spec = replace(plan.runs[0], index=0)
    then = winner.entry.get("data_fingerprint")
    if isinstance(then, str):
        # A strategy draws the numbers of its batch, although the data have other content now.
        config = spec.config
        seed = derived_seed(config["seed"], then, config["strategy"], config["rebalance"])
        spec = replace(spec, strategy_seed=seed)
    panel = plan.panels[plan.runs[0].data_fingerprint]
    with tempfile.TemporaryDirectory(prefix="backtest_batch-monitor-") as temporary:
        folder = Path(temporary)
        rows = benchmark_rows([spec])
        scratch = Scratch(folder=folder, row_bars=spec.n_bars, benchmark_rows=rows)
        result = _result(spec, winner.run_id, scratch, make)
        if spec.own_data:
            return _own_replay(spec, panel, scratch, result, plan.notes)
        values = np.array(open_rows(array_file(folder, RETURNS), 1 + len(rows), spec.n_bars))
    first = spec.first_bar
    returns = values[:, first : spec.n_bars]
    return Replay(
        spec=spec,
        panel=panel,
        index=panel.index[first:],
        net_return=returns[0],
        benchmark=returns[1] if spec.benchmark_key in rows else None,
        ruined=_ruined(result),
        notes=plan.notes,
    )


def _result(spec: RunSpec, name: str, scratch: Scratch, make: MakeExecutor) -> RunResult:
    executor = make(
        ExecutorSettings(config=spec.config, folder=scratch.folder, logs=scratch.folder / "logs")
    )

    def task(runs: Iterable[RunSpec]) -> ChunkTask:
        chosen = tuple(runs)
        return ChunkTask(
            runs=chosen,
            scratch=scratch,
            with_files=frozenset(),
            profile=False,
            provenance={},
            objects=packed(targets_of(chosen)),
        )

    ended = []
    try:
        for records, reply in executor.execute([[spec]], task):
            if reply is not None and reply.write_error is not None:
                raise StrategyError(f"the returns could not be written: {reply.write_error}")
            ended += records
    finally:
        executor.close()
    outcome = ended[0].outcome if ended else None
    if isinstance(outcome, RunResult):
        return outcome
    what = "it did not end"
    if isinstance(outcome, RunFailure):
        what = f"{outcome.error_type}: {outcome.error_message}"
    raise StrategyError(f"{name} failed on these data: {what}")


def _own_replay(
    spec: RunSpec, panel: Panel, scratch: Scratch, result: RunResult, notes: tuple[str, ...]
) -> Replay:
    held = read_own_returns(scratch.folders, spec.run_key)
    if held is None:
        raise StrategyError(f"{spec.run_id}: its returns could not be written")
    compared = benchmark_on(spec, held.index)
    return Replay(
        spec=with_recorded_bars(spec, result.tags),
        panel=panel,
        index=held.index,
        net_return=held.net_return,
        benchmark=compared.returns,
        ruined=_ruined(result),
        notes=(*notes, *compared.notes),
    )


def _ruined(result: RunResult) -> pd.Timestamp | None:
    found = result.tags.get("ruined")
    return None if found is None else pd.Timestamp(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What is known of the winner on the bars of its batch.

    Attributes
    ----------
    returns
        Net returns by timestamp, without NaN.
    since
        The last bar of the batch, on the clock of the newer data.
    place
        Where the returns were found; empty where they were computed again.
    """

    returns: pd.Series
    since: pd.Timestamp
    place: str = ""


def recorded(
    winner: Winner, found: Replay, stored: Iterable[pd.Series], since: str | None
) -> Record:
    """Return the returns of a winner on the bars of its batch.

    The first that fit its metrics count: those in returns.parquet beside best_params.json or in the
    folder of its batch, those of the store, and those that are computed now, up to as many bars as
    the batch had. With ``since`` the last are used if none of the others fit.

    Raises
    ------
    ConfigurationError
        When none fit: it cannot be told where its batch ended. When the batch ended elsewhere than
        ``since`` says.
    """
    record = _record_of(winner, found, stored, since)
    if since is not None:
        n_until = found.index.slice_indexer(end=since).stop
        if n_until != int((found.index <= record.since).sum()):
            raise ConfigurationError(
                f"since={since}: the batch of {winner.run_id} ended at "
                f"{moment_text(record.since)}, as its returns say. Leave since out"
            )
    return record


def _record_of(
    winner: Winner, found: Replay, stored: Iterable[pd.Series], since: str | None
) -> Record:
    for place, returns in _kept(winner, stored):
        clocked = _on_clock(returns, found.index)
        if clocked is not None and _fits(winner, clocked.to_numpy()):
            return Record(returns=clocked, since=clocked.index[-1], place=place)
    now = pd.Series(found.net_return, index=found.index).dropna()
    n_periods = _metric(winner, "n_periods")
    if n_periods is not None and int(n_periods) <= len(now):
        then = now.iloc[: int(n_periods)]
        if _fits(winner, then.to_numpy()):
            return Record(returns=then, since=then.index[-1])
    before = _panel_of_then(winner)
    last = None if before is None or not before.n_bars else before.index[-1]
    if since is not None:
        stop = found.index.slice_indexer(end=since).stop
        last = found.index[stop - 1] if stop else None
    if last is not None and (last.tz is None) == (found.index.tz is None):
        then = now.loc[:last]
        if len(then):
            return Record(returns=then, since=last)
    raise ConfigurationError(
        f"best={winner.path}: it cannot be told where the batch of {winner.run_id} ended: its "
        "returns.parquet is not there, and what is computed now does not have the recorded metrics "
        "on any of its first bars (the data were restated, begin elsewhere, or the code has "
        "changed). Name the last bar of the batch: since=2023-12-29"
    )


def _kept(winner: Winner, stored: Iterable[pd.Series]) -> Iterator[tuple[str, pd.Series]]:
    """Yield where returns of the winner are kept, and them."""
    folders = [winner.path.absolute().parent]
    if is_batch_id(winner.batch_id):
        folders.append(default_output_dir(winner.batch_id))
    for folder in dict.fromkeys(folders):
        path = folder / "returns.parquet"
        try:
            frame = pd.read_parquet(path, columns=["timestamp", winner.run_id])
            series = frame.set_index("timestamp")[winner.run_id]
        except (OSError, ValueError, KeyError):  # not there, without this run, or damaged
            continue
        yield str(path), series
    for series in stored:
        yield "the store", series


def _on_clock(returns: pd.Series, index: pd.DatetimeIndex) -> pd.Series | None:
    """Return recorded returns on the clock of an index; None if they cannot be compared."""
    known = returns.dropna()
    stamps = known.index
    if not isinstance(stamps, pd.DatetimeIndex) or known.empty:
        return None
    if (stamps.tz is None) != (index.tz is None):
        return None
    if stamps.tz is not None:
        known = known.set_axis(stamps.tz_convert(index.tz))
    return known.astype(np.float64)


def _metric(winner: Winner, name: str) -> float | None:
    metrics = winner.entry.get("metrics")
    value = metrics.get(name) if isinstance(metrics, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _fits(winner: Winner, returns: npt.NDArray[Any]) -> bool:
    """Return whether returns are those of the recorded metrics."""
    n_periods, total = _metric(winner, "n_periods"), _metric(winner, "total_return")
    if n_periods is not None and len(returns) != int(n_periods):
        return False
    growth = float(np.prod(1.0 + returns))
    return total is None or math.isclose(growth, 1.0 + total, rel_tol=_AGREE, abs_tol=_AGREE)


@dataclass(frozen=True, kw_only=True)
class Parted:
    """A replay, divided at the end of the batch, and what is to be said of it.

    Attributes
    ----------
    followed
        What is compared.
    notes
        What the user should know.
    differing
        On how many bars of the batch the returns are not those recorded.
    """

    followed: Followed
    notes: tuple[str, ...] = field(default=())
    differing: int = 0


def parted(winner: Winner, found: Replay, record: Record) -> Parted:
    """Divide a replay at the last bar of the batch.

    Raises
    ------
    ConfigurationError
        When there is nothing to compare: no later bars, too few earlier ones, a promise that does
        not vary or ended in ruin.
    """
    config, since = found.spec.config, record.since
    finite = np.isfinite(found.net_return)
    n_final, said_of_rest = _final_bars(found)
    is_later = np.asarray(found.index > since) & finite
    later = is_later & (np.arange(len(finite)) < n_final)
    not_yet = int(is_later.sum() - later.sum())
    earlier = np.asarray((found.index >= record.returns.index[0]) & (found.index <= since)) & finite
    waiting = f"{not_yet:,} new {'bar does' if not_yet == 1 else 'bars do'} not count yet: "
    waiting = waiting + said_of_rest if not_yet else ""
    _require_bars(winner, found, record, int(later.sum()), int(earlier.sum()), waiting)
    past = record.returns.to_numpy()
    if float(np.prod(1.0 + past)) <= 0.0:
        raise ConfigurationError(
            f"best={winner.path}: {winner.run_id} lost everything before its batch ended: it "
            "promised nothing"
        )
    if float(past.std()) == 0.0:
        raise ConfigurationError(
            f"best={winner.path}: the returns of {winner.run_id} never vary: they promise nothing "
            "that could be broken"
        )
    benchmark, gaps = found.benchmark, 0
    if benchmark is not None:
        gaps = int((~np.isfinite(benchmark[later | earlier])).sum())
        benchmark = np.nan_to_num(benchmark)
    differing, said = _differences(found, record, earlier)
    notes = [
        *_of_verdict(winner),
        *found.notes,
        *_renewed(winner, found),
        *said,
        *_of_code(winner, found.spec),
    ]
    if waiting:
        notes.append(waiting)
    if gaps:
        notes.append(f"the benchmark has no return on {gaps:,} bars, which count as 0")
    if not record.place:
        notes.append(
            "the returns of the batch were not kept: what it promised is taken from those that are "
            "computed now"
        )
    ruined = found.ruined
    if ruined is not None and not since < ruined <= found.index[later][-1]:
        ruined = None
    return Parted(
        followed=Followed(
            name=winner.run_id,
            since=since,
            promised=past,
            promised_index=pd.DatetimeIndex(record.returns.index),
            earlier=found.net_return[earlier],
            earlier_index=found.index[earlier],
            earlier_benchmark=None if benchmark is None else benchmark[earlier],
            returns=found.net_return[later],
            index=found.index[later],
            benchmark=None if benchmark is None else benchmark[later],
            periods_per_year=_bars_a_year_of(winner, found, record),
            risk_free_rate=float(config["risk_free_rate"]),
            session_end=session_end(config),
            benchmark_name="" if benchmark is None else found.spec.benchmark.name,
            ruined=None if ruined is None else moment_text(ruined),
            seed=int(config["seed"]),
        ),
        notes=tuple(dict.fromkeys(notes)),
        differing=differing,
    )


def _bars_a_year_of(winner: Winner, found: Replay, record: Record) -> float:
    number = recorded_bars_a_year(winner)
    if number is None and found.spec.own_data:
        # Those of its newer returns would be others at each look.
        config = {**found.spec.config, "periods_per_year": None}
        then = replace(found.spec, config=config)
        return periods_per_year(
            with_bars_a_year(then, pd.DatetimeIndex(record.returns.index), winner.run_id).config
        )
    return periods_per_year(found.spec.config) if number is None else number


def _final_bars(found: Replay) -> tuple[int, str]:
    """Return how many bars have a return that later bars cannot change, and why no more."""
    return min((_bars_in_windows(found), _bars_in_sessions(found)), key=lambda item: item[0])


def _bars_in_windows(found: Replay) -> tuple[int, str]:
    """Count the bars of test windows on which a strategy has been fitted for good.

    Bars after the last window are held on its fit until they are a window of their own, with one
    that is fitted later. The bar before a window pays for the trades into it.
    """
    spec, n_bars = found.spec, len(found.index)
    if spec.fit_bars is None or spec.own_data:
        return n_bars, ""
    settings = walk_forward_settings(spec, found.panel, spec.fit_bars)
    last = split_plan(spec, found.panel, spec.fit_bars).splits[-1]
    bars = found.panel.index[slice(*spec.fit_bars)]
    smallest = replace(settings, min_test_size=1)
    further = moved(make_splits(smallest, bars, periods_per_year(spec.config)), spec.fit_bars[0])
    begun = [one.test_start for one in further.splits if one.test_start > last.test_start]
    stop = min([last.test_end + 1, *begun]) - 1
    shifted = stop - (found.panel.n_bars - n_bars)
    return shifted, "the strategy may be fitted again for them (min_test_size of walk_forward)"


def _bars_in_sessions(found: Replay) -> tuple[int, str]:
    """Count the bars of sessions within days that have ended.

    The last one has if no other has a bar at a later time of the day, or if equity is lost.
    """
    index, end = found.index, session_end(found.spec.config)
    starts = day_starts(index, end)
    if starts is None:
        return len(index), ""
    first = int(starts[-1])
    midnight = pd.Timedelta(0) if end is None else pd.Timedelta(f"{end}:00")
    wall = index.tz_localize(None) - midnight
    times = wall - wall.normalize()
    if times[-1] >= times.max() or (found.ruined is not None and found.ruined >= index[first]):
        return len(index), ""
    return first, f"the session that began at {moment_text(index[first])} may not have ended"


def _require_bars(
    winner: Winner,
    found: Replay,
    record: Record,
    n_later: int,
    n_earlier: int,
    waiting: str,
) -> None:
    if waiting and not n_later:
        raise ConfigurationError(
            f"best={winner.path}: there are no new bars that count: the batch ended at "
            f"{moment_text(record.since)}, and {waiting}"
        )
    if not n_later:
        last = found.index[np.flatnonzero(np.isfinite(found.net_return))[-1:]]
        until = moment_text(last[0]) if len(last) else "nowhere"
        raise ConfigurationError(
            f"best={winner.path}: there are no new bars: the batch ended at "
            f"{moment_text(record.since)}, and the returns on these data go up to {until}. "
            "data.path names newer ones"
        )
    if n_earlier < FEWEST_RETURNS:
        raise ConfigurationError(
            f"best={winner.path}: the data begin too late: they have {n_earlier} returns up to the "
            f"end of the batch ({moment_text(record.since)}), at least {FEWEST_RETURNS} are needed "
            "beside the bars that the strategy needs before its first weight. Give data that hold "
            "the bars of the batch, too"
        )
    if len(record.returns) < FEWEST_RETURNS:
        raise ConfigurationError(
            f"best={winner.path}: {winner.run_id} has {len(record.returns)} returns in its batch, "
            f"at least {FEWEST_RETURNS} are needed to say what it promised"
        )


def _differences(found: Replay, record: Record, earlier: BoolArray) -> tuple[int, list[str]]:
    """Return on how many bars of the batch the returns differ from those recorded, and a note."""
    now = pd.Series(found.net_return[earlier], index=found.index[earlier])
    both = pd.concat([record.returns, now], axis=1, keys=["then", "now"], join="inner")
    missing = len(record.returns) - len(both)
    apart = ~np.isclose(both["then"], both["now"], rtol=_AGREE, atol=1e-9)
    n_apart = int(apart.sum())
    notes = []
    if missing:
        notes.append(
            f"{missing:,} of the {len(record.returns):,} returns of the batch are on bars that "
            "these data do not have, or before their first measured one"
        )
    if n_apart:
        row = both[apart].iloc[0]
        notes.append(
            f"{n_apart:,} of {len(both):,} returns on bars of the batch are not those recorded "
            f"(first at {moment_text(both.index[apart][0])}: {row['then']:.6g} then, "
            f"{row['now']:.6g} now): the data have other symbols or were restated, or the code has "
            "changed. The promise is that of then"
        )
    return n_apart, notes


def _renewed(winner: Winner, found: Replay) -> list[str]:
    """Say how the prices differ from those of the batch, if these are still in the cache."""
    if found.spec.own_data:
        return []
    before = _panel_of_then(winner)
    if before is None or before.fingerprint == found.panel.fingerprint:
        return []
    if stamps_of(before.index)[1] != stamps_of(found.panel.index)[1]:
        return ["the data are on the clock of another time zone than those of the batch"]
    said = describe_renewal(renewal(before, found.panel), "the batch ran")
    return [] if said is None else [f"the data: {said}"]


def _panel_of_then(winner: Winner) -> Panel | None:
    """Return the data of the batch, if they are still in the cache."""
    then = winner.entry.get("data_fingerprint")
    # It names a folder: nothing else may become one.
    known = isinstance(then, str) and re.fullmatch("[0-9a-f]{64}", then) is not None
    return find_panel(str(then)) if known else None


def _of_verdict(winner: Winner) -> list[str]:
    """Say that a promise is not to be trusted, by the verdict on the batch."""
    if winner.verdict not in ("luck", "invalid"):
        return []
    return [f"the verdict on its batch was '{winner.verdict}': the backtest promised too much"]


def _of_code(winner: Winner, spec: RunSpec) -> list[str]:
    then = winner.entry.get("code_fingerprint")
    if not then or then == spec.code_fingerprint:
        return []
    return [
        "the code of the strategy or of this package has changed since the batch: what is followed "
        "is the winner as the code is now"
    ]
