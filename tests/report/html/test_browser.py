"""The pages in a real browser; skipped where there is none."""

import base64
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.html import Curves, ReportData, render_equity, render_report
from backtest_batch.report.html.figures import TIMES

FIGURES = (
    "equity",
    "heatmap",
    "parallel",
    "sensitivity",
    "importance",
    "cost-curve",
    "histogram",
)


@pytest.fixture(scope="module")
def report(grid: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(render_report(grid), encoding="utf-8")
    return page


@pytest.fixture
def opened(chrome: Any, screenshot: ModuleType, report: Path) -> Any:
    """The browser with the report of sixty runs, on a large screen."""
    screenshot.open_page(chrome, report)
    return chrome


def complaints(chrome: Any) -> list[str]:
    return [entry["message"] for entry in chrome.get_log("browser")]


def choose(chrome: Any, figure: str, control: str, text: str) -> None:
    """Choose an option as a person would, by its text."""
    from selenium.webdriver.support.ui import Select

    Select(
        chrome.find_element("css selector", f"#{figure} [data-control={control}]")
    ).select_by_visible_text(text)


def table(chrome: Any, figure: str) -> list[list[str]]:
    """Open the table of a figure and return its cells, the heading first."""
    return chrome.execute_script(
        "const details = document.querySelector(`#${arguments[0]} details`);"
        "details.open = true; details.dispatchEvent(new Event('toggle'));"
        "return [...details.querySelectorAll('tr')].map("
        "(row) => [...row.cells].map((cell) => cell.textContent));",
        figure,
    )


def column(chrome: Any, name: str) -> list[str]:
    """Return the texts of a column of the leaderboard, of the rows that are shown."""
    return chrome.execute_script(
        "const board = document.getElementById('board');"
        "const heads = [...board.tHead.rows[0].cells].map((cell) => cell.dataset.column);"
        "return [...board.tBodies[0].rows].filter((row) => !row.hidden)"
        ".map((row) => row.cells[heads.indexOf(arguments[0])].lastChild?.textContent ?? '');",
        name,
    )


def type_into(chrome: Any, selector: str, text: str) -> None:
    field = chrome.find_element("css selector", selector)
    field.clear()
    field.send_keys(text)


def png_size(picture: bytes) -> tuple[int, int]:
    return struct.unpack(">II", picture[16:24])


def test_every_figure_is_drawn_and_nothing_complains(opened: Any) -> None:
    drawn = opened.execute_script(
        "return [...document.querySelectorAll('.plot')].filter("
        "(plot) => plot.querySelector('.main-svg')).map((plot) => plot.parentElement.id);"
    )
    assert set(FIGURES) <= set(drawn)
    assert complaints(opened) == []


def test_nothing_is_loaded_from_anywhere(opened: Any) -> None:
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_figures_have_names_that_say_what_is_seen(opened: Any) -> None:
    labels = opened.execute_script(
        "return [...document.querySelectorAll('[role=img]')].map("
        "(plot) => plot.getAttribute('aria-label'));"
    )
    assert len(labels) >= len(FIGURES)
    assert all(len(label) > 20 for label in labels)
    unlabelled = opened.execute_script(
        "return [...document.querySelectorAll('select, input')].filter("
        "(control) => !control.closest('label')).length;"
    )
    assert unlabelled == 0


def test_tables_fit_a_large_screen(opened: Any) -> None:
    wide = opened.execute_script(
        "return [...document.querySelectorAll('table.plain')].filter("
        "(table) => table.parentElement.scrollWidth > table.parentElement.clientWidth)"
        ".map((table) => table.caption.textContent);"
    )
    assert wide == []


def test_headings_sort(opened: Any, grid: ReportData) -> None:
    heading = "#board th[data-column={}]"
    button = opened.find_element("css selector", heading.format("max_drawdown") + " button")
    button.click()
    values = [float(text.rstrip("%")) for text in column(opened, "max_drawdown")]
    assert values == sorted(values, reverse=True)
    assert len(values) == 58
    # The keyboard, and the other way round.
    button.send_keys("\ue007")
    values = [float(text.rstrip("%")) for text in column(opened, "max_drawdown")]
    assert values == sorted(values)
    states = opened.execute_script(
        "return [...document.querySelectorAll('#board th[aria-sort]')].map("
        "(head) => [head.dataset.column, head.getAttribute('aria-sort')]);"
    )
    assert states == [["max_drawdown", "ascending"]]
    opened.find_element("css selector", heading.format("run_id") + " button").click()
    assert column(opened, "run_id")[0] == "run_5_80_0.0"
    opened.find_element("css selector", heading.format("rank") + " button").click()
    assert column(opened, "rank") == [str(place) for place in range(1, 59)]


def test_the_filter_compares_columns_and_finds_words(opened: Any, grid: ReportData) -> None:
    finished = grid.table.subset(grid.table.finished)
    sharpe = finished.metrics["sharpe"]
    fast = finished.params["strategy.fast"].astype(int)

    def shown(text: str) -> int:
        type_into(opened, "#row-filter", text)
        return len(column(opened, "rank"))

    limit = round(float(sharpe.median()), 3)
    assert shown(f"sharpe>{limit}") == int((sharpe.round(3) > limit).sum())
    assert shown("strategy.fast=20") == int((fast == 20).sum())
    assert shown(f"strategy.fast<=10 sharpe<{limit}") == int(
        ((fast <= 10) & (sharpe.round(3) < limit)).sum()
    )
    assert shown("max_drawdown>-30%") == int((finished.metrics["max_drawdown"] > -0.3).sum())
    assert shown("RUN_20_120") == 3
    assert shown("no such run") == 0
    assert opened.find_element("id", "row-count").text == "0 of 58 rows"
    assert shown("") == 58


@pytest.mark.parametrize("how", ["mean of the runs", "best run", "worst run", "number of runs"])
@pytest.mark.parametrize("metric", ["sharpe", "volatility"])
def test_the_heatmap_is_what_pandas_says(
    opened: Any, grid: ReportData, how: str, metric: str
) -> None:
    choose(opened, "heatmap", "metric", metric)
    choose(opened, "heatmap", "aggregate", how)
    head, *rows = table(opened, "heatmap")
    assert head[0] == "strategy.slow \\ strategy.fast"
    finished = grid.table.subset(grid.table.finished)
    good = 1 if metric == "sharpe" else -1
    aggregate: Any = {
        "mean of the runs": "mean",
        "best run": "max" if good > 0 else "min",
        "worst run": "min" if good > 0 else "max",
        "number of runs": "count",
    }[how]
    axes = [finished.params[name].astype(float) for name in ("strategy.slow", "strategy.fast")]
    expected = finished.metrics[metric].groupby(axes).agg(aggregate).unstack()
    assert head[1:] == [f"{value:g}" for value in expected.columns]
    for row in rows:
        values = expected.loc[float(row[0])].tolist()
        if how == "number of runs":
            assert row[1:] == [str(int(value)) for value in values]
            continue
        shown = [float(text.rstrip("%")) / (100 if "%" in text else 1) for text in row[1:]]
        np.testing.assert_allclose(shown, values, atol=6e-4)
    assert complaints(opened) == []


def test_every_pair_and_every_metric_can_be_chosen(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select

    pairs = Select(opened.find_element("css selector", "#heatmap [data-control=pair]"))
    names = [option.text for option in pairs.options]
    assert names == [
        f"strategy.fast{TIMES}strategy.slow",
        f"strategy.fast{TIMES}commission_bps",
        f"strategy.slow{TIMES}commission_bps",
    ]
    for name in names:
        choose(opened, "heatmap", "pair", name)
        label = opened.execute_script(
            "return document.querySelector('#heatmap .plot').getAttribute('aria-label')"
        )
        assert all(part in label for part in name.split(TIMES))
    chosen = opened.execute_script(
        "let count = 0;"
        "for (const select of document.querySelectorAll('.figure select')) {"
        " for (const option of select.options) {"
        "  select.value = option.value; select.dispatchEvent(new Event('change')); count += 1;"
        " }"
        "} return count;"
    )
    assert chosen > 100
    assert complaints(opened) == []


def test_the_heatmap_of_one_scenario(opened: Any, grid: ReportData) -> None:
    choose(opened, "heatmap", "scenario", "commission_bps=2.0")
    choose(opened, "heatmap", "aggregate", "number of runs")
    counts = [text for row in table(opened, "heatmap")[1:] for text in row[1:]]
    # The failed run has no cell.
    assert sorted(counts) == [""] + ["1"] * 19


def test_curves_are_switched_on_and_off(opened: Any) -> None:
    traces = "return document.querySelector('#equity .plot').data.length"
    assert opened.execute_script(traces) == 12
    boxes = opened.find_elements("css selector", "#equity [data-lines] input")
    assert len(boxes) == 13
    boxes[0].click()
    assert opened.execute_script(traces) == 10
    axis = "return document.querySelector('#equity .plot').layout.yaxis.type"
    assert opened.execute_script(axis) == "linear"
    opened.find_element("css selector", "#equity [data-control=log]").click()
    assert opened.execute_script(axis) == "log"
    head, *rows = table(opened, "equity")
    assert head[:3] == ["curve", "growth of 1", "deepest drawdown"]
    assert [row[0] for row in rows][-1] == "benchmark"
    assert complaints(opened) == []


def test_runs_are_highlighted_by_words_and_by_a_box(opened: Any, grid: ReportData) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    note = opened.find_element("css selector", "#parallel .note")
    field = opened.find_element("css selector", "#parallel [data-control=filter]")
    type_into(opened, "#parallel [data-control=filter]", "strategy.fast=20")
    assert note.text.startswith("12 of 58 runs are highlighted.")
    type_into(opened, "#parallel [data-control=filter]", " ")
    place = opened.find_element("css selector", "#parallel .nsewdrag")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    box = place.rect
    # Around the upper half of the first axis, which stands 0.15 of a step from the left edge.
    step = box["width"] / opened.execute_script(
        "const [a, b] = document.querySelector('#parallel .plot').layout.xaxis.range; return b - a"
    )
    across = round(0.15 * step - box["width"] / 2)
    actions = ActionChains(opened, duration=50)
    actions.move_to_element_with_offset(place, across - 12, round(-box["height"] / 2) + 2)
    actions.click_and_hold()
    actions.move_to_element_with_offset(place, across + 25, 0)
    actions.release().perform()
    WebDriverWait(opened, 10).until(lambda _: "strategy.fast>=" in field.get_property("value"))
    # 40 and 60 lie in the upper half of 5 to 60.
    expected = int((grid.table.params["strategy.fast"][grid.table.finished] >= 40).sum())
    assert note.text.startswith(f"{expected} of 58 runs are highlighted.")
    assert complaints(opened) == []


def test_on_a_phone_nothing_is_cut(
    chrome: Any, screenshot: ModuleType, report: Path, tmp_path: Path
) -> None:
    screenshot.open_page(chrome, report, width=390, height=844)
    assert chrome.execute_script("return document.documentElement.scrollWidth") == 390
    assert complaints(chrome) == []
    picture = screenshot.picture(chrome)
    assert png_size(picture)[0] == 390


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_runs_are_folded_and_never_cut(
    build: Callable[..., ReportData],
    chrome: Any,
    screenshot: ModuleType,
    tmp_path: Path,
    width: int,
) -> None:
    letters = ["a" * 70 + end for end in ("1", "2", "3")]
    page = tmp_path / "long.html"
    page.write_text(render_report(build({"strategy.name": letters})), encoding="utf-8")
    screenshot.open_page(chrome, page, width=width, height=844)

    cut = chrome.execute_script(
        "return [...document.querySelectorAll('#board tbody .name')]"
        ".map(cell => cell.scrollWidth - cell.clientWidth)"
    )
    assert cut == [0, 0, 0]
    shown = chrome.execute_script(
        "return getComputedStyle(document.querySelector('#board tbody .name')).whiteSpace"
    )
    assert shown == "normal"


def test_a_picture_of_the_whole_page(report: Path, screenshot: ModuleType, tmp_path: Path) -> None:
    picture = tmp_path / "heatmap.png"
    screenshot.main([str(report), str(picture), "--width", "1280", "--element", "#heatmap"])
    width, height = png_size(picture.read_bytes())
    assert 900 < width < 1280
    assert height > 300


def test_dark_and_light_follow_the_system(
    chrome: Any, screenshot: ModuleType, report: Path
) -> None:
    def shades() -> list[int]:
        """Return how bright paper, text and the labels of a plot are, 0 to 255."""
        colours = chrome.execute_script(
            "const plot = document.querySelector('#equity .xtick text');"
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.body).color, getComputedStyle(plot).fill]"
        )
        return [int(colour.split("(")[1].split(",")[0]) for colour in colours]

    screenshot.open_page(chrome, report, dark=True)
    paper, text, label = shades()
    assert paper < 40
    assert min(text, label) > 200
    screenshot.open_page(chrome, report)
    paper, text, label = shades()
    assert paper > 240
    assert max(text, label) < 60


