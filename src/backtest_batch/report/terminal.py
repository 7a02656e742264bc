"""The leaderboard in the terminal."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from backtest_batch.comparison.ranking import Ranking, unranked_counts
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.report.escaping import one_line
from backtest_batch.report.leaderboard import Column, leaderboard_columns

_STYLES = {1: "bold green", 2: "green", 3: "cyan"}

_KINDS_SHOWN = 5


def print_leaderboard(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    *,
    top_n: int = 10,
    verdict: str = "",
    notes: Sequence[str] = (),
    extra: pd.DataFrame | None = None,
    heading: Sequence[str] = (),
    file: TextIO | None = None,
) -> None:
    """Print the best runs, and what is to be said about all of them.

    The best three of all runs in each metric are coloured on a terminal and marked with ``*``
    elsewhere. On a terminal long names are folded; elsewhere every line is as long as it needs to
    be, nothing is cut, and there are no escape sequences. ``NO_COLOR`` does away with them on a
    terminal, too.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    top_n
        Most rows.
    verdict
        A sentence on skill or luck, printed below.
    notes
        Further sentences, printed below: parameters that change nothing, an optimum on the edge.
    extra
        Further columns of text, indexed like ``table``.
    heading
        Lines to print above, such as in what the compared batches differ.
    file
        Where to print; standard output by default.
    """
    target = sys.stdout if file is None else file
    on_terminal = bool(getattr(target, "isatty", lambda: False)())
    console = _Console(
        file=target,
        color_system=None if os.environ.get("NO_COLOR") or not on_terminal else "auto",
        force_terminal=on_terminal,
        force_jupyter=False,
        highlight=False,
    )
    colours = console.color_system is not None
    best = ranked.index[ranked["rank"].notna()][:top_n]
    columns = leaderboard_columns(table, ranked, ranking, best, extra=extra)
    if not on_terminal:
        console.width = max(_width(console, _board(columns, colours=colours)), 1)
    fitting = _fitting(console, columns, ranking, colours=colours)
    board = _board(fitting, colours=colours)
    marked = any(place for column in fitting for place in column.places)
    lines = _lines(
        table, ranked, ranking, len(best), verdict, notes, starred=marked and not colours
    )
    if len(fitting) < len(columns):
        lines.insert(
            0,
            "Hidden for want of width: "
            + ", ".join(column.title for column in columns if column not in fitting)
            + ".",
        )
    for line in heading:
        console.print(Text(one_line(line)), soft_wrap=True)
    if len(best):
        console.print(board, soft_wrap=not on_terminal, crop=False)
    for line in "\n".join(lines).splitlines():
        console.print(Text(one_line(line)), soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command, which knows what that means; rich would exit with 1."""
        raise BrokenPipeError


def _width(console: Console, board: Table) -> int:
    unlimited = console.options.update(max_width=sys.maxsize)
    return Measurement.get(console, unlimited, board).maximum


def _fitting(
    console: Console, columns: list[Column], ranking: Ranking, *, colours: bool
) -> list[Column]:
    """Return the columns without the last metrics that neither fit the width nor rank."""
    fitting = list(columns)
    spare = [item for item in columns if item.places and item.title not in ranking.metrics]
    while spare and _width(console, _board(fitting, colours=colours)) > console.width:
        fitting.remove(spare.pop())
    return fitting


def _board(columns: Sequence[Column], *, colours: bool) -> Table:
    board = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        board.add_column(
            Text(one_line(column.title)),
            justify="right" if column.number else "left",
            overflow="fold",
        )
    n_rows = len(columns[0].cells)
    for row in range(n_rows):
        board.add_row(*(_cell(column, row, colours=colours) for column in columns))
    return board


def _cell(column: Column, row: int, *, colours: bool) -> Text:
    text = one_line(column.cells[row])
    place = column.places[row] if column.places else 0
    if colours:
        return Text(text, style=_STYLES.get(place, ""))
    # A blank in place of the star keeps the digits of a column below each other.
    return Text(text + ("*" if place else " " if column.places else ""))


def _lines(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    n_shown: int,
    verdict: str,
    notes: Sequence[str],
    *,
    starred: bool,
) -> list[str]:
    """Return the sentences below the table."""
    n_ranked = int(ranked["rank"].notna().sum())
    best = "the best one is" if n_shown == 1 else f"the best {n_shown} are"
    shown = f"; {best} shown" if n_shown < n_ranked else ""
    runs = "run" if len(table) == 1 else "runs"
    lines = [f"{n_ranked} of {len(table)} {runs} ranked by {ranking}{shown}."]
    counts = unranked_counts(ranked)
    if counts:
        kinds = [f"{count} {kind}" for kind, count in counts.items()][:_KINDS_SHOWN]
        n_more = len(counts) - _KINDS_SHOWN
        more = [f"and {n_more} more reason{'s' * (n_more > 1)}"] * (n_more > 0)
        lines.append(f"Unranked: {'; '.join([*kinds, *more])}.")
    if starred and n_shown:
        lines.append("* among the best three of all runs.")
    return [*lines, *notes, *([verdict] if verdict else [])]
