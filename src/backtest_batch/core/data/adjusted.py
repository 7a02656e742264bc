"""Closes as they were quoted, or adjusted for dividends and splits: which are used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backtest_batch.arrays import FIELDS, FloatArray
from backtest_batch.core.data.wording import Wording
from backtest_batch.errors import DataError

Adjusted = Literal["auto", True, False]
"""Whether adjusted closes are used where closes as quoted stand beside them."""

QUOTED = "quoted close"
"""The closes as quoted, where they serve to bring open, high and low onto the adjusted scale."""

# Prices in files are rounded: a close may lie this fraction outside its bar's range.
_ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which columns the fields of one asset are read from.

    Attributes
    ----------
    columns
        Column by field; also that of :data:`QUOTED`, where it is needed.
    to_scale
        Fields that stand on the scale of the closes as quoted, while the closes are adjusted.
    adjusted
        Column of the adjusted closes, where there is one, used or not.
    note
        What a reader should know about the closes.
    """

    columns: dict[str, str]
    to_scale: tuple[str, ...] = ()
    adjusted: str | None = None
    note: str | None = None


def choose(
    found: Mapping[str, str], *, adjusted: Adjusted, explicit: str | None, wording: Wording
) -> Choice:
    """Return which columns are read.

    Parameters
    ----------
    found
        Column by meaning: the fields, and ``adj_close`` and the like.
    adjusted
        What ``data.adjusted`` says.
    explicit
        The column that ``close_column`` names, None when it names the usual one.
    wording
        Names the table and its keys.

    Raises
    ------
    DataError
        When adjusted closes are wanted and there are none, or the other way round.
    """
    quoted, other = found.get("close"), found.get("adj_close")
    if adjusted is True and other is None:
        raise none_adjusted(wording)
    if adjusted is False and quoted is None and explicit is None:
        raise DataError(
            f"{wording.table} has adjusted closes alone ('{other}'), but "
            f"{wording.setting('adjusted', False)} demands those that were quoted"
        )
    by_name = explicit is not None and explicit == other
    use = other is not None and (
        by_name or quoted is None or adjusted is True or (adjusted == "auto" and explicit is None)
    )
    fields = {name: found[name] for name in FIELDS if name in found}
    if not use:
        return Choice(columns=fields, adjusted=other)
    own = {name: found[f"adj_{name}"] for name in FIELDS if f"adj_{name}" in found}
    to_scale = tuple(name for name in ("open", "high", "low") if name in fields and name not in own)
    columns = fields | own
    if quoted is not None:
        columns[QUOTED] = quoted
    return Choice(columns=columns, to_scale=to_scale, adjusted=other)


def none_adjusted(wording: Wording) -> DataError:
    """Return what is wrong where adjusted closes are demanded and there are none."""
    return DataError(
        f"{wording.table} has no column of adjusted closes such as 'Adj Close', as "
        f"{wording.setting('adjusted', True)} demands"
    )


def adjusted_fields(
    values: dict[str, FloatArray], choice: Choice, *, adjusted: Adjusted, wording: Wording
) -> tuple[dict[str, FloatArray], str | None]:
    """Return the fields of one asset on one scale, and a sentence on which closes they are.

    Open, high and low are brought onto the scale of the adjusted closes: x * adjusted / quoted.
    Computed as adjusted * (x / quoted), so that rounding takes no close out of its range.

    Parameters
    ----------
    values
        Values by field, as :func:`choose` chose them; changed in place.
    choice
        The choice.
    adjusted, wording
        As for :func:`choose`.

    Raises
    ------
    DataError
        When a close as quoted is no price, so that nothing can be scaled by it.
    """
    if choice.adjusted is None:
        return values, choice.note
    if choice.columns.get("close") != choice.adjusted:
        return values, (
            f"closes are those of '{choice.columns['close']}', not of '{choice.adjusted}' "
            f"({wording.setting('adjusted', True)} takes the adjusted ones)"
        )
    name = choice.adjusted
    if QUOTED not in choice.columns:
        return _without_scale(values, choice)
    other = choice.columns[QUOTED]
    quoted = values.pop(QUOTED)
    if adjusted == "auto" and _is_empty(values["close"]) and not _is_empty(quoted):
        values["close"] = quoted
        return values, f"closes are those of '{other}', as '{name}' is empty"
    close = values["close"]
    for field in choice.to_scale:
        unusable = ~(quoted > 0) & ~np.isnan(values[field]) & ~np.isnan(close)
        if unusable.any():
            row = int(unusable.argmax())
            raise DataError(
                f"{wording.table}: column '{other}' holds {quoted[row]:g} in data row {row + 1}, "
                f"so that '{choice.columns[field]}' cannot be adjusted as '{name}' is; "
                f"{wording.setting('adjusted', False)} takes the closes as quoted"
            )
        with np.errstate(all="ignore"):  # rows without a close are no bars
            values[field] = close * (values[field] / quoted)
    scaled = _listed(choice.to_scale)
    return values, (
        f"closes are those of '{name}', not of '{other}'"
        + (f", and {scaled} are adjusted in the same ratio" if scaled else "")
        + f" ({wording.setting('adjusted', False)} takes them as quoted)"
    )


def _without_scale(
    values: dict[str, FloatArray], choice: Choice
) -> tuple[dict[str, FloatArray], str]:
    """Leave out the fields whose scale is another than that of the adjusted closes."""
    text = f"closes are those of '{choice.adjusted}'; there are none as quoted beside them"
    if not choice.to_scale:
        return values, text
    close = values["close"]
    if {"high", "low"} <= set(choice.to_scale):
        outside = (close > values["high"] * (1 + _ROUNDING)) | (
            close < values["low"] * (1 - _ROUNDING)
        )
        if not outside.any():
            return values, text
    for field in choice.to_scale:
        del values[field]
    return values, (
        f"{text}, so that {_listed(choice.to_scale)} cannot be adjusted and are left out"
    )


def _is_empty(values: FloatArray) -> bool:
    return bool(np.isnan(values).all())


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
