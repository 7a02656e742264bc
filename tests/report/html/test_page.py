import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.html import Curves, ReportData, WalkForwardView, render_report
from backtest_batch.report.html.page import MAX_ROWS
from backtest_batch.report.html.tables import MAX_FAILURES, winner_table

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """The ids, the sections and the open elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def payload(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', text)
    assert found
    return json.loads(found[1])


def bare(frame: pd.DataFrame, params: list[str], **more: Any) -> ReportData:
    table = RunTable.from_frame(frame, params=params)
    ranking = Ranking.parse("sharpe")
    return ReportData(
        title="bare", table=table, ranked=rank_runs(table, ranking), ranking=ranking, **more
    )


def check(text: str) -> Page:
    """Whatever is shown: well-formed, one of each id, links that lead somewhere."""
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links)
    assert page.headings[:2] == ["h1", "h2"]
    # A library's own comments name addresses; the page itself has none.
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", outside)
    assert "url(" not in outside
    return page


def test_a_whole_report(grid: ReportData) -> None:
    text = render_report(grid)
    page = check(text)
    assert len(text) < 3_500_000
    for section in (
        "summary",
        "leaderboard",
        "best-run",
        "curves",
        "parameters",
        "costs",
        "distribution",
        "failures",
        "resources",
        "provenance",
    ):
        assert section in page.ids
    assert grid.overfitting is not None
    assert "60 runs (2 FAILED, 58 FINISHED); 58 ranked by sharpe (more is better)." in page.words
    assert page.headings.count("h1") == 1
    assert page.words.index("The best of 20 trials") < page.words.index("Ranked by sharpe")
    assert "`fast < slow` must hold" in page.words
    assert len(payload(text)["runs"]["ids"]) == 58


def test_equal_data_gives_equal_text(build: Callable[..., ReportData]) -> None:
    axes = {"strategy.fast": [5, 10], "commission_bps": [0.0, 1.0]}
    assert render_report(build(axes, n_bars=400)) == render_report(build(axes, n_bars=400))


def test_the_leaderboard_has_the_texts_of_the_terminal(grid: ReportData) -> None:
    text = render_report(grid)
    board = re.search(r'<table id="board">.*?</table>', text, flags=re.DOTALL)
    assert board
    rows = re.findall(r"<tr>(<td.*?)</tr>", board[0])
    assert len(rows) == 58
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", rows[0])
    best = grid.ranked.index[0]
    assert cells[0] == "1"
    assert grid.table.runs["run_id"][best] in cells
    assert f'<span class="place">1st</span>{grid.table.metrics["sharpe"][best]:.3f}' in cells


def test_a_run_with_nothing_swept(build: Callable[..., ReportData]) -> None:
    page = check(render_report(build({}, n_bars=400)))
    assert "No parameter was swept." in page.words
    assert "1 run (1 FINISHED); 1 ranked" in page.words
    assert {"leaderboard", "best-run", "curves", "costs"} <= set(page.ids)
    assert "parameters" not in page.ids
    assert "distribution" not in page.ids


def test_one_parameter(build: Callable[..., ReportData]) -> None:
    page = check(render_report(build({"strategy.fast": [5, 10, 20]}, n_bars=400)))
    assert "there is no pair to map" in page.words
    assert "heatmap" not in page.ids
    assert {"sensitivity", "importance", "parallel"} <= set(page.ids)


def test_all_runs_failed(build: Callable[..., ReportData]) -> None:
    page = check(render_report(build({"strategy.fast": [5, 10]}, n_bars=400, n_failed=2)))
    assert "No run could be ranked." in page.words
    assert "FAILED (ValueError) 2" in page.words
    assert {"leaderboard", "best-run", "parameters", "costs"}.isdisjoint(page.ids)


def test_no_runs_at_all() -> None:
    frame = pd.DataFrame({"x": pd.Series([], dtype=object), "sharpe": pd.Series([], dtype=float)})
    page = check(render_report(bare(frame, ["x"])))
    assert "0 runs; 0 ranked" in page.words


def test_only_what_is_needed_is_given() -> None:
    frame = pd.DataFrame({"x": [1, 2, 3], "sharpe": [0.1, np.nan, 0.3]})
    page = check(render_report(bare(frame, ["x"])))
    assert "Whether the best run is skill or luck was not tested here." in page.words
    assert "sharpe is missing 1" in page.words
    assert {"curves", "costs", "resources", "provenance"}.isdisjoint(page.ids)


def test_user_text_is_shown_and_not_obeyed() -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7 * 7 }} \u2028 ü 漢字'
    frame = pd.DataFrame(
        {
            "<b>p</b>": [evil, "x" * 6001, "y"],
            "sharpe": [0.1, 0.2, np.nan],
            "run_id": [evil, "long", "lost"],
            "status": ["FINISHED", "FINISHED", "FAILED"],
            "error_type": ["", "", "<i>Error"],
            "error_message": ["", "", "line one\nline two \x1b[31m" + "z" * 6001],
        }
    )
    data = bare(
        frame,
        ["<b>p</b>"],
        description=evil,
        tags={evil: evil},
        facts={evil: evil},
        notes=[evil],
        provenance={evil: {evil: evil}},
        timings={evil: 1.0},
        command=evil,
    )
    data = replace(
        data,
        title=evil + "\udc80",
        sensitivity=parameter_sensitivity(data.table, best=data.ranked.index[0]),
        curves=Curves(
            timestamps=np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"),
            net_returns={evil: np.array([np.nan, 0.1])},
        ),
    )
    text = render_report(data)
    page = check(text)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "{{ 7 * 7 }}" in page.words
    assert "漢字" in page.words
    assert "\x1b" not in text
    assert "\\x1b[31m" in page.words
    assert "(6,001 characters)" in page.words
    assert "x" * 201 not in text
    assert payload(text)["runs"]["ids"][1].startswith("<script>alert(1)</script>")
    text.encode("utf-8")


def test_without_plotly_the_report_says_how_to_get_it(
    grid: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    text = render_report(grid)
    page = check(text)
    assert "pip install 'backtest-batch[report]'" in page.words
    assert "plotly-packed" not in page.ids
    assert 'class="plot"' not in text
    assert len(text) < 500_000


def test_above_a_thousand_runs_the_best_are_listed() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": range(1200), "sharpe": rng.random(1200)})
    text = render_report(bare(frame, ["x"]))
    assert f"These are the best {MAX_ROWS:,} of 1,200 finished runs" in text
    assert text.count('<th scope="row" class="name">') == MAX_ROWS
    assert len(payload(text)["runs"]["ids"]) == 1200


def test_above_ten_thousand_runs_the_figures_use_a_sample() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.integers(0, 4, 10_500), "y": 1, "sharpe": rng.random(10_500)})
    text = render_report(bare(frame, ["x", "y"]))
    held = payload(text)["runs"]
    assert len(held["ids"]) == 10_000
    assert (held["ranks"][0], held["ranks"][-1]) == (1, 10_500)
    assert "use 10,000 of 10,500 finished runs, taken evenly by rank" in text
    assert "Of 10,000 runs 2,000 are drawn" in text


def test_many_failures_are_cut_with_a_word() -> None:
    n_runs = MAX_FAILURES + 5
    frame = pd.DataFrame({"x": range(n_runs), "sharpe": np.nan, "status": "FAILED"})
    page = check(render_report(bare(frame, ["x"])))
    assert f"Listed are the first {MAX_FAILURES} of {n_runs}" in page.words


def test_batches_that_differ_are_shown_first(grid: ReportData) -> None:
    facts = pd.DataFrame({"fact": ["data_fingerprint"], "b1": ["9f86"], "b2": ["d081"]})
    page = check(render_report(replace(grid, differences=facts)))
    assert page.words.index("Unlike things are being compared") < page.words.index("trials")
    assert "data_fingerprint 9f86 d081" in page.words


def finding(**more: Any) -> dict[str, Any]:
    metrics = {"sharpe": 0.42, "cagr": 0.051, "max_drawdown": -0.31}
    return {
        "scenario": "commission_bps=0.5",
        "n_splits": 12,
        "test_start": "2018-01-02",
        "test_end": "2021-01-04",
        "t_statistic": 1.23,
        "metrics": metrics,
        "sharpe_ci": {"low": -0.2, "high": 1.0, "level": 0.95},
        "benchmark": {"sharpe": 0.6},
        "beta_adjusted": {"t_statistic": 0.4, "sharpe": 0.1, "sharpe_ci": None},
        "best_overall": {"run_id": "run_9", "metrics": {"sharpe": 0.7}, "sharpe_shortfall": 0.28},
        "efficiency": 0.5,
        "modal_choice": {"run_id": "run_9", "share": 0.5},
        "parameter_drift": {"fast": {"values": [5, 10], "changed": 0.25, "mean": 7.5, "min": 5}},
        "switches": 3,
        "switch_cost": 0.001,
        "ruined": None,
        "notes": ["The last window was too short."],
        **more,
    }


def test_the_walk_forward_has_a_section(grid: ReportData) -> None:
    index = pd.bdate_range("2018-01-02", periods=300)
    curves = pd.DataFrame({"walk_forward": 0.001, "run_9": 0.002, "benchmark": 0.0}, index=index)
    choices = pd.DataFrame(
        {"split": [0, 1], "run_id": ["run_9", None], "train_start": index[:2], "is_sharpe": 0.9}
    )
    paths = [{"path": 0, "t_statistic": None, "metrics": {"sharpe": 0.5}}]
    view = WalkForwardView(
        findings=[finding(paths=paths), finding(scenario="commission_bps=2.0", efficiency=None)],
        choices=choices,
        curves=curves,
    )
    text = render_report(replace(grid, walk_forward=view))
    page = check(text)
    assert {"walk-forward", "stitched"} <= set(page.ids)
    assert "t = 1.23 (not told from zero at 95 %)" in page.words
    assert "The last window was too short." in page.words
    assert "sharpe 0.420 0.600 0.700" in page.words
    assert "commission_bps=2.0 12 1.23 0.42 0.60 0.40" in page.words
    assert "fast 25% 5 7.5" in page.words
    assert "0 run_9 2018-01-02 0.900" in page.words
    assert [curve["name"] for curve in payload(text)["walkForward"]["curves"]] == [
        "walk_forward",
        "run_9",
        "benchmark",
    ]


@pytest.mark.parametrize(("name", "shown"), [("SPY", "benchmark: SPY"), ("", "benchmark")])
def test_the_legends_name_a_benchmark_that_was_chosen(
    grid: ReportData, name: str, shown: str
) -> None:
    found = payload(render_report(replace(grid, benchmark_name=name)))
    for figure in ("curves", "walkForward"):
        if found[figure] is not None:
            legends = [item["name"] for item in found[figure]["curves"] if item["benchmark"]]
            assert legends == [shown]
    assert found["curves"] is not None


def test_a_walk_forward_without_findings_has_none(grid: ReportData) -> None:
    page = check(render_report(replace(grid, walk_forward=WalkForwardView(findings=[]))))
    assert "walk-forward" not in page.ids


def test_a_weighted_score_has_its_column(build: Callable[..., ReportData]) -> None:
    weights = {"sharpe": 0.6, "turnover_annual": 0.4}
    data = build({"strategy.fast": [5, 10, 20]}, rank_by=weights, n_bars=400, with_verdict=False)
    text = render_report(data)
    assert 'data-column="score"' in text
    assert payload(text)["rankBy"] == ["sharpe", "turnover_annual"]


def test_out_of_sample_metrics_of_the_best_run_stand_beside_the_others() -> None:
    frame = pd.DataFrame({"x": [1, 2], "sharpe": [0.1, 0.3], "oos_sharpe": [0.2, -0.05]})
    table = RunTable.from_frame(frame, params=["x"], metrics=["sharpe", "oos_sharpe"])
    shown = winner_table(table, 1, {"sharpe": 0.6})
    assert shown is not None
    assert list(shown.head) == [
        "metric",
        "best run",
        "out of sample",
        "benchmark",
        "median run",
        "meaning",
    ]
    assert [row[:5] for row in shown.rows] == [["sharpe", "0.300", "-0.050", "0.600", "0.200"]]
