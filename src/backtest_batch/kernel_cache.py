"""Where numba keeps compiled kernels."""

import contextlib
import logging
import os
import secrets
import sys
from functools import lru_cache
from pathlib import Path

from backtest_batch.market.cache import cache_dir, stand_in

LOG = logging.getLogger("backtest_batch.market")

VARIABLE = "NUMBA_CACHE_DIR"
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

    Where that takes no files (its disk is full, say), a temporary folder stands in, with a warning.
    """
    chosen = os.environ.get(VARIABLE)
    wanted = Path(chosen) if chosen else cache_dir() / "numba"
    fault = _fault(wanted)
    if fault is None:
        return wanted
    spare = stand_in(create=True)
    if spare is None or _fault(spare / "numba") is not None:
        return wanted
    _warn_once(
        f"the folder of compiled kernels {wanted} takes no files ({fault}); {spare / 'numba'} is "
        "used instead"
    )
    return spare / "numba"


def _fault(folder: Path) -> str | None:
    """Return why a folder takes no files, or None."""
    probe = folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
