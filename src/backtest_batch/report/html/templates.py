"""Templates, styles and scripts of the pages, and the plotting library that they carry."""

import base64
import contextlib
import functools
import gzip
import hashlib
import importlib
import sys
import threading
from importlib.resources import files
from typing import TYPE_CHECKING

from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.ownership import make_own_folder, replace_text

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Environment

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
        bytecode_cache=_compiled_templates(),
    )


def _compiled_templates() -> "BytecodeCache":
    """Return where compiled templates are kept, which saves each batch a twentieth of a second."""
    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket

    def name_of(bucket: Bucket) -> str:
        return f"{bucket.key}.{sys.implementation.cache_tag}"

    class Templates(BytecodeCache):
        """Compiled templates in the cache."""

        def load_bytecode(self, bucket: Bucket) -> None:
            content = _kept_content("templates", name_of(bucket))
            if content is not None:
                bucket.bytecode_from_string(content)

        def dump_bytecode(self, bucket: Bucket) -> None:
            _keep_content("templates", name_of(bucket), bucket.bytecode_to_string())

    return Templates()


def _kept_content(kind: str, name: str) -> bytes | None:
    """Return what was kept in the user's own cache, or None where it is missing or damaged."""
    own = own_cache_dir()
    if own is None:
        return None
    try:
        digest, _, text = (own / kind / name).read_text("ascii").partition("\n")
        content = base64.b64decode(text, validate=True)
    except (OSError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _keep_content(kind: str, name: str, content: bytes) -> None:
    """Keep content in the user's own cache, where it takes files."""
    own = own_cache_dir()
    if own is None:
        return
    with contextlib.suppress(OSError):
        make_own_folder(own / kind)
        text = base64.b64encode(content).decode("ascii")
        replace_text(own / kind / name, f"{hashlib.sha256(content).hexdigest()}\n{text}")


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
    """Begin to pack plotly.js in the background; the first time takes a fifth of a second."""
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
    """Return the script, packed; it is packed once and then read from the cache."""
    content = script.encode()
    name = hashlib.sha256(content).hexdigest()
    packed = _kept_content("plotly", name)
    if packed is None:
        # Without a time stamp equal reports have equal bytes.
        packed = gzip.compress(content, mtime=0)
        _keep_content("plotly", name, packed)
    return base64.b64encode(packed).decode("ascii")
