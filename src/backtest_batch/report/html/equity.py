"""equity.html: the curve of one run on a small page without a plotting library."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from backtest_batch.arrays import FloatArray
from backtest_batch.cutting import cut_text
from backtest_batch.report.html.data import plain_numbers, script_json
from backtest_batch.report.html.figures import (
    Scale,
    drawdown,
    equity_scale,
    growth,
    labelled,
    path,
    thinned_bars,
    ticks,
    time_ticks,
    timestamp_texts,
)
from backtest_batch.report.html.templates import asset, environment

MAX_POINTS = 500
"""Points of a curve; the page stays near 50 kB."""


def render_equity(
    *,
    title: str,
    timestamps: npt.NDArray[np.datetime64],
    net_returns: FloatArray,
    benchmark: FloatArray | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Return equity.html: growth of one unit beside the benchmark's, drawdown below.

    Parameters
    ----------
    title
        Name of the run.
    timestamps
        Bars, shape (n_bars,), of dtype datetime64 without time zone.
    net_returns
        Net returns of the run, shape (n_bars,); NaN up to and including its first measured bar.
    benchmark
        The benchmark's, likewise; None without one.
    facts
        A few figures to show below the title, as text.

    Returns
    -------
    str
        A page of about 50 kB that loads nothing. At most 500 points: each holds the growth at the
        last of its bars and the deepest drawdown within.
    """
    curves = {"run": growth(net_returns)}
    if benchmark is not None and np.isfinite(benchmark).any():
        curves["benchmark"] = growth(benchmark)
    page = (
        environment()
        .get_template("equity.html.j2")
        .render(
            title=cut_text(title),
            facts={name: cut_text(text) for name, text in (facts or {}).items()},
            style=asset("equity.css"),
            script=asset("equity.js"),
            **_drawing(timestamps, curves),
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _drawing(
    timestamps: npt.NDArray[np.datetime64], curves: Mapping[str, FloatArray]
) -> dict[str, Any]:
    """Return paths, ticks and the numbers that the page reads out; no chart without returns."""
    run = curves["run"]
    present = np.flatnonzero(np.isfinite(run))
    if not len(present):
        return {"chart": None, "json": script_json(None)}
    points = thinned_bars(int(present[0]), len(run), MAX_POINTS)
    texts = timestamp_texts(timestamps[points.stops - 1])
    equity = {name: points.last(grown) for name, grown in curves.items()}
    below = {name: points.lowest(drawdown(grown)) for name, grown in curves.items()}
    growth_scale = equity_scale(list(equity.values()))
    deepest = min(float(np.nanmin(values)) for values in below.values())
    fall_scale = Scale(low=1.05 * deepest if deepest < 0 else -0.01, high=0.0)
    return {
        "chart": {
            "equity": {name: path(values, growth_scale) for name, values in equity.items()},
            "drawdown": {name: path(values, fall_scale) for name, values in below.items()},
            "growth_ticks": labelled(growth_scale, ticks(growth_scale), ".4g"),
            "fall_ticks": labelled(fall_scale, ticks(fall_scale, 3), ".1%"),
            "time_ticks": time_ticks(texts),
            "logarithmic": growth_scale.logarithmic,
            "bars_per_point": points.bars_per_point,
            "final": float(run[present[-1]]),
            "worst": deepest if len(curves) == 1 else float(np.nanmin(below["run"])),
            "from": texts[0],
            "to": texts[-1],
        },
        "json": script_json(
            {
                "x": texts,
                "equity": {name: plain_numbers(v.tolist(), 4) for name, v in equity.items()},
                "drawdown": {name: plain_numbers(v.tolist(), 3) for name, v in below.items()},
            }
        ),
    }
