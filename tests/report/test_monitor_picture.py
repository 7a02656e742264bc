"""The picture of what became of a winner."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.monitoring import Followed, follow_winner
from backtest_batch.report.html.monitor import monitor_page, monitor_picture

N_OLD = 300


def followup(n_new, mean=0.0, *, benchmark=True, name="run_1", **changes):
    generator = np.random.default_rng(4)
    n_bars = N_OLD + n_new
    index = pd.date_range("2000-01-01", periods=n_bars, freq="D")
    returns = generator.normal(0.0005, 0.01, n_bars)
    returns[N_OLD:] += mean
    market = generator.normal(0.0, 0.01, n_bars) if benchmark else None
    return follow_winner(
        Followed(
            name=name,
            since=index[N_OLD - 1],
            promised=returns[:N_OLD],
            promised_index=index[:N_OLD],
            earlier=returns[:N_OLD],
            earlier_index=index[:N_OLD],
            earlier_benchmark=None if market is None else market[:N_OLD],
            returns=returns[N_OLD:],
            index=index[N_OLD:],
            benchmark=None if market is None else market[N_OLD:],
            benchmark_name="SPY" if benchmark else "",
            periods_per_year=365.0,
            **changes,
        )
    )


def lines_of(picture):
    """The points of the curves, by their order."""
    found = re.findall(r'<polyline points="([^"]+)"', picture)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in found]


@pytest.mark.parametrize(
    ("n_new", "mean", "word"),
    [(1, 0.0, "Too early to tell"), (400, 0.01, "Holds"), (400, -0.01, "Broken")],
)
def test_it_says_the_answer_and_can_be_read(n_new, mean, word):
    found = followup(n_new, mean)
    picture = monitor_picture(found.document, found.curve)
    ET.fromstring(picture)
    assert f">{word}<" in picture
    assert "nan" not in picture
    assert picture == monitor_picture(found.document, found.curve)
    benchmark, own, holds, broken = lines_of(picture)
    assert len(own) == len(benchmark) == len(holds) == len(broken) == n_new + 1
    # What gains ends higher on the page than it began, which is a smaller height in an SVG.
    if mean:
        assert (own[-1][1] < own[0][1]) == (mean > 0)


def test_thousands_of_days_are_thinned_and_none_leaves_the_picture():
    found = followup(4_000)
    curves = lines_of(monitor_picture(found.document, found.curve))
    assert all(400 < len(curve) < 1_002 for curve in curves)
    for curve in curves:
        assert all(60 <= x <= 720 and 80 <= y <= 450 for x, y in curve)


def test_without_a_benchmark_there_is_no_line_of_it():
    found = followup(50, benchmark=False)
    picture = monitor_picture(found.document, found.curve)
    assert len(lines_of(picture)) == 3
    assert "the benchmark" not in picture


def test_names_are_escaped():
    found = followup(30, name="<script>x</script>")
    document = {**found.document, "notes": ["a < b"]}
    page = monitor_page("<i>", document, monitor_picture(document, found.curve))
    assert "<script>" not in page
    assert "<h1>&lt;i&gt;</h1>" in page
    assert "a &lt; b" in page
