"""The operating characteristics of the verdict: sweeps that can be repeated, resumed and read."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict.cells import Cell, all_cells, chosen_cells, sweep_once
from benchmarks.verdict.markets import DAYS, MARKETS
from benchmarks.verdict.strategies import blindfolded, moving_betas, rules, tilted
from benchmarks.verdict.sweep import Sweep, annual_sharpe
from benchmarks.verdict.tables import origin, read_results, tables, write_page

ROOT = Path(__file__).parents[2]
SMALL = Cell(market="random walk", tried="blindfolded", years=3, trials=10)


@pytest.mark.parametrize("name", MARKETS)
def test_a_market_is_the_same_for_the_same_seed_and_has_prices_on_every_bar(name):
    one, other = (MARKETS[name](np.random.default_rng(5), 300).panel for _ in range(2))
    assert one == other
    assert one.n_bars == 300
    assert (one.fields["close"] > 0).all()


@pytest.mark.parametrize("tried", ["blindfolded", "loaded", "moving"])
def test_what_does_not_look_gives_the_same_weights_whatever_the_prices_are(tried):
    loadings = np.linspace(-1, 1, 20)
    trials = {
        "blindfolded": lambda: blindfolded(9, 1),
        "loaded": lambda: tilted(9, 1, loadings),
        "moving": lambda: moving_betas(9, 1, loadings),
    }[tried]()
    panels = [MARKETS["random walk"](np.random.default_rng(seed), 200).panel for seed in (1, 2)]
    decisions = np.arange(10, 190, 20)
    for item in trials:
        one, other = (item.strategy.target_weights(panel, decisions) for panel in panels)
        assert np.array_equal(one, other)
        assert np.abs(one).sum(axis=1).max() <= 3.0


def test_a_grid_has_as_many_different_rules_as_are_wanted():
    grid = rules(1_000)
    assert len({(item.strategy.__class__, str(item.params)) for item in grid}) == 1_000


def test_a_survivor_has_ended_higher_than_what_is_left_out_would_have():
    market = MARKETS["survivors"](np.random.default_rng(3), 10 * DAYS)
    walks = MARKETS["random walk"](np.random.default_rng(3), 10 * DAYS)
    last, other = (item.panel.fields["close"][-1] for item in (market, walks))
    assert np.median(last) > 1.5 * np.median(other)


def test_planted_skill_is_an_information_ratio_of_what_is_left_beyond_the_benchmark():
    sweep = Sweep(market=MARKETS["random walk"](np.random.default_rng(1), 3 * DAYS))
    sweep.grid(blindfolded(10, 1))
    before = sweep.judge().document
    planted = sweep.planted(4, 50.0)
    found = planted.judge()
    assert before["verdict"]["label"] != "skill"
    assert found.document["verdict"]["label"] == "skill"
    assert found.document["run_id"] == "run_4"
    assert found.columns["skilled"].sum() == 1
    ratio = found.document["benchmark_adjusted"]["sharpe_per_period"] * np.sqrt(DAYS)
    assert ratio == pytest.approx(50.0, abs=2.0)


def test_a_search_tries_as_many_and_is_judged_with_their_best():
    sweep = Sweep(market=MARKETS["random walk"](np.random.default_rng(1), 2 * DAYS))
    sweep.search(10, 7)
    document = sweep.judge().document
    together = np.column_stack(sweep.returns)
    shared = together[np.isfinite(together).all(axis=1)]
    best = max(annual_sharpe(returns) for returns in shared.T)
    assert document["n_trials"] == 10
    assert document["sharpe_per_period"] * np.sqrt(DAYS) == pytest.approx(best)


def test_factors_of_the_market_are_given_where_they_are_wanted():
    cell = Cell(market="factor-driven", tried="loaded on a factor", years=10, trials=10)
    assert sweep_once(cell, 0)["factors_spa"] is None
    assert 0 < sweep_once(replace(cell, factors=True), 0)["factors_spa"] <= 1


def test_a_sweep_gives_the_same_whenever_it_is_made():
    one, other = (sweep_once(SMALL, 3) for _ in range(2))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert sweep_once(SMALL, 4)["spa"] != one["spa"]


def test_cells_have_names_of_their_own_and_are_chosen_by_all_words_of_a_pattern():
    names = [cell.name for cell in all_cells()]
    assert len(set(names)) == len(names) > 80
    chosen = chosen_cells(["garch 10y", "survivors 3y 10"])
    assert {(cell.market, cell.years) for cell in chosen} == {("GARCH", 10), ("survivors", 3)}
    assert len(chosen) == 4


def _line(number, label, pvalue):
    return json.dumps(
        {
            "sweep": number,
            "label": label,
            "spa": pvalue,
            "benchmark_spa": pvalue,
            "factors_spa": None,
            "found": None,
            "seconds": 1.0,
            "version": "abc",
        }
    )


def test_tables_count_each_sweep_once_and_leave_out_a_line_that_a_kill_cut_off(tmp_path):
    lines = [_line(n, "skill" if n < 5 else "luck", 0.01 if n < 5 else 0.5) for n in range(20)]
    (tmp_path / f"{SMALL.name}.jsonl").write_text("\n".join([*lines, lines[0], lines[1][:30]]))
    ar1 = Cell(market="AR(1) returns", tried="blindfolded", years=3, trials=10)
    (tmp_path / f"{ar1.name}.jsonl").write_text("\n".join([lines[4], *lines[5:]]))
    results = read_results(tmp_path)
    assert len(results[SMALL.name]) == 20
    assert "| AR(1) returns | blindfolded | 6.2% (16) |" in tables(results)
    assert "abc (36)" in origin(results)
    page = tmp_path / "page.md"
    (tmp_path / "images").mkdir()
    page.write_text("# Head\n\n<!-- benchmarks.verdict -->\nstale\n<!-- end -->\n\nTail\n")
    for _ in range(2):
        write_page(page, results)
        written = page.read_text()
        assert written.startswith("# Head\n\n<!-- benchmarks.verdict -->\n\nShare of sweeps")
        assert written.endswith("|\n\n<!-- end -->\n\nTail\n")
        assert "stale" not in written
    ET.fromstring((tmp_path / "images" / "verdict-calibration.svg").read_text())


@pytest.mark.benchmark
def test_the_benchmark_goes_on_where_it_was_killed(tmp_path):
    command = [sys.executable, "-m", "benchmarks.verdict", str(tmp_path), "--small"]
    cells = ["--cells", "random blindfolded"]
    done = subprocess.run([*command, *cells], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file = next(tmp_path.glob("*ir2.jsonl"))
    whole = file.read_text()
    file.write_text(whole[:-20])
    done = subprocess.run(
        [*command, *cells, "--jobs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(read_results(tmp_path)[file.stem]) == 2
    assert "information ratio" in done.stdout
