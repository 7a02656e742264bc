"""The protocols of a strategy, and the checks of its arguments and of the weights it returns."""

import inspect
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel, held_name, not_held
from backtest_batch.core.numbers import real_numbers
from backtest_batch.errors import DataError, StrategyError


@runtime_checkable
class Strategy(Protocol):
    """Turns prices into target weights.

    Any class with this method is a strategy; nothing needs to be inherited. Three more members are
    optional: ``fit(panel)``, which walk-forward calls on training bars only and which returns
    ``self``, ``warmup_bars``, the number of bars needed before the first meaningful weight
    (an attribute or a property; 0 without it), and ``required_fields``, the names of the panel's
    fields that the strategy needs.
    """

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return the weights wanted at each decision bar.

        A DataFrame is read by its labels: columns by symbol (missing symbols have weight 0), rows
        by the timestamps of the decisions.

        Parameters
        ----------
        panel
            Prices of shape (n_bars, n_assets).
        decisions
            Increasing positions of the decision bars, shape (n_decisions,).

        Returns
        -------
        ndarray of shape (n_decisions, n_assets)
            Fractions of equity, negative for shorts; row i may use bars ``<= decisions[i]`` only.
        """
        ...


StrategyKind = Literal["weights", "account"]

LACKS_BOTH = (
    "has neither target_weights(panel, decisions) nor backtest(panel, conditions); a strategy has "
    "one of these methods, or is a function"
)


def strategy_kind(strategy: Any) -> StrategyKind | None:
    """Return whether a strategy gives target weights or makes its own account; None for neither.

    One that could do both gives weights. It may be an instance or a class.
    """
    if callable(getattr(strategy, "target_weights", None)):
        return "weights"
    return "account" if callable(getattr(strategy, "backtest", None)) else None


def call_fault(strategy: Any) -> str:
    """Return why a strategy's ``backtest`` cannot be called as it will be; empty if it can."""
    if strategy_kind(strategy) != "account":
        return ""
    try:
        signature = inspect.signature(strategy.backtest)
    except (TypeError, ValueError):  # what is compiled need not tell
        return ""
    try:
        signature.bind(None, None)
    except TypeError as error:
        return f"backtest is called with panel and conditions, but takes {signature} ({error})"
    return ""


def require(*faults: str | None) -> None:
    """Raise ValueError with all the faults; None means no fault."""
    found = [fault for fault in faults if fault is not None]
    if found:
        raise ValueError(" ".join(found))


def invariant(holds: bool, text: str, **values: object) -> str | None:
    """Return what is wrong when an invariant between arguments does not hold.

    Parameters
    ----------
    holds
        Whether it holds. Write it so that NaN breaks it (``0 < x``, not ``not x <= 0``).
    text
        The invariant as it would be written in code (``fast < slow``).
    **values
        The arguments that appear in it, by name.

    Returns
    -------
    str or None
        "`fast < slow` must hold, but got fast=99, slow=50."
    """
    if holds:
        return None
    got = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"`{text}` must hold, but got {got}."


def one_of(name: str, value: object, choices: Collection[str]) -> str | None:
    """Return what is wrong when ``value`` is none of ``choices``."""
    if value in choices:
        return None
    return f"`{name}` must be one of {', '.join(choices)}, but got {value!r}."


def required_fields(strategy: Any) -> tuple[str, ...]:
    """Return the names of the fields that a strategy, or its class, declares that it needs.

    Raises
    ------
    StrategyError
        When ``required_fields`` is anything but names.
    """
    said = getattr(strategy, "required_fields", ())
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, Collection) or not all(
        isinstance(name, str) and name.strip() for name in names
    ):
        raise StrategyError(f"required_fields must be names of fields, but got {said!r}")
    return tuple(names)


def check_fields(strategy: Any, panel: Panel) -> None:
    """Check that the data has the fields that a strategy needs.

    Raises
    ------
    DataError
        When one is missing.
    """
    for name in required_fields(strategy):
        if held_name(name, panel.fields) is None:
            who = strategy.__name__ if isinstance(strategy, type) else type(strategy).__name__
            raise DataError(
                f"{who} needs the field '{name}' (required_fields), but "
                f"{not_held('field', name, panel.fields)}"
            )


SHOWN_LABELS = 5


def target_weights(strategy: Strategy, panel: Panel, decisions: IntArray) -> FloatArray:
    """Ask a strategy for its weights; see :func:`as_weights` for what it may return.

    Changes that it makes to its prices and dates affect nothing else. Without decisions it is not
    asked.

    Raises
    ------
    StrategyError
        When it returns something that is not weights.
    Exception
        Whatever the strategy raises.
    """
    if len(decisions) == 0:
        return np.empty((0, panel.n_assets))
    return as_weights(
        strategy.target_weights(panel_of_its_own(panel), decisions.copy()), panel, decisions
    )


