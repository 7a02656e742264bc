"""Text and numbers as people read them, safe in a line, a Markdown table and a terminal."""

import math
import re
from collections.abc import Sequence

from backtest_batch.analysis.run_table import engine_metric

_WHOLE = ("count", "bars")

_RATES = ("cagr", "volatility", "alpha")
"""Annual rates that are fractions of capital; turnover a year is no percentage to most people."""

_SPECIAL = re.compile(r"[\\`*|<\[\]~$]|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def one_line(text: str) -> str:
    r"""Return text on one line: line breaks, tabs and control characters as escapes (``\n``).

    A terminal would otherwise obey control characters that came from an error message.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def markdown_text(text: str) -> str:
    """Return text for a cell of a Markdown table, so that it is shown as it is.

    Marks of Markdown and HTML are escaped, line breaks become spaces. Underscores within words
    stay, because they mean nothing there and names are full of them.
    """
    flat = one_line(" ".join(text.split("\n")).replace("\r", " "))
    return _SPECIAL.sub(lambda match: "\\" + match.group(0), flat).strip()


def code_block(text: str) -> str:
    """Return a command as a block of Markdown code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def short_numbers(metric: str, values: Sequence[float]) -> list[str]:
    """Return one metric's values for people; empty where missing.

    Counts stay whole, fractions of capital and annual rates of return become percentages; anything
    else has three decimals, or two digits where three decimals would show zero.

    Parameters
    ----------
    metric
        Name of the metric; decides the unit.
    values
        Its values.
    """
    known = engine_metric(metric)
    unit = "" if known is None else known.unit
    if unit in _WHOLE:
        form = "{:,.0f}"
    elif unit == "fraction" or (known is not None and known.name in _RATES):
        form = "{:.2%}"
    else:
        return ["" if math.isnan(value) else _three_decimals(value) for value in values]
    return ["" if math.isnan(value) else form.format(value) for value in values]


def _three_decimals(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.2g}"
