"""How the data of a source changed since they were last read: bars added, the past restated."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.cache import open_panel, own_cache_dir
from backtest_batch.core.data.panel import Panel, release_pages
from backtest_batch.core.data.sources.base import SIDE_KEYS, Source
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.ownership import Origin, make_own_folder, origin, replace_text, sign

_SIGNED = "panel that a source last led to"
_CELLS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """How two panels of one source differ.

    Attributes
    ----------
    before, after
        The panels.
    added
        Bars after the last one of ``before``.
    inserted
        Earlier bars that ``before`` did not have.
    gone
        Bars that ``after`` does not have.
    new_symbols, lost_symbols
        Symbols that only ``after`` has, and those that only ``before`` has.
    restated
        Number of values on common bars that changed.
    arrived
        Number of values on common bars that were missing before.
    first
        Position in ``before``, symbol and field of the first value that was restated.
    """

    before: Panel
    after: Panel
    added: int
    inserted: int
    gone: int
    new_symbols: tuple[str, ...]
    lost_symbols: tuple[str, ...]
    restated: int
    arrived: int
    first: tuple[int, str, str] | None


def renewal(before: Panel, after: Panel) -> Renewal:
    """Return how two panels differ; uses memory for one block of cells, whatever their size."""
    old, _ = stamps_of(before.index)
    new, _ = stamps_of(after.index)
    rows_before, rows_after = _common(old, new)
    held_before, held_after = frozenset(before.symbols), frozenset(after.symbols)
    shared = [symbol for symbol in before.symbols if symbol in held_after]
    restated = arrived = 0
    first: tuple[int, str, str] | None = None
    if len(rows_before) and shared:
        columns_before = _columns(before.symbols, shared)
        columns_after = _columns(after.symbols, shared)
        for name in (name for name in before.fields if name in after.fields):
            one, other = before.fields[name], after.fields[name]
            for start, mask, was_missing in _differences(
                one, other, rows_before, rows_after, columns_before, columns_after
            ):
                arrived += int((mask & was_missing).sum())
                changed = mask & ~was_missing
                restated += int(changed.sum())
                if changed.any():
                    row, column = divmod(int(changed.argmax()), changed.shape[1])
                    place = int(rows_before[start + row]), shared[column], name
                    if first is None or place[0] < first[0]:
                        first = place
            release_pages(one)
    later = int((new > old[-1]).sum())
    return Renewal(
        before=before,
        after=after,
        added=later,
        inserted=len(new) - len(rows_after) - later,
        gone=len(old) - len(rows_before),
        new_symbols=tuple(symbol for symbol in after.symbols if symbol not in held_before),
        lost_symbols=tuple(symbol for symbol in before.symbols if symbol not in held_after),
        restated=restated,
        arrived=arrived,
        first=first,
    )


def _common(old: IntArray, new: IntArray) -> tuple[IntArray, IntArray]:
    """Return the positions of the timestamps that both have."""
    if len(new) >= len(old) and np.array_equal(old, new[: len(old)]):
        rows = np.arange(len(old))
        return rows, rows
    _, first, second = np.intersect1d(old, new, assume_unique=True, return_indices=True)
    return first, second


def _columns(symbols: Sequence[str], shared: Sequence[str]) -> IntArray | None:
    """Return the positions of the shared symbols; None if these are all symbols, in order."""
    if list(symbols) == list(shared):
        return None
    position = {symbol: column for column, symbol in enumerate(symbols)}
    return np.array([position[symbol] for symbol in shared])


def _differences(
    one: FloatArray,
    other: FloatArray,
    rows_one: IntArray,
    rows_other: IntArray,
    columns_one: IntArray | None,
    columns_other: IntArray | None,
) -> Iterator[tuple[int, BoolArray, BoolArray]]:
    """Yield, for each block of rows that differs: its start, the differences, the NaNs of one."""
    step = max(1, _CELLS // one.shape[1])
    for start in range(0, len(rows_one), step):
        first = _block(one, rows_one[start : start + step], columns_one)
        second = _block(other, rows_other[start : start + step], columns_other)
        # Comparing bits is safe: a panel uses only one NaN and one zero.
        mask = first.view(np.int64) != second.view(np.int64)
        if mask.any():
            yield start, mask, np.isnan(first)


def _block(values: FloatArray, rows: IntArray, columns: IntArray | None) -> FloatArray:
    if int(rows[-1]) - int(rows[0]) == len(rows) - 1:
        block = values[int(rows[0]) : int(rows[-1]) + 1]
    else:
        block = values[rows]
    return block if columns is None else np.ascontiguousarray(block[:, columns])


def describe_renewal(found: Renewal, since: str = "it was last read") -> str | None:
    """Return sentences on how a source's data have changed since they were last read."""
    if (found.gone == len(found.before.index)) or len(found.lost_symbols) == found.before.n_assets:
        return f"these are other data than when {since}: nothing is common to both"
    said = []
    if found.added:
        last = moment_text(found.after.index[-1])
        said.append(f"{_bars(found.added)} added since {since}, up to {last}")
    if found.inserted:
        said.append(f"{_bars(found.inserted)} added before the last one that there was")
    if found.gone:
        said.append(f"{found.gone:,} of {len(found.before.index):,} bars are no longer there")
    if found.new_symbols:
        said.append(f"new symbols: {_listed(found.new_symbols)}")
    if found.lost_symbols:
        said.append(f"symbols that are gone: {_listed(found.lost_symbols)}")
    if found.arrived:
        said.append(f"{_values(found.arrived)} missing before, there now")
    if found.first is not None:
        row, symbol, field = found.first
        stamp = found.before.index[row]
        then = found.before.fields[field][row, found.before.symbols.index(symbol)]
        position = int(found.after.index.searchsorted(stamp))
        now = found.after.fields[field][position, found.after.symbols.index(symbol)]
        said.append(
            f"the past was restated: {_values(found.restated)}, the first is the {field} of "
            f"{symbol} at {moment_text(stamp)}, which was {_number(float(then))} and is "
            f"{_number(float(now))}"
        )
    elif said:
        said.append("nothing before was changed")
    return "; ".join(said) or None


