"""Where numba keeps compiled kernels."""

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import psutil

from backtest_batch.core.data.cache import cache_dir, own_cache_dir, stand_in
from backtest_batch.ownership import is_guarded, make_private

LOG = logging.getLogger("backtest_batch.market")

VARIABLE = "NUMBA_CACHE_DIR"
PREFIX = "backtest_batch-kernels-"
"""Of a temporary folder of compiled kernels; the process that made it follows."""

ROOM_BYTES = 2 * 1024 * 1024
"""What a folder must take: numba ends a process that cannot write what it has compiled."""


def use_kernel_cache() -> None:
    """Let numba keep compiled kernels in the cache and not beside the sources.

    The package may be installed where it cannot be written. A folder that the user has chosen
    stays, if it takes files; kernels that this process has compiled already keep their place.
    """
    os.environ[VARIABLE] = str(kernel_folder())
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()


def kernel_folder() -> Path:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, else ``numba`` in the cache.

    numba unpickles what lies there, which runs whatever code somebody has put into it. So it must
    be this user's, and nobody else may write to it; of a cache that several users share, it lies in
    a folder of this user's. Where it is not so, or takes no files (its disk is full, say), a
    temporary folder stands in, with a warning.
    """
    chosen, own = os.environ.get(VARIABLE), own_cache_dir()
    wanted = Path(chosen) if chosen else (own or cache_dir()) / "numba"
    if not chosen and own is not None:
        make_private(wanted)
    fault = _fault(wanted)
    if fault is None:
        return wanted
    # Where somebody else holds the name of the user's own temporary folder, each process compiles
    # again. A full disk is no reason to: another folder would lie on the same one.
    spare = stand_in(create=True) or _folder_of_this_process()
    instead = spare / "numba"
    with contextlib.suppress(OSError):
        instead.mkdir(mode=0o700, exist_ok=True)
    _warn_once(
        f"the folder of compiled kernels {wanted} takes no files ({fault}); {instead} is used "
        "instead"
    )
    return instead


def _folder_of_this_process() -> Path:
    """Make a temporary folder that goes with this process, and remove those of killed ones."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _fault(folder: Path) -> str | None:
    """Return why a folder takes no files, or None."""
    probe = folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_guarded(folder.stat()):
            return "others may write there"
        try:
            probe.write_bytes(bytes(ROOM_BYTES))
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


@lru_cache(maxsize=16)
def _warn_once(message: str) -> None:
    LOG.warning("%s", message)
