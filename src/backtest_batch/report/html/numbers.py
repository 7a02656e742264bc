"""Numbers as the page's JSON holds them: short, and null instead of NaN."""

import json
import math
from collections.abc import Iterable
from typing import Any

SIGNIFICANT_DIGITS = 6
"""Digits of a number in the page; rankings.csv has all of them."""


def plain_number(value: float, digits: int = SIGNIFICANT_DIGITS) -> float | int | None:
    """Return a number with so many significant digits; None where it is not finite.

    Whole numbers become integers, which are shorter in JSON.
    """
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def plain_numbers(
    values: Iterable[float], digits: int = SIGNIFICANT_DIGITS
) -> list[float | int | None]:
    """Return :func:`plain_number` of each value."""
    return [plain_number(value, digits) for value in values]


def script_json(document: Any) -> str:
    """Return JSON that may stand inside a script element, whatever texts it holds.

    Parameters
    ----------
    document
        Plain values without NaN.

    Returns
    -------
    str
        JSON in which no ``<``, ``>`` or ``&`` occurs, so that no text can end the element.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    # Lone surrogates cannot be written as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
