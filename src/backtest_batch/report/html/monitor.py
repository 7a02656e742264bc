"""monitor.html: what a winner has earned since it was chosen, as a picture and a table."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.report.html.figures import Scale, ticks
from backtest_batch.report.html.picture import svg_text, wrapped_lines
from backtest_batch.report.tables import one_line

WIDTH, HEIGHT = 720, 480
_LEFT, _RIGHT = 64, 24
_GROWTH = (84, 310)
_EVIDENCE = (352, 446)
"""Top and bottom of the two panels."""

_COLOURS = {"holds": "#14703f", "broken": "#a3341f", "too_early": "#4d5763"}
_WORDS = {"holds": "Holds", "broken": "Broken", "too_early": "Too early to tell"}
_GREY, _INK = "#56606b", "#1c2126"
_LEAST_MONEY = 0.01

_MOST_POINTS = 1_000


def monitor_picture(document: Mapping[str, Any], curve: pd.DataFrame) -> str:
    """Return an SVG: the growth since then within the promised band, and the evidence below it.

    Parameters
    ----------
    document
        monitor.json.
    curve
        See :class:`.Followup`.

    Returns
    -------
    str
        One ``svg`` element with a white background, which loads nothing. Equal input gives equal
        text.
    """
    answer = str(document["answer"])
    colour = _COLOURS[answer]
    sentence = one_line(str(document["sentence"]))
    lines = wrapped_lines(sentence, 105, 2)
    texts = [
        svg_text(30, 28, _WORDS[answer], 20, colour, bold=True),
        *(svg_text(30, 48 + 15 * row, line, 12, _INK) for row, line in enumerate(lines)),
    ]
    shown = _thinned(curve.assign(benchmark_growth=np.cumprod(1.0 + curve["benchmark"])))
    across = _Across(shown, len(curve))
    drawn = [*_growth(shown, across, colour), *_evidence(shown, across, document)]
    stamps = curve["timestamp"]
    ends = [
        svg_text(_LEFT, HEIGHT - 12, f"since {document['since']}", 11, _GREY),
        svg_text(WIDTH - _RIGHT, HEIGHT - 12, str(stamps.iloc[-1].date()), 11, _GREY, "end"),
    ]
    inside = "".join([*texts, *drawn, *ends])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="sans-serif" style="max-width:100%;height:auto">'
        f"<title>{escape(sentence)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{inside}</svg>'
    )


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Return at most a thousand rows, with those at which the band is known."""
    if len(curve) <= _MOST_POINTS:
        return curve
    even = np.linspace(0, len(curve) - 1, _MOST_POINTS // 2).astype(np.int64)
    banded = np.flatnonzero(curve["promised_low"].notna())
    return curve.iloc[np.union1d(even, banded)]


class _Across:
    """Where returns stand from left to right; the first stands one step after the start."""

    def __init__(self, shown: pd.DataFrame, n_returns: int) -> None:
        self.places = _LEFT + (WIDTH - _LEFT - _RIGHT) * (
            (shown.index.to_numpy(dtype=np.float64) + 1.0) / n_returns
        )


def _growth(shown: pd.DataFrame, across: _Across, colour: str) -> list[str]:
    """Return the band, the curve of the run and that of the benchmark."""
    own = shown["growth"].to_numpy()
    benchmark = shown["benchmark_growth"].to_numpy()
    is_compared = bool(np.isfinite(benchmark).all())
    known = shown["promised_low"].notna().to_numpy()
    low, high = shown["promised_low"].to_numpy()[known], shown["promised_high"].to_numpy()[known]
    values = np.concatenate([[1.0], own, low, high, benchmark if is_compared else own])
    margin = 0.03 * float(values.max() - values.min()) or 0.01
    scale = Scale(low=float(values.min()) - margin, high=float(values.max()) + margin)
    top, bottom = _GROWTH
    found = _axis(scale, top, bottom, _gain)
    start = np.array([1.0])
    places = np.concatenate([[_LEFT], across.places])
    banded = np.concatenate([[_LEFT], across.places[known]])
    edge = _points(banded, _heights(scale, np.concatenate([start, high]), top, bottom))
    edge += _points(banded[::-1], _heights(scale, np.concatenate([start, low]), top, bottom)[::-1])
    found.append(f'<polygon points="{" ".join(edge)}" fill="#dfe4ea"/>')
    if is_compared:
        found.append(
            _line(places, np.concatenate([start, benchmark]), scale, top, bottom, "#8b949e")
        )
    found.append(_line(places, np.concatenate([start, own]), scale, top, bottom, colour, 2.0))
    legend = "growth since then; grey: from 5 % to 95 % of what the backtest promised"
    if is_compared:
        legend += "; thin: the benchmark"
    found.append(svg_text(_LEFT, top - 6, legend, 11, _GREY))
    return found


def _gain(growth: float) -> str:
    gain = round(100 * (growth - 1.0), 9)
    return f"{gain:+.4g} %" if gain else "0 %"


def _evidence(shown: pd.DataFrame, across: _Across, document: Mapping[str, Any]) -> list[str]:
    """Return the largest e-values so far, and the line at which they are enough."""
    enough = float(document["settings"]["enough"])
    top, bottom = _EVIDENCE
    curves = {
        name: np.maximum(shown[f"evalue_{name}"].to_numpy(), _LEAST_MONEY)
        for name in ("holds", "broken")
    }
    most = max(2.5 * enough, *(float(values.max()) for values in curves.values()))
    scale = Scale(low=0.5, high=min(most, 1e12), logarithmic=True)
    found = _axis(scale, top, bottom, lambda value: f"{value:.4g}", most=3)
    y = float(_heights(scale, np.array([enough]), top, bottom)[0])
    found.append(
        f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{_GREY}" stroke-dasharray="4 3"/>'
    )
    places = np.concatenate([[_LEFT], across.places])
    for name, values in curves.items():
        whole = np.clip(np.concatenate([[1.0], values]), scale.low, scale.high)
        found.append(_line(places, whole, scale, top, bottom, _COLOURS[name], 1.8))
    text = f"e-values so far (green: holds, red: broken); at {enough:g} the evidence is enough"
    found.append(svg_text(_LEFT, top - 6, text, 11, _GREY))
    return found


def _axis(scale: Scale, top: int, bottom: int, text: Any, most: int = 5) -> list[str]:
    found = [f'<path d="M{_LEFT} {top}V{bottom}H{WIDTH - _RIGHT}" fill="none" stroke="#8b949e"/>']
    for value in ticks(scale, most):
        y = float(_heights(scale, np.array([value]), top, bottom)[0])
        found.append(svg_text(_LEFT - 6, y + 4, text(value), 11, _GREY, "end"))
    return found


def _heights(scale: Scale, values: FloatArray, top: int, bottom: int) -> FloatArray:
    low, high = scale.low, scale.high
    if scale.logarithmic:
        values, low, high = np.log(values), np.log(low), np.log(high)
    return np.asarray(bottom - (bottom - top) * (values - low) / (high - low))


def _points(places: FloatArray, heights: FloatArray) -> list[str]:
    return [f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True)]


