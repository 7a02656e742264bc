"""A batch in the terminal: its progress, its leaderboard, and the lines below it.

Progress is a live bar on a terminal, elsewhere an occasional line.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backtest_batch.analysis.ranking import Ranking, podium, unranked_counts
from backtest_batch.analysis.run_table import Label, RunTable
from backtest_batch.report.tables import one_line, parameter_labels, parameter_text, short_numbers

MAIN_METRICS = (
    "sharpe",
    "cagr",
    "volatility",
    "max_drawdown",
    "calmar",
    "turnover_annual",
    "trades",
)
"""Metrics that a leaderboard always shows, where the runs have them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a leaderboard.

    Attributes
    ----------
    title
        Its heading.
    cells
        Text of each row.
    podium
        1, 2 or 3 where the row is among the best three of all runs, else 0; empty for a column
        other than a metric.
    number
        Whether it is right-aligned.
    """

    title: str
    cells: tuple[str, ...]
    podium: tuple[int, ...] = ()
    number: bool = False


def leaderboard_metrics(table: RunTable, ranking: Ranking) -> list[str]:
    """Return the metrics that a leaderboard shows: the main ones and those ranked by.

    Parameters
    ----------
    table
        The runs; a metric that none of them has is left out.
    ranking
        How they are ranked.
    """
    wanted = dict.fromkeys((*MAIN_METRICS, *ranking.metrics))
    present = table.metrics.notna().any()
    return [name for name in wanted if name in present.index and present[name]]


def leaderboard_columns(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    rows: Sequence[Label] | pd.Index,
    *,
    status: bool = False,
    extra: pd.DataFrame | None = None,
) -> list[Column]:
    """Return the columns of a leaderboard.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    rows
        Index labels of the runs to show, in order.
    status
        Whether to show how each run ended.
    extra
        Further columns of text, indexed like the table.
    """
    rows = pd.Index(rows)
    runs = table.runs.reindex(rows)
    ranks = ranked.reindex(rows)
    columns = [_column("rank", [_rank(rank) for rank in ranks["rank"]], number=True)]
    # If each scenario has one run, all of them are first.
    if (ranked["rank_in_scenario"] > 1).any() and table.scenario.nunique() > 1:
        within = [_rank(rank) for rank in ranks["rank_in_scenario"]]
        columns.append(_column("in scenario", within, number=True))
    columns.append(_column("run_id", runs["run_id"].astype(str)))
    if table.several_batches:
        columns.append(_column("batch_id", runs["batch_id"].astype(str)))
    if status:
        columns.append(_column("status", runs["status"].astype(str)))
    labels = parameter_labels(table.params.columns)
    for name in table.params.columns:
        cells = parameter_text(table, name).reindex(rows)
        columns.append(_column(labels[name], cells, number=table.levels[name].numeric))
    if ranking.weighted:
        scores = ["" if pd.isna(score) else f"{score:.4f}" for score in ranks["score"]]
        columns.append(_column("score", scores, number=True))
    columns += _metric_columns(table, leaderboard_metrics(table, ranking), rows)
    if extra is not None:
        columns += [
            _column(str(name), extra[name].reindex(rows).fillna("").astype(str))
            for name in extra.columns
        ]
    return columns


def _metric_columns(table: RunTable, metrics: list[str], rows: pd.Index) -> list[Column]:
    best = podium(table, metrics).reindex(rows)
    return [
        Column(
            title=name,
            cells=tuple(short_numbers(name, table.metrics[name].reindex(rows).tolist())),
            podium=tuple(best[name].tolist()),
            number=True,
        )
        for name in metrics
    ]


def _column(title: str, cells: Sequence[str] | pd.Series, *, number: bool = False) -> Column:
    return Column(title=title, cells=tuple(cells), number=number)


def _rank(rank: object) -> str:
    return "" if rank is pd.NA else str(rank)


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
    """Print the best runs, and sentences about all of them.

    The best three of all runs in each metric are coloured on a terminal and marked with ``*``
    elsewhere. On a terminal long names are folded; elsewhere every line is as long as it needs to
    be, nothing is cut, and there are no escape sequences. ``NO_COLOR`` removes them on a terminal,
    too.

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
        Lines to print above, such as the differences between the compared batches.
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
    marked = any(rank for column in fitting for rank in column.podium)
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
        """Leave it to the command, which handles it; rich would exit with 1."""
        raise BrokenPipeError


def _width(console: Console, board: Table) -> int:
    unlimited = console.options.update(max_width=sys.maxsize)
    return Measurement.get(console, unlimited, board).maximum


def _fitting(
    console: Console, columns: list[Column], ranking: Ranking, *, colours: bool
) -> list[Column]:
    """Return the columns that fit the width: metrics not ranked by are dropped from the end."""
    fitting = list(columns)
    spare = [item for item in columns if item.podium and item.title not in ranking.metrics]
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
    rank = column.podium[row] if column.podium else 0
    if colours:
        return Text(text, style=_STYLES.get(rank, ""))
    # A blank instead of the star keeps the digits of a column aligned.
    return Text(text + ("*" if rank else " " if column.podium else ""))


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


