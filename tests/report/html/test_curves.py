import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.errors import ConfigurationError
from backtest_batch.report.html.data import Curves
from backtest_batch.report.html.figures import (
    MAX_CURVES,
    MAX_POINTS,
    curves_payload,
    drawdown,
    growth,
    thinned_bars,
    timestamp_texts,
)

NAN = float("nan")


def days(count: int, start: str = "2020-01-01") -> np.ndarray:
    return np.arange(np.datetime64(start), np.datetime64(start) + count)


def test_growth_starts_at_one_on_the_bar_before_the_first_return() -> None:
    grown = growth(np.array([NAN, NAN, 0.1, -0.5, 0.2]))
    np.testing.assert_allclose(grown, [NAN, 1.0, 1.1, 0.55, 0.66])


def test_growth_of_returns_that_begin_with_the_first_bar() -> None:
    np.testing.assert_allclose(growth(np.array([0.1, 0.1])), [1.1, 1.21])


def test_growth_ends_with_the_last_return_and_bridges_gaps() -> None:
    grown = growth(np.array([NAN, 0.5, NAN, 1.0, NAN, NAN]))
    np.testing.assert_allclose(grown, [1.0, 1.5, 1.5, 3.0, NAN, NAN])


def test_growth_without_returns_is_missing() -> None:
    assert np.isnan(growth(np.full(3, NAN))).all()
    assert growth(np.empty(0)).shape == (0,)


def test_drawdown_by_hand() -> None:
    grown = np.array([NAN, 1.0, 1.25, 1.0, 0.5, 2.0])
    np.testing.assert_allclose(drawdown(grown), [NAN, 0.0, 0.0, -0.2, -0.6, 0.0])


def test_a_loss_on_the_first_bar_is_a_drawdown() -> None:
    np.testing.assert_allclose(drawdown(growth(np.array([-0.25, 0.0]))), [-0.25, -0.25])


@given(
    first=st.integers(0, 50),
    more=st.integers(1, 5000),
    limit=st.integers(2, 60),
)
@settings(max_examples=80, deadline=None)
def test_points_cover_every_bar_once(first: int, more: int, limit: int) -> None:
    points = thinned_bars(first, first + more, limit)
    bars = [
        bar
        for start, stop in zip(points.starts, points.stops, strict=True)
        for bar in range(start, stop)
    ]
    assert bars == list(range(first, first + more))
    assert len(points.starts) <= limit
    assert points.stops[0] == first + 1


@given(st.lists(st.floats(-0.3, 0.4), min_size=1, max_size=300), st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_the_end_and_the_deepest_drawdown(returns: list[float], limit: int) -> None:
    grown = growth(np.array([NAN, *returns]))
    below = drawdown(grown)
    points = thinned_bars(0, len(grown), limit)
    assert points.last(grown)[0] == 1.0
    assert points.last(grown)[-1] == grown[-1]
    assert points.lowest(below).min() == below.min()


def test_dates_have_no_time_of_day_but_intraday_bars_have() -> None:
    assert timestamp_texts(days(2)) == ["2020-01-01", "2020-01-02"]
    intraday = np.array(["2020-01-01T09:30", "2020-01-01T09:35"], dtype="datetime64[ns]")
    assert timestamp_texts(intraday) == ["2020-01-01T09:30", "2020-01-01T09:35"]


def test_payload_by_hand() -> None:
    timestamps = np.array(
        ["2019-12-30", "2019-12-31", "2020-06-30", "2020-12-31", "2021-06-30"], "datetime64[ns]"
    )
    payload = curves_payload(
        Curves(
            timestamps=timestamps,
            net_returns={
                "a": np.array([NAN, NAN, 0.5, -0.5, 0.2]),
                "none": np.full(5, NAN),
                "b": np.array([NAN, 0.1, 0.0, 0.0, 0.0]),
            },
            benchmark=np.array([NAN, 0.0, 0.0, 0.0, 0.25]),
        )
    )
    assert payload["x"] == ["2019-12-30", "2019-12-31", "2020-06-30", "2020-12-31", "2021-06-30"]
    assert payload["periods"] == ["2019", "2020", "2021"]
    first, second, benchmark = payload["curves"]
    assert first == {
        "name": "a",
        "benchmark": False,
        "equity": [None, 1, 1.5, 0.75, 0.9],
        "drawdown": [None, 0, 0, -0.5, -0.4],
        "final": 0.9,
        "worst": -0.5,
        "calendar": [None, -0.25, 0.2],
    }
    assert (second["name"], second["calendar"]) == ("b", [0.1, 0, 0])
    assert benchmark["benchmark"]
    assert benchmark["name"] == "benchmark"
    assert benchmark["final"] == 1.25


def test_less_than_two_years_are_shown_by_month() -> None:
    curves = Curves(timestamps=days(40), net_returns={"a": np.full(40, 0.01)})
    assert curves_payload(curves)["periods"] == ["2020-01", "2020-02"]


def test_calendar_returns_agree_with_pandas() -> None:
    rng = np.random.default_rng(0)
    index = pd.bdate_range("2015-03-02", periods=1200)
    returns = rng.normal(0, 0.01, 1200)
    returns[:100] = NAN
    curves = Curves(timestamps=index.to_numpy(), net_returns={"a": returns})
    expected = (1 + pd.Series(returns, index=index)).groupby(index.year).prod() - 1
    np.testing.assert_allclose(
        curves_payload(curves)["curves"][0]["calendar"], expected.to_numpy(), rtol=1e-4
    )


def test_many_bars_and_many_runs_stay_small() -> None:
    rng = np.random.default_rng(0)
    n_bars = 30_000
    curves = Curves(
        timestamps=days(n_bars, "1940-01-01"),
        net_returns={f"r{i}": rng.normal(0, 0.01, n_bars) for i in range(50)},
    )
    payload = curves_payload(curves)
    assert len(payload["x"]) <= MAX_POINTS
    assert len(payload["curves"]) == MAX_CURVES
    assert len(json.dumps(payload)) < 600_000


def test_no_returns_at_all() -> None:
    empty = Curves(timestamps=days(3), net_returns={"a": np.full(3, NAN)})
    assert curves_payload(empty)["curves"] == []
    nothing = Curves(timestamps=days(0), net_returns={})
    assert curves_payload(nothing)["x"] == []


def test_a_run_that_is_ruined_ends() -> None:
    curves = Curves(timestamps=days(4), net_returns={"a": np.array([NAN, 0.1, -1.0, NAN])})
    entry = curves_payload(curves)["curves"][0]
    assert entry["equity"] == [1, 1.1, 0, None]
    assert entry["worst"] == -1


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\(3,\).*but got a \(2,\)"):
        Curves(timestamps=days(3), net_returns={"a": np.zeros(2)})


def test_curves_from_a_frame_drop_the_time_zone_and_find_the_benchmark() -> None:
    index = pd.DatetimeIndex(["2020-01-01 09:30", "2020-01-01 09:35"], tz="America/New_York")
    frame = pd.DataFrame({"run_a": [NAN, 0.1], "benchmark": [NAN, 0.2]}, index=index)
    curves = Curves.from_frame(frame, total=9)
    assert timestamp_texts(curves.timestamps) == ["2020-01-01T09:30", "2020-01-01T09:35"]
    assert list(curves.net_returns) == ["run_a"]
    assert curves.benchmark is not None
    assert curves.benchmark[1] == 0.2
    assert curves.total == 9