def _bars(number: int) -> str:
    return "1 bar was" if number == 1 else f"{number:,} bars were"


def _values(number: int) -> str:
    return "1 value" if number == 1 else f"{number:,} values"


def _number(value: float) -> str:
    return "missing" if np.isnan(value) else f"{value:.10g}"


def _listed(symbols: Sequence[str]) -> str:
    return ", ".join(symbols[:5]) + (f" and {len(symbols) - 5:,} more" if len(symbols) > 5 else "")


def note_renewal(
    source: Source,
    panel: Panel,
    wanted: Sequence[str] | None,
    identity: Mapping[str, Any] | None = None,
) -> str | None:
    """Return how a source's data changed since they were last read, and remember the new data.

    Only fingerprints are remembered, in the user's own cache. If that cannot be written, or the
    earlier panel is no longer there, nothing is returned.

    Parameters
    ----------
    source, panel, wanted
        The source, its panel, and the symbols that were asked for.
    identity
        What the panel depends on, with the content of the tables beside the prices: if these alone
        have changed, the prices were not restated.
    """
    known = source.whereabouts()
    if known is None:
        return None
    try:
        file = _record(source, known, wanted)
        if file is None:
            return None
        last, then = _read(file)
        now = _contents(identity or {})
        if last == panel.fingerprint and then == now:
            return None
        _write(file, panel.fingerprint, now)
        if last is None or last == panel.fingerprint:
            return None
        before = open_panel(last)
        if stamps_of(before.index)[1] != stamps_of(panel.index)[1]:
            return None
        found = renewal(before, panel)
        tables = [name for name in now if name != _PRICES and then.get(name) != now[name]]
        if tables and then.get(_PRICES) == now[_PRICES]:
            return _describe_tables(tables, found)
        text = describe_renewal(found)
    except Exception:  # noqa: BLE001 - a message is not worth a batch, whatever a cache holds
        return None
    return None if text is None else f"{source.place}: {text}" if source.place else text


_PRICES = "prices"


def _contents(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the prices with their options, and of each table beside them by its name."""
    own = {name: value for name, value in identity.items() if name not in SIDE_KEYS}
    tables = {
        file: content
        for name in SIDE_KEYS
        if name != "features_lag"
        for file, content in identity.get(name, ())
    }
    text = json.dumps(own, sort_keys=True, default=str)
    return {**tables, _PRICES: hashlib.sha256(text.encode()).hexdigest()}


def _describe_tables(tables: Sequence[str], found: Renewal) -> str:
    """Return a sentence on tables beside the prices that changed, while the prices did not."""
    verb = "was" if len(tables) == 1 else "were"
    said = f"{_listed(tables)} {verb} changed since the data were last read, the prices not"
    if found.first is None:
        return said
    _, symbol, field = found.first
    return (
        f"{said}: {_values(found.restated)} of the data, the first the {field} of {symbol} at "
        f"{moment_text(found.before.index[found.first[0]])}, follow from it"
    )


def _record(source: Source, known: dict[str, Any], wanted: Sequence[str] | None) -> Path | None:
    folder = own_cache_dir()
    if folder is None:
        return None
    kind = type(source)
    described: list[object] = [f"{kind.__module__}.{kind.__qualname__}", known, wanted]
    beside = {name: getattr(source, name) for name in SIDE_KEYS if getattr(source, name)}
    if beside:  # other delisting returns restate nothing
        described.append(beside)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return folder / "last" / f"{key}.json"


def _read(file: Path) -> tuple[str | None, dict[str, str]]:
    """Return the fingerprint of the last panel, and the hashes of what it was made of."""
    try:
        record = json.loads(file.read_text("utf-8"))
        fingerprint, signature = str(record["fingerprint"]), record.get("signature")
        contents = {str(name): str(value) for name, value in record.get("contents", {}).items()}
    except Exception:  # noqa: BLE001 - whatever a damaged file makes of it
        return None, {}
    known = origin(_SIGNED, f"{file.stem} {fingerprint}", signature)
    if known is Origin.OWN or not sign(_SIGNED, ""):
        return fingerprint, contents
    return None, {}


def _write(file: Path, fingerprint: str, contents: Mapping[str, str]) -> None:
    make_own_folder(file.parent)
    record = {
        "fingerprint": fingerprint,
        "contents": dict(contents),
        "signature": sign(_SIGNED, f"{file.stem} {fingerprint}"),
    }
    replace_text(file, json.dumps(record))