def as_weights(answer: Any, panel: Panel, decisions: IntArray) -> FloatArray:
    """Return the answer of a strategy as an array of shape (n_decisions, n_assets).

    Labels count: the columns of a DataFrame are read by symbol, and missing symbols have weight 0;
    its rows are read by timestamp, or are the decisions in order if their labels are the positions
    of the bars. Without labels (an array, or a pandas RangeIndex) rows and columns are read in
    order. A Series is one decision by symbol, or one symbol by decision. Whether the numbers are
    finite is checked where they are traded.

    Raises
    ------
    StrategyError
        When the answer is None, does not hold real numbers, has labels that are unknown or occur
        twice, or has another shape.
    """
    if answer is None:
        raise StrategyError("target_weights returned None; is a `return` missing?")
    if isinstance(answer, pd.Series):
        answer = _frame(answer, panel, decisions)
    if isinstance(answer, pd.DataFrame):
        return _by_label(answer, panel, decisions)
    return _shaped(_numbers(answer, panel, decisions), panel, decisions)


def _by_label(frame: pd.DataFrame, panel: Panel, decisions: IntArray) -> FloatArray:
    columns = _columns(frame.columns, panel)
    values = np.empty(frame.shape)
    for position in range(frame.shape[1]):
        values[:, position] = _numbers(frame.iloc[:, position], panel, decisions)
    if columns is not None:
        wide = np.zeros((len(frame), panel.n_assets))
        wide[:, columns] = values
        values = wide
    rows: FloatArray = _shaped(values, panel, decisions)[_rows(frame.index, panel, decisions)]
    return rows


def _frame(series: "pd.Series[Any]", panel: Panel, decisions: IntArray) -> Any:
    """Return a Series as one row or one column; if it is neither, an array, which is refused."""
    if len(decisions) == 1 and _are_symbols(series.index, panel):
        return series.to_frame().T.set_axis(panel.index[decisions])
    if panel.n_assets == 1 and len(series) == len(decisions):
        return series.to_frame().set_axis(list(panel.symbols), axis=1)
    return series.to_numpy()


def _columns(labels: pd.Index, panel: Panel) -> list[int] | None:
    """Return the position of each column's symbol; None for columns without labels."""
    if not _are_symbols(labels, panel) and isinstance(labels, pd.RangeIndex):
        return None
    places = {symbol: position for position, symbol in enumerate(panel.symbols)}
    names = [str(label) for label in labels]
    unknown = [name for name in names if name not in places]
    if unknown:
        raise StrategyError(
            f"target_weights returned weights of {_some(unknown)}, which the data does not have "
            f"(it has {_some(list(panel.symbols))})"
        )
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise StrategyError(f"target_weights returned two columns for {_some(twice)}")
    return [places[name] for name in names]


def _are_symbols(labels: pd.Index, panel: Panel) -> bool:
    return {str(label) for label in labels} <= set(panel.symbols)


def _rows(labels: pd.Index, panel: Panel, decisions: IntArray) -> Any:
    """Return which row of an answer belongs to each decision."""
    wanted = panel.index[decisions]
    if isinstance(labels, pd.DatetimeIndex):
        if (labels.tz is None) == (wanted.tz is None) and labels.is_unique:
            places = labels.get_indexer(wanted)
            if (places >= 0).all():
                return places
    elif labels.equals(pd.RangeIndex(len(labels))) or labels.equals(pd.Index(decisions)):
        return slice(None)
    raise StrategyError(
        "the rows of target_weights must be indexed by the timestamps of the decisions, "
        f"panel.index[decisions] ({wanted[0]} to {wanted[-1]}), but got "
        f"{labels[0]!s} to {labels[-1]!s} ({type(labels).__name__})"
    )


def _numbers(answer: Any, panel: Panel, decisions: IntArray) -> FloatArray:
    try:
        return real_numbers(answer)
    except (TypeError, ValueError) as error:
        raise StrategyError(
            f"target_weights must return an array of numbers of shape "
            f"({len(decisions)}, {panel.n_assets}), but got {type(answer).__name__}: {error}"
        ) from error


def _shaped(values: FloatArray, panel: Panel, decisions: IntArray) -> FloatArray:
    expected = (len(decisions), panel.n_assets)
    if values.shape != expected:
        every_bar = values.shape == (panel.n_bars, panel.n_assets)
        rows = "weights[decisions], of a DataFrame weights.iloc[decisions]"
        raise StrategyError(
            f"target weights must have shape (n_decisions, n_assets) = {expected}, "
            f"but got {values.shape}"
            + (f", a row for each bar: those of the decisions are {rows}" if every_bar else ".")
        )
    return values


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_LABELS} more" if len(names) > SHOWN_LABELS else ""
    return ", ".join(names[:SHOWN_LABELS]) + more


def panel_of_its_own(panel: Panel) -> Panel:
    """Return the panel with frames of its own; the arrays are read-only and shared."""
    return replace(
        panel,
        fields=dict(panel.fields),
        feature_arrays=dict(panel.feature_arrays),
        notes=(),
        _frames={},
    )
