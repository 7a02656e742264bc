"""Why no run is selected: what the store has instead, so that a slip is found at once."""

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from backtest_batch.comparison.metrics_choice import choices
from backtest_batch.tracking.entries import RESERVED_TAGS
from backtest_batch.tracking.search import read_runs
from backtest_batch.tracking.store import Store

_IN_FILTER = re.compile(
    r"(?<![\w.])(metric|param|tag)s?\.(`[^`]+`|\"[^\"]+\"|[\w./-]+)", re.IGNORECASE
)
_LISTED = 30
"""Choices that a message lists at most."""


def why_empty(
    store: Store, batches: Sequence[str] | None, tags: Mapping[str, str], filter_string: str
) -> str:
    """Say why no run is selected: the key, its value and what there is instead.

    Parameters
    ----------
    store
        Where the runs are.
    batches
        The batch_ids that were asked for; None for all.
    tags, filter_string
        What the runs were to have and to meet.

    Raises
    ------
    StoreError
        When the store fails.
    """
    where = f"the experiment '{store.experiment}' of {store.shown}"
    if batches is not None:
        where = f"the batches {', '.join(batches)}" if len(batches) > 1 else f"batch {batches[0]}"
    runs = read_runs(store, batches=batches)
    if runs.empty and batches is not None:
        return f"batch={','.join(batches)}: no run of it is recorded yet"
    if runs.empty:
        return f"There is no run in {where} yet."
    for name, value in tags.items():
        reason = _why_no_tag(runs, name, value)
        if reason:
            return f"filter_tags.{name}={value}: {reason}"
    counts = [
        f"{(_column(runs, f'tags.{name}') == value).sum():,} have {name}={value}"
        for name, value in tags.items()
    ]
    for name, value in tags.items():
        runs = runs[_column(runs, f"tags.{name}") == value]
    if runs.empty:
        return f"filter_tags: no run of {where} has all of these tags; {', '.join(counts)}"
    said = list(_about_filter(runs, filter_string))
    about = f" ({'; '.join(said)})" if said else ""
    n_runs = "the only run" if len(runs) == 1 else f"none of the {len(runs):,} runs"
    verb = "does not meet" if len(runs) == 1 else "meets"
    return f"filter={filter_string}: {n_runs} of {where} {verb} it{about}"


def _why_no_tag(runs: pd.DataFrame, name: str, value: str) -> str:
    """Say why no run has a tag; empty when some run has it."""
    values = _column(runs, f"tags.{name}").dropna()
    if values.empty:
        names = sorted(
            column.removeprefix("tags.")
            for column in runs.columns
            if column.startswith("tags.") and not column.startswith("tags.mlflow.")
        )
        own = [name for name in names if name not in RESERVED_TAGS]
        listed = choices(name, own or names, at_most=_LISTED)
        return f"no run has a tag of this name; {listed}"
    if (values == value).any():
        return ""
    return f"no run has this value; {choices(value, sorted(values.unique()), at_most=_LISTED)}"


def _about_filter(runs: pd.DataFrame, filter_string: str) -> Iterator[str]:
    """Say of each name in a filter that no run has it, or which values a metric has."""
    for kind, quoted in dict.fromkeys(_IN_FILTER.findall(filter_string)):
        part, name = f"{kind.lower()}s", quoted.strip('`"')
        values = _column(runs, f"{part}.{name}").dropna()
        if values.empty:
            known = [
                column.removeprefix(f"{part}.")
                for column in runs.columns
                if column.startswith(f"{part}.")
            ]
            yield f"no run has {part}.{name}; {choices(name, known, at_most=_LISTED)}"
        elif part == "metrics":
            yield f"{part}.{name} is from {values.min():.6g} to {values.max():.6g}"


def _column(runs: pd.DataFrame, name: str) -> pd.Series:
    return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype=object)
