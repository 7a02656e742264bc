"""Templates, styles and scripts of the pages, and the plotting library that they carry."""

import base64
import functools
import gzip
import importlib
import threading
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_FIRST = ("core.js", "figure.js")
"""Scripts with definitions that the others use."""

_LAST = "start.js"


@functools.lru_cache(maxsize=1)
def environment() -> "Environment":
    """Return the templates: every value is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("backtest_batch.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@functools.lru_cache(maxsize=8)
def asset(name: str) -> str:
    """Return a style sheet or a script, to be inserted into the page unchanged."""
    return files("backtest_batch.report.html").joinpath("templates", name).read_text("utf-8")


def report_script() -> str:
    """Return the scripts of report.html (the folder ``js``) in one scope."""
    folder = files("backtest_batch.report.html").joinpath("templates", "js")
    names = {item.name for item in folder.iterdir() if item.name.endswith(".js")}
    names -= {*_FIRST, _LAST}
    parts = "\n".join(asset(f"js/{name}") for name in (*_FIRST, *sorted(names), _LAST))
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


INSTALL_HINT = (
    "The interactive figures need plotly, which was not installed where this report was written: "
    "pip install 'backtest-batch[report]'. The figures stand as tables below."
)


_packing = threading.Lock()


def start_packing() -> None:
    """Begin to pack plotly.js in the background; it takes a fifth of a second."""
    threading.Thread(target=packed_plotly, name="backtest_batch-packing", daemon=True).start()


def packed_plotly() -> str | None:
    """Return plotly.js, compressed with gzip and written in base64; None without plotly.

    Unpacked, the library would add 4.8 MB to every report; packed it is 2 MB, and the page unpacks
    it in some tens of milliseconds after its text is shown.
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
