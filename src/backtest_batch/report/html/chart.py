"""A plain line chart as numbers of an SVG: paths, ticks and their places."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.market.panel import FloatArray

SIZE = 1000.0
"""Width and height of the drawing, which the page stretches to the room it has."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: its label, and its place in percent from the top or the left."""

    label: str
    place: float


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The values along an axis from the bottom to the top.

    Attributes
    ----------
    low, high
        Values at the bottom and at the top.
    logarithmic
        Whether equal ratios have equal heights.
    """

    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: FloatArray) -> FloatArray:
        """Return the places in percent from the top."""
        low, high = self.low, self.high
        if self.logarithmic:
            # What is not positive lies below any logarithmic axis.
            values = np.log(np.where(values > 0, values, np.nan))
            low, high = math.log(low), math.log(high)
        return np.asarray(100.0 * (high - values) / (high - low))


def equity_scale(curves: Sequence[FloatArray]) -> Scale:
    """Return a scale that holds some growth curves, logarithmic where they grow fourfold."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 4:
        return Scale(low=low / 1.05, high=high * 1.05, logarithmic=True)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low=low - margin, high=high + margin)


def ticks(scale: Scale, n_ticks: int = 5) -> list[float]:
    """Return round values within a scale, about so many."""
    if scale.logarithmic:
        decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**decade for decade in decades for step in steps]
            found = [value for value in found if scale.low <= value <= scale.high]
            if len(found) <= 2 * n_ticks:
                break
        return found
    raw = (scale.high - scale.low) / n_ticks
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= raw * (1 - 1e-9))
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def path(values: FloatArray, scale: Scale) -> str:
    """Return a curve as the path of an SVG of :data:`SIZE`; it is interrupted where NaN."""
    heights = scale.place(values) * SIZE / 100.0
    across = np.linspace(0.0, SIZE, len(values)) if len(values) > 1 else np.array([0.0])
    words, drawing = [], False
    for x, y in zip(across.tolist(), heights.tolist(), strict=True):
        if math.isnan(y):
            drawing = False
            continue
        words.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing = True
    return "".join(words)


def labelled(scale: Scale, values: Sequence[float], form: str) -> list[Tick]:
    """Return ticks with their places; ``form`` formats their labels."""
    places = scale.place(np.array(values, dtype=np.float64)).tolist()
    return [
        Tick(label=format(value, form), place=round(place, 2))
        for value, place in zip(values, places, strict=True)
    ]


def time_ticks(texts: Sequence[str], n_ticks: int = 5) -> list[Tick]:
    """Return some of the timestamps, evenly along the axis, the first and the last among them."""
    if not texts:
        return []
    places = np.unique(np.linspace(0, len(texts) - 1, n_ticks).round().astype(int))
    last = max(len(texts) - 1, 1)
    return [Tick(label=texts[item], place=round(100.0 * item / last, 2)) for item in places]