def _line(
    places: FloatArray, values: FloatArray, scale: Scale, top: int, bottom: int, colour: str,
    width: float = 1.2,
) -> str:  # fmt: skip
    points = " ".join(_points(places, _heights(scale, values, top, bottom)))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


_STYLE = (
    "body{font:15px/1.5 sans-serif;color:#1c2126;max-width:760px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:left}"
    "td+td,th+th{text-align:right;font-variant-numeric:tabular-nums}li{margin:.2em 0}"
)

_ROWS = (
    ("return", "Return", "%"),
    ("max_drawdown", "Max drawdown", "%"),
    ("sharpe", "Sharpe ratio a year", ""),
)


def monitor_page(title: str, document: Mapping[str, Any], picture: str) -> str:
    """Return monitor.html.

    Parameters
    ----------
    title
        What the run is called.
    document
        monitor.json.
    picture
        What :func:`monitor_picture` returned.
    """
    rows = "".join(_row(document, *row) for row in _ROWS)
    lines = "".join(
        f"<li>{escape(str(line))}</li>" for line in (*document["reasons"], *document["notes"])
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{picture}"
        "<table><thead><tr><th>since then</th><th>realised</th><th>promised from</th><th>to</th>"
        f"</tr></thead><tbody>{rows}</tbody></table><ul>{lines}</ul></body></html>\n"
    )


def _row(document: Mapping[str, Any], name: str, shown: str, unit: str) -> str:
    band = document["promised"][name]
    values = (document["realised"][name], band["low"], band["high"])
    cells = "".join(f"<td>{_shown(value, unit)}</td>" for value in values)
    return f"<tr><td>{shown}</td>{cells}</tr>"


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "not defined"
    return f"{100 * value:.2f} %" if unit else f"{value:.2f}"
