"""Tables and plot of the results that are stored."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict.cells import LACKING, RATIOS, ROWS, TRIALS, YEARS, Cell, all_cells

LEVEL = 0.05
Results = dict[str, list[dict[str, Any]]]


def read_results(folder: Path) -> Results:
    """Return the results of each cell; a line that was cut off by a kill is left out."""
    found: Results = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                item = json.loads(line)
            except ValueError:
                continue
            lines[item["sweep"]] = item
        found[path.stem] = [lines[number] for number in sorted(lines)]
    return found


def tables(results: Results) -> str:
    """Return the tables, as they stand in docs/statistics.md."""
    return f"""Share of sweeps that end as skill (number of sweeps), by years and number of trials;
bold where it is more than 5 % and two standard errors:

{_table(results, ROWS, _skill)}

The strategies that are loaded on a factor, where the factors are not given: what these are for.

{_table(results, [LACKING], _skill)}

The last test alone (against the factors, or else the benchmark), share of p-values up to 5 %:

{_table(results, ROWS, _rejects)}

Power: in one of the trials on the random walk a constant return is added, an information
ratio a year beyond the benchmark. Share of sweeps whose verdict is skill and names that run:

{_power(results)}
"""


BEGIN, END = "<!-- benchmarks.verdict -->", "<!-- end -->"


def write_page(page: Path, results: Results) -> None:
    """Put the tables into a page, between two comments, and the plot into its images."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no {BEGIN} with {END} after it")
    text = f"{head}{begin}\n\n{tables(results)}\n{end}{tail}"
    page.write_text(text, encoding="utf-8")
    plot = page.parent / "images" / "verdict-calibration.svg"
    plot.write_text(calibration_plot(results), encoding="utf-8")


