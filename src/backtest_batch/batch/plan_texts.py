"""What a plan has to say: why it is refused, and what to know before reading the results."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from backtest_batch.batch.forward import periods_per_year
from backtest_batch.engine.frequency import disagreement
from backtest_batch.errors import Fault
from backtest_batch.market.panel import Panel
from backtest_batch.records import RunSpec

SHOWN_FAULTS = 20


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
    return "\n".join([head, *lines])


def plan_notes(
    runs: Sequence[RunSpec], panels: Mapping[str, Panel], duplicates: Sequence[tuple[str, str]]
) -> Iterable[str]:
    """Yield what the user should know about the runs of a plan.

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
    yield from _warmup_notes(runs, panels)
    yield from _frequency_notes(runs, panels)


def _repeated(name: str, first: str, count: int) -> str:
    return f"{name} = {first}" if name != first else f"{name} ({count + 1} times)"


def _warmup_notes(runs: Sequence[RunSpec], panels: Mapping[str, Panel]) -> Iterable[str]:
    """Say which start_date makes runs comparable that begin on different bars of one data."""
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


def _frequency_notes(runs: Sequence[RunSpec], panels: Mapping[str, Panel]) -> Iterable[str]:
    """Say where the index has other bars a year than the metrics assume."""
    assumed = dict.fromkeys((run.data_fingerprint, periods_per_year(run.config)) for run in runs)
    found = (disagreement(panels[data].index, per_year) for data, per_year in assumed)
    yield from dict.fromkeys(note for note in found if note is not None)
