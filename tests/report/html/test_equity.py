import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.report.html import render_equity
from backtest_batch.report.html.figures import Scale, equity_scale, path, ticks, time_ticks

NAN = float("nan")


def timestamps(count: int) -> np.ndarray:
    return np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + count)


def test_a_page_of_a_long_run_is_small_and_loads_nothing() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(0.0003, 0.01, (2, 8313))
    returns[:, :60] = NAN
    page = render_equity(
        title="run_10_50",
        timestamps=timestamps(8313),
        net_returns=returns[0],
        benchmark=returns[1],
        facts={"sharpe": "0.91"},
    )
    assert len(page.encode()) < 60_000
    assert not re.search(r"(src|href)=\"(?!data:,)", page)
    assert "http" not in page
    assert "benchmark" in page
    assert "A point stands for 17 bars" in page


@pytest.mark.parametrize(
    "returns",
    [
        [],
        [NAN, NAN],
        [NAN, 0.0],
        [0.1],
        [NAN, -1.0, NAN],
        [NAN, 0.0, 0.0],
        [NAN, 9.0, 9.0],
        [NAN, -1.5],
    ],
)
def test_odd_returns(returns: list[float]) -> None:
    page = render_equity(
        title="x", timestamps=timestamps(len(returns)), net_returns=np.array(returns)
    )
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()
    has_returns = bool(np.isfinite(np.array(returns)).any())
    assert ("This run has no returns" in page) != has_returns


def test_user_text_is_escaped_and_shortened() -> None:
    page = render_equity(
        title="<script>alert(1)</script>" + "x" * 6000 + "\udc80",
        timestamps=timestamps(2),
        net_returns=np.array([NAN, 0.1]),
        facts={"<b>": "&"},
    )
    assert "<script>alert" not in page
    assert "&lt;b&gt;" in page
    assert "6,026 characters" in page
    page.encode("utf-8")


def test_a_scale_is_logarithmic_when_capital_grows_fourfold() -> None:
    assert not equity_scale([np.array([1.0, 3.0])]).logarithmic
    assert equity_scale([np.array([1.0, 5.0])]).logarithmic
    assert not equity_scale([np.array([0.0, 5.0])]).logarithmic


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
@settings(max_examples=100, deadline=None)
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    scale = Scale(low=low, high=low + span)
    found = ticks(scale)
    slack = 1e-6 * max(1.0, abs(low) + span)
    assert 1 <= len(found) <= 8
    assert all(low - slack <= value <= low + span + slack for value in found)
    assert found == sorted(found)


def test_ticks_by_hand() -> None:
    assert ticks(Scale(low=0.55, high=1.3)) == [0.6, 0.8, 1.0, 1.2]
    assert ticks(Scale(low=0.9, high=12.0, logarithmic=True)) == [1.0, 2.0, 5.0, 10.0]
    assert ticks(Scale(low=0.9, high=2e9, logarithmic=True))[:3] == [1.0, 10.0, 100.0]


def test_a_path_is_interrupted_where_there_is_no_value() -> None:
    drawn = path(np.array([0.0, 1.0, NAN, 0.5]), Scale(low=0.0, high=1.0))
    assert drawn == "M0.0 1000.0L333.3 0.0M1000.0 500.0"


def test_what_is_not_positive_has_no_logarithm() -> None:
    scale = Scale(low=1.0, high=100.0, logarithmic=True)
    positions = scale.positions(np.array([1.0, 10.0, 100.0, 0.0, -1.0]))
    np.testing.assert_allclose(positions, [100.0, 50.0, 0.0, NAN, NAN])


def test_time_ticks_have_both_ends() -> None:
    texts = [f"t{i}" for i in range(11)]
    assert [(tick.label, tick.position) for tick in time_ticks(texts, 3)] == [
        ("t0", 0.0),
        ("t5", 50.0),
        ("t10", 100.0),
    ]
    assert [tick.label for tick in time_ticks(["only"])] == ["only"]
    assert time_ticks([]) == []