def _table(results: Results, rows: Sequence[tuple[str, str, bool]], text: Any) -> str:
    heads = [f"{years} y, {trials:,}" for years in YEARS for trials in TRIALS]
    lines = [f"| market | tried | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for market, tried, factors in rows:
        cells = [
            Cell(market=market, tried=tried, years=years, trials=trials, factors=factors)
            for years in YEARS
            for trials in TRIALS
        ]
        shown = [text(results.get(cell.name, [])) for cell in cells]
        lines.append(f"| {market} | {tried} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _skill(lines: Sequence[dict[str, Any]]) -> str:
    return _share([line["label"] == "skill" for line in lines])


def _rejects(lines: Sequence[dict[str, Any]]) -> str:
    return _share([_decisive(line) <= LEVEL for line in lines])


def _share(hits: Sequence[bool], *, judged: bool = True) -> str:
    if not hits:
        return ""
    share = sum(hits) / len(hits)
    text = f"{share:.1%} ({len(hits)})"
    too_many = share > LEVEL + 2.0 * math.sqrt(LEVEL * (1.0 - LEVEL) / len(hits))
    return f"**{text}**" if judged and too_many else text


def _power(results: Results) -> str:
    heads = [f"{years} y, {trials:,}" for years in YEARS for trials in TRIALS]
    lines = [f"| information ratio | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for ratio in RATIOS:
        shown = []
        for years in YEARS:
            for trials in TRIALS:
                held = results.get(_planted(years, trials, ratio).name, [])
                shown.append(_share([line["found"] for line in held], judged=False))
        lines.append(f"| {ratio:g} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _planted(years: int, trials: int, ratio: float) -> Cell:
    return Cell(market="random walk", tried="blindfolded", years=years, trials=trials, ratio=ratio)


def origin(results: Results) -> str:
    """Return by which code the results were made, and what is missing."""
    counts = Counter(line["version"] for lines in results.values() for line in lines)
    seconds = sum(line["seconds"] for lines in results.values() for line in lines)
    made = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
    missing = sum(not results.get(cell.name) for cell in all_cells())
    return (
        f"Made by the code of {made or 'nobody'}, in {seconds / 60:,.0f} processor minutes; "
        f"{missing} cells are empty."
    )


WIDTH, HEIGHT = 1080, 380
_PLOT = 290
_COLOURS = ("#1b6ca8", "#c2571a", "#14703f", "#7b4fa3", "#a3341f", "#56606b", "#b0892f", "#d4537e")


def calibration_plot(results: Results) -> str:
    """Return an SVG: how often p-values fall below each level, and how often skill is found."""
    parts = [
        *_calibration(results, left=56, top=40),
        *_found(results, left=720, top=40),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="sans-serif">'
        "<title>How often the verdict is wrong, and what it finds</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


_HIGHEST = 0.25


def _calibration(results: Results, left: int, top: int) -> Iterator[str]:
    """Yield the share of sweeps without skill whose p-value is at most the level."""

    def at(level: float, share: float) -> tuple[float, float]:
        return left + _PLOT * level / _HIGHEST, top + _PLOT * (1.0 - share / _HIGHEST)

    ticks = [(value, f"{value:.0%}") for value in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)]
    yield from _frame(left, top, "p-value of the last test up to", "share of sweeps without skill")
    for value, text in ticks:
        yield _text(at(value, 0.0)[0], top + _PLOT + 16, text, "middle")
        yield _text(left - 6, at(0.0, value)[1] + 4, text, "end")
    yield _line([at(0.0, 0.0), at(_HIGHEST, _HIGHEST)], "#8b949e", dashed=True)
    levels = np.linspace(0.0, _HIGHEST, 51)
    for number, (market, tried, factors) in enumerate(ROWS):
        held = [
            line
            for years in YEARS
            for trials in TRIALS
            for line in results.get(
                Cell(market=market, tried=tried, years=years, trials=trials, factors=factors).name,
                [],
            )
        ]
        values = np.array([_decisive(line) for line in held])
        if not len(values):
            continue
        shares = (values[:, None] <= levels).mean(axis=0)
        colour = _COLOURS[number]
        points = [at(x, min(y, _HIGHEST)) for x, y in zip(levels, shares, strict=True)]
        yield _line(points, colour)
        label = f"{market}, {tried} ({len(values):,})"
        yield _text(left + _PLOT + 14, top + 16 + 18 * number, label, "start", colour)


def _decisive(line: dict[str, Any]) -> float:
    """Return the p-value of the last test: against the factors, else against the benchmark."""
    value = line["benchmark_spa"] if line["factors_spa"] is None else line["factors_spa"]
    return 1.0 if value is None else float(value)


def _found(results: Results, left: int, top: int) -> Iterator[str]:
    """Yield the share of sweeps in which a planted information ratio is found."""
    high = max(RATIOS)

    def at(ratio: float, share: float) -> tuple[float, float]:
        return left + _PLOT * ratio / high, top + _PLOT * (1.0 - share)

    yield from _frame(left, top, "planted information ratio a year", "share of sweeps: found")
    for value in (0.0, *RATIOS):
        yield _text(at(value, 0.0)[0], top + _PLOT + 16, f"{value:g}", "middle")
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield _text(left - 6, at(0.0, value)[1] + 4, f"{value:.0%}", "end")
    for row, years in enumerate(YEARS):
        for column, trials in enumerate(TRIALS):
            points = []
            for ratio in RATIOS:
                held = results.get(_planted(years, trials, ratio).name, [])
                if held:
                    points.append(at(ratio, sum(line["found"] for line in held) / len(held)))
            if points:
                yield _line(points, _COLOURS[row], width=3.0 - column)
        yield _text(left + 10, top + 16 + 14 * row, f"{years} years", "start", _COLOURS[row])
    yield _text(left + 10, top + 58, "thick: 10 trials, thin: 1,000", "start")


def _frame(left: int, top: int, across: str, title: str) -> Iterator[str]:
    yield (
        f'<rect x="{left}" y="{top}" width="{_PLOT}" height="{_PLOT}" fill="none" '
        'stroke="#c5ccd3"/>'
    )
    yield _text(left + _PLOT / 2, top + _PLOT + 36, across, "middle")
    yield _text(left, top - 14, title, "start")


def _line(
    points: Iterable[tuple[float, float]], colour: str, *, width: float = 1.6, dashed: bool = False
) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#1c2126") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="{colour}">'
        f"{text}</text>"
    )
