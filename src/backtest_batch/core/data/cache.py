"""Panels on disk, named by their content and mapped into memory by every worker.

Under :func:`cache_dir`, which several users may share, ``panels/<fingerprint>/`` holds
``index.npy``, one ``.npy`` file per field, one for the members and one per feature if there are
any, and ``meta.json``, which is written last: an entry without it does not exist. Under
:func:`own_cache_dir`, ``sources/<key>.json`` leads from a source's description of itself to the
fingerprint of its panel, with this user's signature. Every file is written under a temporary name
and then renamed, so that a killed process or two processes at once leave either the whole file or
none. Anything in the cache may be deleted at any time.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from backtest_batch.arrays import FIELDS, BoolArray
from backtest_batch.core.data.panel import Panel, content_fingerprint, sorted_fields
from backtest_batch.core.data.timestamps import index_of, stamps_of
from backtest_batch.errors import DataNotFoundError
from backtest_batch.interrupt import signals_deferred
from backtest_batch.ownership import (
    Origin,
    is_mine,
    is_own_file,
    is_own_folder,
    make_own_folder,
    make_private,
    origin,
    own_temporary_folder,
    sign,
    temporary_folder_name,
    user_mark,
)

LOG = logging.getLogger("backtest_batch.market")

_FORMAT = 1
_STALE_SECONDS = 3_600
_HASH = re.compile(r"[0-9a-f]{64}")
_LINK = "link from a source to a panel"
"""Purpose of the signature under such a link; see :func:`.ownership.sign`."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The panel that a source led to earlier.

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
    """Return the folder of the cache: BACKTEST_BATCH_CACHE, else one in the user's cache folder.

    The latter is ``$XDG_CACHE_HOME/backtest_batch`` or ``~/.cache/backtest_batch``, and on macOS
    ``~/Library/Caches/backtest_batch``.
    """
    chosen = os.environ.get("BACKTEST_BATCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home
        return temporary_folder_name()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
        # The specification of XDG_CACHE_HOME: relative paths are to be ignored.
        base = base if base.is_absolute() else home / ".cache"
    return base / "backtest_batch"


def own_cache_dir() -> Path | None:
    """Return the folder for the part of the cache that other users must not write to.

    It holds compiled kernels, whose index numba unpickles, the links from sources to panels, what
    the report is made of, source files for workers, results that could not be recorded, and working
    files.

    Returns
    -------
    Path or None
        The cache itself, if only this user may write to it. In a shared cache, a folder of this
        user's, if nobody else can replace it. Otherwise a folder in the temporary folder. None if
        that fails too.
    """
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        if not os.environ.get("BACKTEST_BATCH_CACHE") and not is_own_folder(folder):
            make_private(folder)  # it may date from when new folders were open to the group
        if is_own_folder(folder):
            return folder
        if _keeps_what_is_in_it(folder):
            own = folder / f"user-{user_mark()}"
            make_own_folder(own)
            return own
    except OSError:
        pass
    return own_temporary_folder(create=True)


def _keeps_what_is_in_it(folder: Path) -> bool:
    """Return whether only this user and root can replace a folder in this one."""
    found = folder.stat()
    open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    trusted = is_mine(found) or found.st_uid == 0
    return trusted and (not open_to_others or bool(found.st_mode & stat.S_ISVTX))


def store(panel: Panel) -> Panel:
    """Write a panel into the cache, and return it mapped into memory.

    The first bars of a panel that is already stored take no space of their own. If the cache cannot
    be written, a temporary folder is used instead, with a warning. If there is none either, the
    panel itself is returned, with a warning, and no other process can open it.
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
    """Return the panel with a fingerprint, mapped read-only from the cache.

    Only the sizes of its files are checked, because :func:`.load_panel` has compared their bytes
    with the fingerprint. If others may have written to them since, each process compares the bytes
    again before it uses the panel for the first time.

    Raises
    ------
    DataNotFoundError
        When the cache has no such panel, or it is damaged.
    """
    faults: list[str] = []
    for place in _places():
        try:
            panel = _read(place, fingerprint)
            if _is_believed(place, panel):
                return panel
            faults.append(f"{place}: its bytes are not those of the fingerprint")
        except FileNotFoundError as error:
            faults.append(f"{place}: no {Path(error.filename or 'file').name}")
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of it
            faults.append(f"{place}: {type(error).__name__}: {error}")
    raise DataNotFoundError(
        f"the cache has no panel {fingerprint} ({'; '.join(faults)}): it was deleted or is "
        "damaged; loading the data again builds it"
    )


def find_panel(fingerprint: str) -> Panel | None:
    """Return the panel with a fingerprint; None if the cache has none that is intact.

    All bytes of the panel are compared with its fingerprint.
    """
    opened = (_open(place, fingerprint) for place in _places())
    return next((panel for panel in opened if panel is not None and _genuine(panel)), None)


def find_link(key: str) -> Link | None:
    """Return the panel that a source's key leads to; None if there is none that is intact.

    A link counts if this user has signed it, or, for a user without a signing key, if nobody else
    can have written it. All bytes of the panel are compared with its fingerprint.
    """
    file = _link_file(key)
    if file is None:
        return None
    try:
        link = json.loads(file.read_text(encoding="utf-8"))
        fingerprint, notes = str(link["fingerprint"]), tuple(map(str, link["notes"]))
        recorded_by = origin(_LINK, _link_text(key, fingerprint, notes), link.get("signature"))
    except Exception:  # noqa: BLE001 - whatever a damaged file makes of it
        return None
    if recorded_by is not Origin.OWN and (sign(_LINK, "") or not is_own_file(file)):
        return None
    for place in _places():
        panel = _open(place, fingerprint)
        if panel is not None and _genuine(panel):
            return Link(panel=panel, notes=notes)
    LOG.info("the cache entry %s is missing or damaged: it is built again", fingerprint)
    return None


def save_link(key: str, panel: Panel, notes: tuple[str, ...]) -> None:
    """Remember that a source's key leads to a stored panel."""
    file = _link_file(key)
    if file is None or all(_open(place, panel.fingerprint) is None for place in _places()):
        return
    signature = sign(_LINK, _link_text(key, panel.fingerprint, notes))
    link = {"fingerprint": panel.fingerprint, "notes": notes, "signature": signature}
    with contextlib.suppress(OSError):
        _write(file, lambda out: out.write(json.dumps(link).encode()))


def _link_file(key: str) -> Path | None:
    own = own_cache_dir()
    return None if own is None else own / "sources" / f"{key}.json"


def _link_text(key: str, fingerprint: str, notes: tuple[str, ...]) -> str:
    return json.dumps([key, fingerprint, *notes])


def _places(*, create: bool = False) -> Iterator[Path]:
    """Yield the cache, then the temporary folder that replaces it if it cannot be written."""
    yield cache_dir()
    spare = stand_in(create=create)
    if spare is not None:
        yield spare


def stand_in(*, create: bool = False) -> Path | None:
    """Return the temporary folder that replaces the cache; None if it is not this user's."""
    return own_temporary_folder(create=create)


@lru_cache(maxsize=128)
def _warn_once(message: str) -> None:
    LOG.warning("%s", message)


_compared: set[tuple[Path, str]] = set()
"""Panels that others may write to, and that this process has compared with their fingerprints."""


def _is_believed(place: Path, panel: Panel) -> bool:
    whole = panel.fingerprint if panel.base is None else panel.base
    known = (place, panel.fingerprint)
    if known not in _compared and not is_own_folder(place / "panels" / whole):
        if not _genuine(panel):
            return False
        _compared.add(known)
    return True


def _genuine(panel: Panel) -> bool:
    found = content_fingerprint(
        panel.index, panel.symbols, panel.fields, panel.members, panel.feature_arrays
    )
    return found == panel.fingerprint


def _open(place: Path, fingerprint: str) -> Panel | None:
    """Return a panel of which only the sizes are checked; None if it is not there or is damaged."""
    try:
        return _read(place, fingerprint)
    except Exception:  # noqa: BLE001 - whatever a damaged file makes of it: it is built again
        return None


def _read(place: Path, fingerprint: str, *, may_be_view: bool = True) -> Panel:
    if not _HASH.fullmatch(fingerprint):
        raise ValueError("no fingerprint of a panel")
    folder = place / "panels" / fingerprint
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta["format"] != _FORMAT:
        raise ValueError(f"written in format {meta['format']}, and not in {_FORMAT}")
    if "view_of" in meta:
        # A view is a view of a whole panel, never of another view or of itself.
        if not may_be_view:
            raise ValueError("a view of a view")
        return _view(place, fingerprint, meta)
    symbols = tuple(map(str, meta["symbols"]))
    stamps = np.load(folder / "index.npy", allow_pickle=False)
    shape = (len(stamps), len(symbols))
    names = _file_names(list(map(str, meta["fields"])))
    fields = {name: _mapped(folder / file, shape) for name, file in names.items()}
    if "close" not in fields:
        raise ValueError("it has no close")
    return Panel(
        index=index_of(stamps, meta["tz"]),
        symbols=symbols,
        fields=fields,
        members=_mapped_members(folder, shape) if meta.get("members") else None,
        feature_arrays={
            str(name): _mapped(folder / f"feature-{number}.npy", shape[: int(n_axes)])
            for number, (name, n_axes) in enumerate(meta.get("features", ()))
        },
        fingerprint=fingerprint,
    )


def _view(place: Path, fingerprint: str, meta: dict[str, Any]) -> Panel:
    base, n_bars = str(meta["view_of"]), int(meta["n_bars"])
    whole = _read(place, base, may_be_view=False)
    if not 0 < n_bars <= whole.n_bars:
        raise ValueError(f"a view of {n_bars} of {whole.n_bars} bars")
    return Panel(
        index=whole.index[:n_bars],
        symbols=whole.symbols,
        fields={name: values[:n_bars] for name, values in whole.fields.items()},
        members=None if whole.members is None else whole.members[:n_bars],
        feature_arrays={name: values[:n_bars] for name, values in whole.feature_arrays.items()},
        fingerprint=fingerprint,
        base=base,
    )


def _file_names(fields: list[str]) -> dict[str, str]:
    """Return the file of each field; names that come from a file or a user never become paths."""
    others = [name for name in sorted_fields(fields) if name not in FIELDS]
    return {
        name: f"{name}.npy" if name in FIELDS else f"field-{others.index(name)}.npy"
        for name in sorted_fields(fields)
    }


def _mapped_members(folder: Path, shape: tuple[int, int]) -> BoolArray:
    members: BoolArray = _mapped(folder / "members.npy", shape, np.bool_)
    return members


def _mapped(file: Path, shape: tuple[int, ...], kind: Any = np.float64) -> Any:
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    intact = (
        values.shape == shape
        and values.dtype == kind
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
        names = _file_names(list(panel.fields))
        meta |= {"unit": "ns", "tz": tz, "symbols": panel.symbols, "fields": list(names)}
        for name, file in names.items():
            _write(folder / file, _saver(panel.fields[name]))
        if panel.members is not None:
            meta["members"] = True
            _write(folder / "members.npy", _saver(panel.members))
        if panel.feature_arrays:
            held = panel.feature_arrays
            meta["features"] = [[name, held[name].ndim] for name in sorted(held)]
            for number, name in enumerate(sorted(held)):
                _write(folder / f"feature-{number}.npy", _saver(held[name]))
        _write(folder / "index.npy", _saver(stamps))
    text = json.dumps(meta)
    _write(folder / "meta.json", lambda out: out.write(text.encode()))
    _remove_stale(folder)


def _saver(values: np.ndarray[Any, Any]) -> Callable[[IO[bytes]], object]:
    return lambda out: np.save(out, values, allow_pickle=False)


def _write(file: Path, fill: Callable[[IO[bytes]], object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # Signals are deferred, so that no half-written file is left behind.
    with signals_deferred():
        try:
            with temporary.open("xb") as out:
                fill(out)
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _remove_stale(folder: Path) -> None:
    """Remove old files of killed processes; newer ones may belong to a process still writing."""
    for leftover in folder.glob("*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                leftover.unlink()
        except OSError:
            continue
