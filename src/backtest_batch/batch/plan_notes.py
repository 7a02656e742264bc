"""What is said about a plan: all that is wrong with its combinations, or notes on its runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from backtest_batch.arrays import IntArray
from backtest_batch.batch.own_data import own_data_notes
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import decision_bars, idle_text
from backtest_batch.core.fitting import session_end
from backtest_batch.errors import Fault
from backtest_batch.records import RunSpec

SHOWN_FAULTS = 20


WAYS_OUT = (
    "What a strategy itself refuses can be left out: say what must hold, as in "
    "'constraint=\"strategy.fast < strategy.slow\"', or skip whatever it refuses: invalid=skip."
)


def faults_text(faults: Sequence[Fault], n_invalid: int, n_combinations: int) -> str:
    """Return one message that lists each distinct fault once."""
    if n_combinations == 1:
        head = "The configuration is invalid; nothing was run:"
    else:
        head = f"{n_invalid} of {n_combinations} combinations are invalid; nothing was run:"
    counted = Counter((fault.key, fault.shown, fault.allowed) for fault in faults)
    first_run: dict[tuple[str, str, str], str] = {}
    for fault in faults:
        first_run.setdefault((fault.key, fault.shown, fault.allowed), fault.run)
    lines = []
    for (key, value, allowed), count in list(counted.items())[:SHOWN_FAULTS]:
        where = ""
        if n_combinations > 1 and count < n_combinations:
            others = f" and {count - 1} more" if count > 1 else ""
            where = f" (in {first_run[key, value, allowed]}{others})"
        lines.append(f"  {key}={value}: {allowed}{where}")
    hidden = len(counted) - SHOWN_FAULTS
    if hidden > 0:
        lines.append(f"  ... and {hidden} more")
    if n_invalid < n_combinations:
        lines.append(
            "Take out the values that fit in no combination, or list the combinations that are "
            "valid: `runs` in a batch file."
        )
        if any(fault.refused for fault in faults):
            lines.append(WAYS_OUT)
    return "\n".join([head, *lines])


def plan_notes(
    runs: Sequence[RunSpec], panels: Mapping[str, Panel], duplicates: Sequence[tuple[str, str]]
) -> Iterable[str]:
    """Yield notes for the user about the runs of a plan.

    Parameters
    ----------
    runs
        The runs.
    panels
        Their data by fingerprint.
    duplicates
        Names of combinations that are the same run as an earlier one, with that run's name.
    """
    if duplicates:
        counted = Counter(duplicates)
        named = ", ".join(_repeated(*pair, count) for pair, count in list(counted.items())[:5])
        more = f" and {len(counted) - 5} more" if len(counted) > 5 else ""
        yield (
            f"{len(duplicates)} of {len(runs) + len(duplicates)} combinations are the same run as "
            f"an earlier one and run once: {named}{more}"
        )
    if any(run.own_data for run in runs):
        yield from own_data_notes(runs)
        return
    yield from _warmup_notes(runs, panels)
    yield from _idle_notes(runs, panels)


def _repeated(name: str, first: str, count: int) -> str:
    return f"{name} = {first}" if name != first else f"{name} ({count + 1} times)"


def _warmup_notes(runs: Sequence[RunSpec], panels: Mapping[str, Panel]) -> Iterable[str]:
    """Say which start_date makes runs comparable that begin on different bars of the same data."""
    starts: dict[str, set[int]] = {}
    for run in runs:
        if run.config["start_date"] is None:
            starts.setdefault(run.data_fingerprint, set()).add(run.first_bar)
    for fingerprint, bars in starts.items():
        if len(bars) > 1:
            latest = panels[fingerprint].index[max(bars)]
            text = latest.date() if latest == latest.normalize() else latest
            yield (
                f"the warm-ups of the runs differ ({min(bars)} to {max(bars)} bars): "
                f"start_date={text} makes their metrics comparable"
            )


def _idle_notes(runs: Sequence[RunSpec], panels: Mapping[str, Panel]) -> Iterable[str]:
    """Say which runs decide nothing on the bars that are measured."""
    decisions: dict[tuple[str, str, str | None], IntArray] = {}
    notes: dict[str, None] = {}
    cases = dict.fromkeys(
        (
            (run.data_fingerprint, run.config["rebalance"], session_end(run.config)),
            run.first_bar,
            run.config["execution_lag"],
        )
        for run in runs
    )
    for calendar, first_bar, lag in cases:
        data, rebalance, end = calendar
        index = panels[data].index
        if calendar not in decisions:
            decisions[calendar] = decision_bars(index, rebalance, end)
        said = idle_text(
            index, decisions[calendar], rebalance, first_bar=first_bar, execution_lag=lag
        )
        if said is not None:
            notes[said] = None
    yield from notes


def skip_notes(n_left_out: int, refused: Sequence[Fault], n_combinations: int) -> Iterable[str]:
    """Say how many combinations of a grid are no runs, and why.

    Parameters
    ----------
    n_left_out
        Number of combinations that do not satisfy the constraint.
    refused
        Why a strategy refused combinations, one each.
    n_combinations
        Number of combinations that satisfy the constraint.
    """
    if n_left_out:
        total = n_left_out + n_combinations
        yield (
            f"{n_left_out:,} of {total:,} combinations do not satisfy the constraint: they are no "
            "runs."
        )
    if refused:
        first = refused[0]
        yield (
            f"{len(refused):,} of {n_combinations:,} combinations are refused by their strategy "
            f"(invalid=skip): they are no runs. The first is {first.run}: {first.allowed}"
        )
