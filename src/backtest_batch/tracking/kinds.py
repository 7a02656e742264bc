"""What is asked of a store, however it is reached: by SQL, or through MLflow's client."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backtest_batch.tracking.entries import EquityCurve, RunEntry
from backtest_batch.tracking.run_table import RunColumns


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs are read, and what of them.

    Attributes
    ----------
    batches
        Their batch_ids; None for all.
    tags
        Tags that every run has with exactly these values.
    statuses
        MLflow's statuses; None for all.
    parts
        Which of metrics, params and tags are read.
    """

    batches: tuple[str, ...] | None
    tags: Mapping[str, str]
    statuses: tuple[str, ...] | None
    parts: tuple[str, ...]

    def admits(self, status: str, tags: Mapping[str, str]) -> bool:
        """Return whether a run with this status and these tags is among those meant."""
        return (
            (self.statuses is None or status in self.statuses)
            and (self.batches is None or tags.get("batch_id") in self.batches)
            and all(tags.get(key) == value for key, value in self.tags.items())
        )


class RunStore(Protocol):
    """The runs of one store: what the recorder writes, and resume and search read.

    Runs are given by MLflow run id; what is written are the texts and numbers of :mod:`.entries`.
    """

    def write(
        self, entries: Sequence[RunEntry], existing: Sequence[str | None]
    ) -> Iterator[tuple[int, str]]:
        """Write ``entries``, yielding the position and the MLflow run id of each when it is done.

        Parameters
        ----------
        entries
            What to write.
        existing
            For each entry the id of a run that was begun but not completed, or None.

        Raises
        ------
        StoreError
            When the store fails; what was not yielded is not there, or is not complete.
        """
        ...

    def write_curves(self, curves: Mapping[str, EquityCurve]) -> None:
        """Write curves of runs that are recorded as the stepped metrics equity and drawdown."""
        ...

    def write_metrics(self, metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int) -> None:
        """Add metrics at one time to runs that are recorded."""
        ...

    def read(self, query: RunQuery, filter_string: str) -> RunColumns:
        """Return the runs of the experiment that are meant and are not in the trash.

        Raises
        ------
        MlflowException
            When ``filter_string``, a condition in MLflow's language, is not understood.
        """
        ...

    def states(self, batch_id: str) -> list[tuple[str, str, str]]:
        """Return run key, status and MLflow run id of a batch's runs, in the order of their start.

        Raises
        ------
        StoreError
            When a server does not know the batch, which has its parent run there.
        """
        ...

    def artifact_uris(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        """Return where the artifacts of runs are, as far as one question tells it of them all."""
        ...
