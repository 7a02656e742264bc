"""The plotting library as text inside the page."""

import base64
import functools
import gzip
import importlib
import threading

INSTALL_HINT = (
    "The interactive figures need plotly, which was not installed where this report was written: "
    "pip install 'backtest-batch[report]'. The figures stand as tables below."
)


_packing = threading.Lock()


def start_packing() -> None:
    """Begin to pack plotly.js beside other work, which takes a fifth of a second."""
    threading.Thread(target=packed_plotly, name="backtest_batch-packing", daemon=True).start()


def packed_plotly() -> str | None:
    """Return plotly.js, compressed with gzip and written in base64; None without plotly.

    As it is, the library would make every report 4.8 MB larger; packed it is 2 MB, and the page
    unpacks it in some tens of milliseconds after its text is shown.
    """
    try:
        offline = importlib.import_module("plotly.offline")
    except ImportError:
        return None
    with _packing:
        return _packed(offline.get_plotlyjs())


@functools.lru_cache(maxsize=1)
def _packed(script: str) -> str:
    # Without a time stamp equal reports have equal bytes.
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode("ascii")
