"""The picture of a verdict, as SVG that loads nothing."""

import math
from collections.abc import Iterable
from html import escape

import numpy as np

from backtest_batch.analysis.overfitting.document import Assessment
from backtest_batch.report.html.figures import Scale, ticks
from backtest_batch.report.tables import one_line
from backtest_batch.values import cut_text

WIDTH, HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 30, 74, 44

_COLOURS = {"skill": "#14703f", "luck": "#a3341f", "cannot_tell": "#4d5763", "invalid": "#a3341f"}
_WORDS = {"skill": "Skill", "luck": "Luck", "cannot_tell": "Cannot tell", "invalid": "Invalid"}

_BINS = 40


def verdict_picture(assessment: Assessment) -> str:
    """Return an SVG: what the best trial shows, beside what the best of as many shows by chance.

    Parameters
    ----------
    assessment
        The verdict with its samples. Without samples the picture holds the word and the reason.

    Returns
    -------
    str
        One ``svg`` element with a white background; Sharpe ratios are annual. Equal assessments
        give equal text.
    """
    verdict = assessment.document["verdict"]
    label = str(verdict["label"])
    colour = _COLOURS.get(label, _COLOURS["cannot_tell"])
    sentence = one_line(str(verdict["sentence"]))
    drawn = "".join(_histogram(assessment, colour))
    lines = wrapped_lines(sentence, 105, 2 if drawn else 8)
    texts = [
        svg_text(_LEFT, 28, _WORDS.get(label, label), 20, colour, bold=True),
        *(svg_text(_LEFT, 48 + 15 * row, line, 12, "#1c2126") for row, line in enumerate(lines)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="sans-serif" style="max-width:100%;height:auto">'
        f"<title>{escape(sentence)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{"".join(texts)}{drawn}</svg>'
    )


def _histogram(assessment: Assessment, colour: str) -> Iterable[str]:
    """Yield the bars of the resampled maxima, the axis, and the line of the best trial."""
    maxima, statistic = assessment.null_maxima, assessment.statistic
    if statistic is None or not len(maxima) or not np.isfinite(maxima).all():
        return
    annual = math.sqrt(assessment.bars_per_year)
    values, best = maxima * annual, statistic * annual
    low, high = float(min(values.min(), best)), float(max(values.max(), best))
    margin = 0.04 * (high - low) or 0.1
    scale = Scale(low=low - margin, high=high + margin)
    counts, edges = np.histogram(values, bins=_BINS)
    height = HEIGHT - _TOP - _BOTTOM - 14
    floor = HEIGHT - _BOTTOM
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        if not count:
            continue
        x, width = _across(scale, float(left)), _across(scale, float(right))
        tall = height * count / int(counts.max())
        yield (
            f'<rect x="{x:.1f}" y="{floor - tall:.1f}" width="{max(width - x - 0.5, 0.5):.1f}" '
            f'height="{tall:.1f}" fill="#b8c0c9"/>'
        )
    yield f'<path d="M{_LEFT} {floor}H{WIDTH - _RIGHT}" stroke="#8b949e"/>'
    for value in ticks(scale, 8):
        yield svg_text(_across(scale, value), floor + 15, f"{value:.4g}", 11, "#56606b", "middle")
    yield svg_text(
        WIDTH / 2, HEIGHT - 10,
        "Sharpe ratio a year. Grey: the best of these trials if none had skill; line: the best",
        11, "#56606b", "middle",
    )  # fmt: skip
    x = _across(scale, best)
    yield f'<path d="M{x:.1f} {_TOP + 12}V{floor}" stroke="{colour}" stroke-width="2.5"/>'
    anchor = "end" if x > WIDTH / 2 else "start"
    yield svg_text(
        x - 5 if anchor == "end" else x + 5, _TOP + 20, f"{best:.2f}", 12, colour, anchor
    )


def _across(scale: Scale, value: float) -> float:
    share = (value - scale.low) / (scale.high - scale.low)
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * share


def svg_text(
    x: float, y: float, text: str, size: int, colour: str, anchor: str = "start", *,
    bold: bool = False,
) -> str:  # fmt: skip
    """Return a line of text in an SVG."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
        f"{weight}>{escape(text)}</text>"
    )


def wrapped_lines(text: str, width: int, most: int) -> list[str]:
    """Return text in lines of about ``width`` characters; what is left out is marked."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], cut_text(lines[most - 1], width) + " …"]
