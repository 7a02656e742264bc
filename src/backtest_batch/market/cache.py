"""Panels on disk, named by their content and mapped into memory by every worker.

Below :func:`cache_dir`, ``panels/<fingerprint>/`` holds ``index.npy``, one ``.npy`` file a field
and ``meta.json``, which is written last: an entry without it does not exist. ``sources/<key>.json``
leads from what a source said about itself to the fingerprint of its panel. Every file is written
under a temporary name and renamed, so that a kill or a second process at work leaves either the
whole file or none. Anything in it may be deleted at any time.
"""

import json
import logging
import os
import re
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from backtest_batch.errors import DataNotFoundError
from backtest_batch.interrupt import shielded
from backtest_batch.market.fields import FIELDS, FloatArray
from backtest_batch.market.fingerprint import content_fingerprint
from backtest_batch.market.panel import Panel
from backtest_batch.market.zones import index_of, stamps_of

LOG = logging.getLogger("backtest_batch.market")

_FORMAT = 1
_STALE_SECONDS = 3_600
_HASH = re.compile(r"^[0-9a-f]{64}$")
# What reading an entry that is missing, cut off or overwritten may raise.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, EOFError)


@dataclass(frozen=True, kw_only=True)
class Link:
    """The panel that a source led to before.

    Attributes
    ----------
    panel
        The panel, mapped into memory.
    notes
        Warnings that belong to it.
    """

    panel: Panel
    notes: tuple[str, ...]


