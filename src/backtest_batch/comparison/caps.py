"""What is said of caps that made decisions smaller."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from backtest_batch.records import RunRecord, RunResult


def scaled_text(cap: str, value: float | None, scaled: int, n_decisions: int) -> str:
    """Return ``max_gross_exposure=1.0 scaled down 131 of 390 decisions``."""
    return f"{cap}={value} scaled down {scaled} of {n_decisions} decisions"


def cap_notes(records: Iterable[RunRecord], swept: Collection[str]) -> list[str]:
    """Say which caps made decisions smaller, in one line for the whole batch.

    A cap that is swept is what the batch asks about; of that nothing is said.

    Parameters
    ----------
    records
        The runs.
    swept
        The swept keys.
    """
    found: dict[str, list[tuple[int, Mapping[str, Any], str, int]]] = {}
    for record in records:
        if isinstance(record.outcome, RunResult):
            for cap, scaled in record.outcome.scaled_by.items():
                if scaled and cap not in swept:
                    entry = (scaled, record.spec.config, record.spec.run_id)
                    found.setdefault(cap, []).append((*entry, record.outcome.n_decisions))
    parts = []
    for cap, entries in found.items():
        scaled, config, run_id, n_decisions = max(entries, key=lambda entry: entry[0])
        text = f"{scaled_text(cap, config[cap], scaled, n_decisions)} of {run_id}"
        others = len(entries) - 1
        also = f", and some of {others} more run{'s' if others > 1 else ''}" if others else ""
        parts.append(text + also)
    return ["; ".join(parts)] if parts else []