_NAMED = 3
"""Most batches named beside a value; of more, only the number is given."""

_LISTED = 10
"""Most batches that get a line each."""


def batch_lines(table: RunTable, differences: pd.DataFrame) -> list[str]:
    """Return the first lines of a comparison of several batches.

    Parameters
    ----------
    table
        The runs.
    differences
        What :func:`.batch_differences` returned for them.

    Returns
    -------
    list of str
        One line per batch (of more than ten only the number), then one line per fact in which they
        differ: each value with the batches that have it. Empty for one batch.
    """
    if not table.several_batches:
        return []
    counts = table.runs["batch_id"].value_counts(sort=False)
    names = _names(table)
    lines = [f"{len(table):,} runs of {len(counts):,} batches are compared."]
    if len(counts) <= _LISTED:
        lines += [
            f"batch {batch}{f' ({names[batch]})' if names.get(batch) else ''}: "
            f"{count:,} run{'s' * (count != 1)}"
            for batch, count in counts.items()
        ]
    if differences.empty:
        return [*lines, "They do not differ in data, code or configuration."]
    lines.append("They differ in the following. Results that depend on it are not comparable.")
    # A name is easier to read than an id, if the batches have different names.
    apart = len(set(names.values()) - {""}) == len(counts)
    shown = names if apart else {batch: str(batch) for batch in counts.index}
    return lines + [_fact(row, shown) for row in differences.to_dict("records")]


def _names(table: RunTable) -> dict[Any, str]:
    """Return the name of each batch; empty when they are not known."""
    if "batch_name" not in table.runs:
        return {}
    first = table.runs.drop_duplicates("batch_id").set_index("batch_id")["batch_name"]
    return {batch: name if isinstance(name, str) else "" for batch, name in first.items()}


def _fact(row: dict[Any, Any], names: Mapping[Any, str]) -> str:
    holders: dict[str, list[str]] = {}
    for batch, value in row.items():
        if batch != "fact" and not pd.isna(value):
            holders.setdefault(str(value), []).append(names[batch])
    parts = [
        f"{value} in {', '.join(batches) if len(batches) <= _NAMED else f'{len(batches)} batches'}"
        for value, batches in holders.items()
    ]
    more = len(parts) - _LISTED
    shown = parts if more <= 0 else [*parts[:_LISTED], f"and {more:,} more values"]
    return f"{row['fact']}: {'; '.join(shown)}"


LINE_SECONDS = 10.0
"""Pause between two lines where there is no terminal."""


@dataclass
class Counts:
    """Numbers of runs: done, failed, running, and in total."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    best: tuple[str, float] | None = None

    @property
    def ended(self) -> int:
        """Runs that have ended, successfully or not."""
        return self.done + self.failed

    def describe(self) -> str:
        """Return the counts in words."""
        words = [f"{self.done} done"]
        if self.failed:
            words.append(f"{self.failed} failed")
        if self.running:
            words.append(f"{self.running} running")
        if self.best is not None:
            words.append(f"best {self.best[0]} {self.best[1]:.4g}")
        return ", ".join(words)


@dataclass
class ProgressDisplay:
    """Shows counts on standard error, so that standard output can be piped.

    Parameters
    ----------
    total
        Number of all of them.
    stream
        Where to show them; a terminal gets a live bar, a notebook one line that is rewritten.
    what
        What is counted.
    """

    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    what: str = "backtests"
    counts: Counts = field(init=False)
    _bar: Progress | None = field(default=None, init=False)
    _task: TaskID | None = field(default=None, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)
    _last_line: float = field(default_factory=time.monotonic, init=False)
    _width: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(total=self.total)

    def __enter__(self) -> "ProgressDisplay":
        if self.stream.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[words]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
                transient=True,
            )
            self._task = self._bar.add_task(self.what, total=self.total, words="", rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.stop()
            elif self._in_notebook and self._width:
                self.stream.write("\n")

    def show(self) -> None:
        """Show the present counts; does nothing if the stream is gone."""
        with contextlib.suppress(OSError, ValueError):
            self._show()

    def _show(self) -> None:
        elapsed = time.monotonic() - self._started
        rate = self.counts.ended / elapsed if elapsed > 0 else 0.0
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=self.counts.ended,
                words=self.counts.describe(),
                rate=_rate_text(rate),
            )
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            left = self.total - self.counts.ended
            words = [self.counts.describe()]
            if rate > 0:
                words.append(_rate_text(rate))
                if left:
                    words.append(f"about {duration(math.ceil(left / rate))} left")
            of = "" if self.what == "backtests" else f" {self.what}"
            self._write(f"{self.counts.ended}/{self.total}{of}: {', '.join(words)}")

    @property
    def _in_notebook(self) -> bool:
        return type(self.stream).__module__.startswith("ipykernel")

    def _write(self, line: str) -> None:
        if self._in_notebook:  # what the last line had more is wiped out
            self.stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """Return a time in words: seconds up to two minutes, then larger units."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} days {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _rate_text(per_second: float) -> str:
    """Return a rate per second, minute or hour: the first unit in which it is at least one."""
    if per_second == 0:
        return ""
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"
