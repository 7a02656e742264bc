"""Where numba keeps compiled kernels."""

import os
import sys

from backtest_batch.market.cache import cache_dir

VARIABLE = "NUMBA_CACHE_DIR"


def use_kernel_cache() -> None:
    """Let numba keep compiled kernels in the cache and not beside the sources.

    The package may be installed where it cannot be written. A folder that the user has chosen
    stays; kernels that this process has compiled already keep their place.
    """
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(cache_dir() / "numba")
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()