def cache_dir() -> Path:
    r"""Return the folder of the cache: BACKTEST_BATCH_CACHE, else the user's cache folder.

    That is ``$XDG_CACHE_HOME/backtest_batch`` or ``~/.cache/backtest_batch``, on macOS
    ``~/Library/Caches/backtest_batch``, on Windows ``%LOCALAPPDATA%\backtest_batch``.
    """
    chosen = os.environ.get("BACKTEST_BATCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home
        return Path(tempfile.gettempdir(), _own_name())
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
        # The specification of XDG_CACHE_HOME: relative paths are to be ignored.
        base = base if base.is_absolute() else home / ".cache"
    return base / "backtest_batch"


def store(panel: Panel) -> Panel:
    """Write a panel into the cache, and return it mapped into memory.

    The first bars of a panel that is stored already take no space of their own. Where the cache
    cannot be written, a temporary folder stands in, with a warning; where there is none either,
    the panel itself is returned, with a warning, and no other process can open it.
    """
    reasons: list[str] = []
    for place in _places(create=True):
        try:
            present = _open(place, panel.fingerprint)
            if present is None or not _genuine(present):
                _write_panel(place, panel)
                present = _open(place, panel.fingerprint)
            if present is not None:
                if reasons:
                    _warn_once(f"{reasons[0]}; {place} is used instead")
                return present
        except OSError as error:
            reasons.append(f"the cache {place} cannot be written ({error.strerror or error})")
    _warn_once("; ".join(reasons) + ": the prices stay in this process alone")
    return panel


def open_panel(fingerprint: str) -> Panel:
    """Return the panel of a fingerprint, mapped read-only from the cache.

    The sizes of its files are checked, not their bytes: :func:`~backtest_batch.market.load
    .load_panel` has compared these with the fingerprint.

    Raises
    ------
    DataNotFoundError
        When the cache has no such panel, or it is damaged.
    """
    for place in _places():
        panel = _open(place, fingerprint)
        if panel is not None:
            return panel
    raise DataNotFoundError(
        f"the cache has no panel {fingerprint} (looked in "
        f"{', '.join(str(place) for place in _places())}): it was deleted or is damaged; "
        "loading the data again builds it"
    )


def find_panel(fingerprint: str) -> Panel | None:
    """Return the panel of a fingerprint; None when the cache has none that is intact.

    All bytes of the panel are compared with its fingerprint.
    """
    opened = (_open(place, fingerprint) for place in _places())
    return next((panel for panel in opened if panel is not None and _genuine(panel)), None)


def find_link(key: str) -> Link | None:
    """Return the panel that a source's key leads to; None when there is none that is intact.

    All bytes of the panel are compared with its fingerprint.
    """
    for place in _places():
        try:
            link = json.loads((place / "sources" / f"{key}.json").read_text(encoding="utf-8"))
            fingerprint, notes = str(link["fingerprint"]), tuple(map(str, link["notes"]))
        except _DAMAGE:
            continue
        panel = _open(place, fingerprint)
        if panel is not None and _genuine(panel):
            return Link(panel=panel, notes=notes)
        LOG.info("the cache entry %s is missing or damaged: it is built again", fingerprint)
    return None


def save_link(key: str, panel: Panel, notes: tuple[str, ...]) -> None:
    """Remember that a source's key leads to a panel that is stored."""
    text = json.dumps({"fingerprint": panel.fingerprint, "notes": notes})
    for place in _places():
        if _open(place, panel.fingerprint) is not None:
            try:
                _write(place / "sources" / f"{key}.json", lambda out: out.write(text.encode()))
            except OSError:
                continue
            return


def _places(*, create: bool = False) -> Iterator[Path]:
    """Yield the cache, then the temporary folder that stands in when it cannot be written."""
    yield cache_dir()
    spare = stand_in(create=create)
    if spare is not None:
        yield spare


def stand_in(*, create: bool = False) -> Path | None:
    """Return the temporary folder that stands in for the cache; None where it is not ours."""
    folder = Path(tempfile.gettempdir(), _own_name())
    return folder if _is_ours(folder, create=create) else None


def _own_name() -> str:
    return f"backtest_batch-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def _is_ours(folder: Path, *, create: bool) -> bool:
    """Return whether nobody else made this folder: the temporary folder is open to all."""
    try:
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return stat.S_ISDIR(found.st_mode) and mine


@lru_cache(maxsize=128)
def _warn_once(message: str) -> None:
    LOG.warning("%s", message)


def _genuine(panel: Panel) -> bool:
    return content_fingerprint(panel.index, panel.symbols, panel.fields) == panel.fingerprint


def _open(place: Path, fingerprint: str) -> Panel | None:
    if not _HASH.match(fingerprint):
        return None
    folder = place / "panels" / fingerprint
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT:
            return None
        if "view_of" in meta:
            return _open_view(place, fingerprint, meta["view_of"], int(meta["n_bars"]))
        symbols = tuple(map(str, meta["symbols"]))
        stamps = np.load(folder / "index.npy", allow_pickle=False)
        shape = (len(stamps), len(symbols))
        fields = {name: _mapped(folder / f"{name}.npy", shape) for name in meta["fields"]}
        index = index_of(stamps, meta["tz"])
    except _DAMAGE:
        return None
    if "close" not in fields:
        return None
    return Panel(index=index, symbols=symbols, fields=fields, fingerprint=fingerprint)


def _open_view(place: Path, fingerprint: str, base: str, n_bars: int) -> Panel | None:
    whole = _open(place, base)
    if whole is None or whole.n_bars < n_bars:
        return None
    return Panel(
        index=whole.index[:n_bars],
        symbols=whole.symbols,
        fields={name: values[:n_bars] for name, values in whole.fields.items()},
        fingerprint=fingerprint,
        base=base,
    )


def _mapped(file: Path, shape: tuple[int, int]) -> FloatArray:
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    intact = (
        values.shape == shape
        and values.dtype == np.float64
        and values.flags.c_contiguous
        and file.stat().st_size == values.offset + values.nbytes
    )
    if not intact:
        raise ValueError(f"{file} is damaged")
    return np.asarray(values)


def _write_panel(place: Path, panel: Panel) -> None:
    folder = place / "panels" / panel.fingerprint
    meta: dict[str, Any] = {"format": _FORMAT}
    if panel.base is not None and _open(place, panel.base) is not None:
        meta |= {"view_of": panel.base, "n_bars": panel.n_bars}
    else:
        stamps, tz = stamps_of(panel.index)
        fields = [name for name in FIELDS if name in panel.fields]
        meta |= {"unit": "ns", "tz": tz, "symbols": panel.symbols, "fields": fields}
        for name in fields:
            _write(folder / f"{name}.npy", _saver(panel.fields[name]))
        _write(folder / "index.npy", _saver(stamps))
    text = json.dumps(meta)
    _write(folder / "meta.json", lambda out: out.write(text.encode()))
    _remove_stale(folder)


def _saver(values: np.ndarray[Any, Any]) -> Callable[[IO[bytes]], object]:
    return lambda out: np.save(out, values, allow_pickle=False)


def _write(file: Path, fill: Callable[[IO[bytes]], object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # A signal waits, so that no half-written file stays.
    with shielded():
        try:
            with temporary.open("xb") as out:
                fill(out)
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left; younger files may belong to one that is writing."""
    for leftover in folder.glob("*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                leftover.unlink()
        except OSError:
            continue