def test_in_a_sandboxed_frame_as_the_tracking_ui_has_it(
    chrome: Any, screenshot: ModuleType, report: Path
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    frame = report.with_name("frame.html")
    frame.write_text(
        f'<!doctype html><iframe sandbox="allow-scripts" src="{report.name}" width="1000" '
        'height="800"></iframe>',
        encoding="utf-8",
    )
    screenshot.open_page(chrome, frame)
    chrome.switch_to.frame(0)
    WebDriverWait(chrome, 60).until(lambda it: it.execute_script(screenshot.READY))
    assert chrome.execute_script("return self.origin") == "null"
    assert chrome.execute_script("return document.querySelectorAll('.main-svg').length") > 7
    chrome.find_element("css selector", "#board th[data-column=cagr] button").click()
    assert complaints(chrome) == []
    chrome.switch_to.default_content()


def test_on_paper(opened: Any) -> None:
    pdf = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")
    assert complaints(opened) == []


def test_without_plotly_the_figures_are_tables(
    chrome: Any,
    screenshot: ModuleType,
    grid: ReportData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    page = tmp_path / "plain.html"
    page.write_text(render_report(grid), encoding="utf-8")
    screenshot.open_page(chrome, page)
    assert chrome.execute_script(
        "return [...document.querySelectorAll('.as-table')].every("
        "(details) => details.open && details.querySelector('tbody tr'))"
    )
    choose(chrome, "heatmap", "metric", "calmar")
    assert len(table(chrome, "heatmap")) == 5
    assert complaints(chrome) == []


def bare(frame: pd.DataFrame, params: list[str]) -> ReportData:
    runs = RunTable.from_frame(frame.astype(dict.fromkeys(params, object)), params=params)
    ranking = Ranking.parse("sharpe")
    ranked = rank_runs(runs, ranking)
    best = ranked.index[0] if ranked["rank"].notna().any() else None
    return ReportData(
        title="odd",
        table=runs,
        ranked=ranked,
        ranking=ranking,
        sensitivity=parameter_sensitivity(runs, best=best),
        importance=parameter_importance(runs),
    )


def odd_reports(build: Callable[..., ReportData]) -> dict[str, ReportData]:
    return {
        "costs only": build({"commission_bps": [0.0, 0.5], "max_gross_exposure": [0.6, 1.0]}),
        "one run": build({}, n_bars=400),
        "one parameter": build({"strategy.fast": [5, 10, 20]}, n_bars=400),
        "all failed": build({"strategy.fast": [5, 10]}, n_bars=400, n_failed=2),
        "score": build(
            {"strategy.fast": [5, 10], "strategy.slow": [80, 100]},
            rank_by={"sharpe": 0.5, "turnover_annual": 0.5},
            n_bars=400,
        ),
        "one of two values failed": build({"strategy.fast": [5, 10, 20]}, n_bars=400, n_failed=2),
        "no metrics": bare(pd.DataFrame({"x": [1, 2, 3], "y": [1, 2, 3]}), ["x", "y"]),
        "many values": bare(
            pd.DataFrame(
                {
                    "x": np.linspace(0, 1, 90),
                    "y": [f"a name of some length, number {number}" for number in range(90)],
                    "z": [None, True, 3] * 30,
                    "sharpe": np.sin(np.arange(90.0)),
                }
            ),
            ["x", "y", "z"],
        ),
    }


def test_odd_batches(
    chrome: Any, screenshot: ModuleType, build: Callable[..., ReportData], tmp_path: Path
) -> None:
    for name, data in odd_reports(build).items():
        page = tmp_path / "odd.html"
        page.write_text(render_report(data), encoding="utf-8")
        for width in (1280, 390):
            screenshot.open_page(chrome, page, width=width)
            assert complaints(chrome) == [], name
            assert chrome.execute_script("return document.documentElement.scrollWidth") == width, (
                name
            )


def test_runs_without_a_number_have_a_place_on_the_axis(
    chrome: Any, screenshot: ModuleType, tmp_path: Path
) -> None:
    values = pd.Series([None, 1, 2] * 2, dtype=object)
    frame = pd.DataFrame({"x": values, "y": ["a"] * 3 + ["b"] * 3, "sharpe": range(6)})
    page = tmp_path / "null.html"
    page.write_text(render_report(bare(frame, ["x", "y"])), encoding="utf-8")
    screenshot.open_page(chrome, page)

    places, ticks = chrome.execute_script(
        "const plot = document.querySelector('#parallel .plot');"
        "const onFirst = plot.data.filter((trace) => trace.name?.startsWith('band'))"
        ".flatMap((trace) => trace.y.filter((_, i) => trace.x[i] === 0));"
        "return [onFirst, plot.layout.annotations.filter((item) => item.x === 0)"
        ".map((item) => [item.text, item.y])];"
    )
    # The line of each run crosses the axis: null apart from and below the numbers.
    assert sorted(places) == pytest.approx([0, 0, 0.2, 0.2, 1, 1])
    assert dict(ticks) == pytest.approx({"null": 0, "1": 0.2, "2": 1})
    assert complaints(chrome) == []


def test_text_of_users_runs_nothing(chrome: Any, screenshot: ModuleType, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=document.title='obeyed'><b>%{x}&amp;"
    frame = pd.DataFrame(
        {
            evil: [evil + "1", "b" * 6001, "c"] * 2,
            "q": [1, 1, 1, 2, 2, 2],
            "sharpe": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7],
            "run_id": [f"{evil}{number}" for number in range(6)],
        }
    )
    data = replace(
        bare(frame, [evil, "q"]),
        title=evil,
        curves=Curves(
            timestamps=np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-04")),
            net_returns={evil: np.array([np.nan, 0.1, -0.1])},
        ),
    )
    page = tmp_path / "evil.html"
    page.write_text(render_report(data), encoding="utf-8")
    for width in (1280, 390):
        screenshot.open_page(chrome, page, width=width)
        for figure in ("equity", "heatmap", "sensitivity", "importance", "histogram"):
            assert table(chrome, figure)
        assert chrome.title != "obeyed"
        assert chrome.execute_script("return document.images.length") == 0
        assert chrome.execute_script("return document.documentElement.scrollWidth") == width
        assert complaints(chrome) == []


def test_the_curve_of_one_run(chrome: Any, screenshot: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    returns = np.concatenate([[np.nan], rng.normal(0.0005, 0.01, 900)])
    page = tmp_path / "equity.html"
    page.write_text(
        render_equity(
            title="run_5",
            timestamps=np.arange(np.datetime64("2010-01-01"), np.datetime64("2010-01-01") + 901),
            net_returns=returns,
            benchmark=returns / 2,
        ),
        encoding="utf-8",
    )
    for width in (1000, 390):
        screenshot.open_page(chrome, page, width=width)
        panel = chrome.find_element("css selector", ".panel")
        panel.send_keys("\ue012")
        assert "run " in chrome.find_element("id", "readout").text
        assert chrome.execute_script("return document.documentElement.scrollWidth") == width
        assert complaints(chrome) == []
