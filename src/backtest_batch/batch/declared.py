"""What a source says of its bars, and a strategy of itself, before anything is computed."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from backtest_batch.config.rebalance import parse_rebalance
from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.core.construct import TARGET, TargetError, arguments_of, build, locate
from backtest_batch.core.data.panel import Panel, held_name, not_held, one_spelling
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.engine.frequency import ASSUMED, AUTO, USUAL_FREQ, Frequency
from backtest_batch.core.engine.length_change import BarLengths
from backtest_batch.core.engine.sessions import session_end_text
from backtest_batch.core.strategies.base import StrategyKind, required_fields
from backtest_batch.errors import Fault
from backtest_batch.records import Scalar


def refuses_arguments(node: Mapping[str, Any], seed: int) -> bool:
    """Return whether a strategy that cannot be built says that its arguments do not go together.

    That is a ValueError, as ConfigurationError is one, or an assertion. What else it raises is a
    mistake in it.
    """
    arguments, faults = arguments_of(node, key="strategy", seed=seed)
    if faults:
        return False
    try:
        locate(str(node[TARGET]), or_function=True)(**arguments)
    except (ValueError, AssertionError):
        return True
    except (Exception, SystemExit):  # noqa: BLE001 - a strategy may raise anything
        return False
    return False


class Market:
    """What a source, and the timestamps of its bars, say about bars and sessions."""

    def __init__(self, source: Source, panel: Panel) -> None:
        self.session_end = session_end_text(source.session_end)
        self.lengths = BarLengths(panel.index, self.session_end)
        self._declared = source.freq
        self._nodes: dict[str, dict[str, Any]] = {}

    def resolved(self, config: Mapping[str, Any], found: Frequency) -> dict[str, Any]:
        """Return a configuration in which what was found stands in the place of ``auto``.

        What is as it always was for such data is left as it was: run keys of before stay.
        """
        freq = found.freq if self._declared == AUTO else self._declared
        node = self._nodes.get(freq)
        if node is None:  # one for all runs: it is hashed once
            node = self._nodes[freq] = dict(config["data"])
            if "freq" in node or freq != USUAL_FREQ:
                node["freq"] = freq
            if "session_end" in node:
                node["session_end"] = self.session_end
        resolved = {**config, "data": node}
        number = found.per_year
        if config["periods_per_year"] is None and number is not None:
            resolved["periods_per_year"] = None if number == ASSUMED.get(freq) else number
        return resolved


@dataclass(frozen=True)
class DeclaredStrategy:
    """What a strategy declares, with its arguments and its seed.

    Attributes
    ----------
    key
        Hash of the arguments, and the seed.
    warmup_bars
        Bars that it needs before its first meaningful weight.
    fits
        Whether it has ``fit``.
    faults
        Why it cannot be used.
    kind
        Whether it gives weights or makes its own account.
    """

    key: tuple[str, int]
    warmup_bars: int
    fits: bool
    faults: tuple[Fault, ...]
    kind: StrategyKind = "weights"


def spelt_alike(key: str, value: Any) -> Any:
    """Return the value of a root key in the form that equal values share.

    -0.0 is 0.0, and 2005-1-31 and 20050131 are 2005-01-31; a year or a month is another date. 60min
    is 1h, and 3M is Q.
    """
    if isinstance(value, float):
        return value + 0.0
    if key in ("start_date", "end_date") and isinstance(value, str):
        return one_spelling(value)
    if key == "rebalance" and isinstance(value, str):
        with suppress(ValueError):  # what it is not, is said with all other faults
            return str(parse_rebalance(value))
    return value


def swept_as_typed(config: Mapping[str, Any], key: str, value: Scalar) -> Scalar:
    """Return a swept value as it stands in the configuration, in which equal values are alike."""
    root, _, rest = key.partition(".")
    if not rest and key in SWEEPABLE and isinstance(value, float | str):
        spelt: Scalar = spelt_alike(key, value)
        return spelt
    node = config[root] if rest and root in ("data", "strategy") else None
    typed = node.get(rest) if isinstance(node, Mapping) else None
    return typed if isinstance(typed, bool | int | float) else value


def read_required_fields(node: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Fault]]:
    """Return the fields that the class of a strategy needs, or what is wrong with its list.

    Where they depend on the arguments, the strategy is made to be asked.
    """
    try:
        strategy: Any = locate(str(node.get(TARGET)), or_function=True)
    except TargetError:
        return (), []  # said where the strategy is built
    if isinstance(inspect.getattr_static(strategy, "required_fields", ()), property):
        strategy, faults = build(node, key="strategy", seed=0)
        if faults:
            return (), []
    try:
        return required_fields(strategy), []
    except Exception as error:  # noqa: BLE001 - a property of a strategy may raise anything
        name = str(node.get(TARGET)).rpartition(".")[2]
        return (), [Fault(key="strategy", value=name, allowed=str(error))]


def lacking_fields(
    node: Mapping[str, Any], needed: Sequence[str], panel: Panel, source: Source
) -> list[Fault]:
    """Return what is wrong with data that lack a field of prices or volume which is needed."""
    name = str(node.get(TARGET)).rpartition(".")[2]
    return [
        Fault(
            key="strategy",
            value=name,
            allowed=f"needs the field '{each}' (required_fields), but "
            + not_held("field", each, panel.fields)
            + _column_key(each, source),
        )
        for each in needed
        if held_name(each, panel.fields) is None
    ]


def _column_key(field: str, source: Source) -> str:
    """Return the key that names the column of a field of prices or volume; empty without one."""
    key = f"{field.casefold()}_column"
    place = f" in {source.place}" if getattr(source, "place", "") else ""
    return f"; `data.{key}` names its column{place}" if hasattr(source, key) else ""


@contextmanager
def collected_warnings(warnings: dict[str, None]) -> Iterator[None]:
    """Collect warnings about the data, to show them at the end of the batch, where users look."""
    log = logging.getLogger("backtest_batch.market")
    collector = _Collector(warnings)
    propagates, log.propagate = log.propagate, False
    log.addHandler(collector)
    try:
        yield
    finally:
        log.removeHandler(collector)
        log.propagate = propagates


class _Collector(logging.Handler):
    def __init__(self, warnings: dict[str, None]) -> None:
        super().__init__(level=logging.WARNING)
        self._warnings = warnings

    def emit(self, record: logging.LogRecord) -> None:
        self._warnings[record.getMessage()] = None
