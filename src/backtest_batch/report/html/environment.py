"""Templates, styles and scripts of the pages."""

import functools
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_SCRIPTS = (
    "core",
    "filter",
    "leaderboard",
    "figure",
    "curves",
    "heatmap",
    "parallel",
    "dependence",
    "distribution",
    "costs",
    "start",
)


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
    """Return a style sheet or a script, to be put into the page as it is."""
    return files("backtest_batch.report.html").joinpath("templates", name).read_text("utf-8")


def report_script() -> str:
    """Return the scripts of report.html, one after the other in one scope."""
    parts = "\n".join(asset(f"js/{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'
