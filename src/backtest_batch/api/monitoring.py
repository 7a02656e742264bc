"""What became of a winner: the frozen run on newer data, against what its backtest promised."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backtest_batch.analysis.monitoring import Answer, Followup, follow_winner
from backtest_batch.api.batches import Task, run_batch
from backtest_batch.api.sweeps import Sweep, compared_keys, data_keys, plain_keys
from backtest_batch.batch.monitoring import (
    frozen_arguments,
    hints,
    parted,
    planned,
    recorded,
    replay,
)
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.rerun import Winner, read_winner
from backtest_batch.batch.session import MakeExecutor
from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.messages import explain
from backtest_batch.config.arguments import Arguments
from backtest_batch.config.key import date_text
from backtest_batch.core.data.panel import Panel
from backtest_batch.errors import ConfigurationError
from backtest_batch.interrupt import interruptible
from backtest_batch.records import BatchRequest
from backtest_batch.report.best_params import json_text
from backtest_batch.report.html.monitor import monitor_page, monitor_picture
from backtest_batch.store.batch_document import require_trust
from backtest_batch.streams import forgiving_output
from backtest_batch.workers.settings import make_executor

StoredReturns = Callable[[Winner], Iterable[pd.Series]]
"""Yields the returns of a winner that a store holds, when they are asked for."""


class Monitored(dict[str, Any]):
    """What became of a winner: monitor.json as a dict, and what people look at.

    In a notebook it shows the answer and the picture. Two are equal when their figures are.

    Parameters
    ----------
    document
        monitor.json.
    followup
        The comparison.
    title
        What it is called.
    """

    def __init__(self, document: Mapping[str, Any], followup: Followup, title: str) -> None:
        super().__init__(document)
        self._followup = followup
        self.title = title

    @property
    def answer(self) -> Answer:
        """``holds``, ``broken`` or ``too_early``."""
        return self._followup.answer

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return str(self["sentence"])

    @property
    def reasons(self) -> list[str]:
        """The figures beside what was promised, one line each."""
        return list(self["reasons"])

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the data, the code and the record."""
        return list(self["notes"])

    @property
    def curve(self) -> pd.DataFrame:
        """One row a (daily) return since then.

        Columns timestamp, net_return, benchmark, growth, promised_low, promised_high (of the
        growth), evalue_holds and evalue_broken (the largest so far).
        """
        return self._followup.curve

    @property
    def svg(self) -> str:
        """The picture: the growth within the promised band, and the evidence."""
        return monitor_picture(self, self.curve)

    def html(self) -> str:
        """Return monitor.html."""
        return monitor_page(self.title, self, self.svg)

    def save(self, folder: str | Path) -> Path:
        """Write monitor.json, monitor.html and monitor.parquet into a folder, which is made.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / "monitor.json").write_text(json_text(self), encoding="utf-8")
        (target / "monitor.html").write_text(self.html(), encoding="utf-8")
        self.curve.to_parquet(target / "monitor.parquet", compression="zstd", index=False)
        return target

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f"<div>{self.svg}</div>"


class Frozen:
    """A winner that is ready to be computed on newer data.

    Parameters
    ----------
    best
        A best_params.json.
    given
        What is newer: keys of the data, of the benchmark, ``end_date``, and of tracking.
    trust
        Whether a command is run that was recorded elsewhere.

    Attributes
    ----------
    winner
        The run.
    config
        Its configuration.

    Raises
    ------
    BacktestBatchError
        When there is no winner, it is not trusted, or does not fit the data.
    """

    def __init__(self, best: str | Path, given: Arguments, *, trust: bool = False) -> None:
        self.winner = read_winner(best)
        if not (trust or self.winner.is_own):
            require_trust(f"best={best}", self.winner.arguments, (), given.texts)
        asked = frozen_arguments(self.winner, read_arguments(self.winner.arguments), given)
        swept = [item.key for item in asked.keys if item.is_sweep]
        if swept:
            raise ConfigurationError(
                f"{', '.join(swept)}: one winner is followed on one set of data; give one value"
            )
        self._make: MakeExecutor = make_executor
        self.config: Mapping[str, Any] = {}
        try:
            self._plan_of_one: Plan = run_batch(asked, Task(io.StringIO(), self._plan))
        except ConfigurationError as error:
            said = hints(error)
            if not said:
                raise
            text = "\n".join([str(error), *said])
            raise ConfigurationError(text, error.faults) from error

    def _plan(
        self,
        request: BatchRequest,
        *,
        output: Any,  # noqa: ARG002 - nothing is written
        make_executor: MakeExecutor = make_executor,
    ) -> Plan:
        self._make = make_executor
        self.config = request.config
        return planned(request)

    def follow(
        self, *, since: str | None, title: str | None, stored: StoredReturns = lambda _: ()
    ) -> Monitored:
        """Compute the winner, and compare it with what its backtest promised.

        Parameters
        ----------
        since
            The last bar of the batch, where it is not recorded.
        title
            What it is called; by default the name of the run.
        stored
            Yields returns that a store holds.
        """
        with interruptible():
            found = replay(self._plan_of_one, self.winner, self._make)
        record = recorded(self.winner, found, stored(self.winner), since)
        parts = parted(self.winner, found, record)
        followup = follow_winner(parts.followed)
        document = {
            **followup.document,
            "run_id": self.winner.run_id,
            "batch_id": self.winner.batch_id,
            "run_key": self.winner.entry.get("run_key"),
            "best": str(self.winner.path),
            "data_fingerprint": found.panel.fingerprint,
            "promise_from": record.place or None,
            "n_restated_returns": parts.differing,
            "notes": list(parts.notes),
        }
        return Monitored(document, followup, title or self.winner.run_id)


def holds_or_broken(
    best: "str | Path | Sweep",
    data: pd.DataFrame | Panel | str | None = None,
    *,
    since: str | None = None,
    trust: bool = False,
    **config: Any,
) -> Monitored:
    """Say whether a winner holds what its backtest promised, on bars after those of its batch.

    Nothing is recorded; ``save(folder)`` writes the files of the command.

    Parameters
    ----------
    best
        A best_params.json, or the sweep itself.
    data
        Newer data, with the bars of the batch before them: closes of shape (n_bars, n_assets), a
        panel, or the name of a source, whose options are keys such as ``**{"data.path": ...}``; by
        default what the batch read, as it is now.
    since
        The last bar of the batch, where neither its returns nor its data are kept.
    trust
        Whether a best_params.json is used that somebody else recorded.
    **config
        Further keys of the command: ``data.path`` and others below ``data``, ``benchmark``,
        ``benchmark_values``, ``end_date``, ``tracking.uri``.

    Returns
    -------
    Monitored
        monitor.json as a dict (see docs/monitoring.md), with ``answer`` (``holds``, ``broken`` or
        ``too_early``), ``sentence``, ``curve``, a picture ``svg``, and ``save(folder)``.

    Raises
    ------
    BacktestBatchError
        When there is no winner, it cannot be computed on these data, or they hold no new bars.

    Examples
    --------
    >>> found = holds_or_broken("best_params.json", newer_closes)
    >>> found.answer, found["evalue"]
    """
    path = best.output_dir / "best_params.json" if isinstance(best, Sweep) else Path(best)
    if since is not None and date_text(since) is None:
        raise ConfigurationError(f"since={since}: must be a date such as 2023-12-29")
    given = {**data_keys(data), **config, **compared_keys(config)}
    asked = Arguments(keys=tuple(plain_keys(given.items())))
    with forgiving_output():
        try:
            return Frozen(path, asked, trust=trust).follow(
                since=None if since is None else date_text(since), title=None
            )
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise ConfigurationError(explain(error)) from error
