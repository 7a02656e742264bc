"""The folders of a batch."""

import contextlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from backtest_batch.batch.chunks import RETURNS, Scratch
from backtest_batch.errors import ConfigurationError
from backtest_batch.market.panel import FloatArray
from backtest_batch.records import RunSpec

BATCH_CONFIG = "batch_config.yaml"
"""How a batch was asked for; enough to compose it again."""


def new_batch_id() -> str:
    """Return a batch_id: the UTC time and six random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a batch puts its files.

    Attributes
    ----------
    output_dir
        What stays: reports and logs.
    scratch
        What workers leave for the parent; removed when the batch is complete.
    made
        Folders that were not there before, the deepest first.
    """

    output_dir: Path
    scratch: Scratch
    made: tuple[Path, ...] = ()

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.output_dir / "logs"

    @property
    def start_files(self) -> Path:
        """Folder of the files that are recorded when the batch begins."""
        return self.scratch.folder / "start"

    @property
    def reports(self) -> Path:
        """Folder in which the reports are made, before they are recorded and moved."""
        return self.scratch.folder / "reports"

    def array(self, name: str, n_rows: int) -> FloatArray:
        """Map an array of bars read-only, shape (n_rows, row_bars)."""
        shape = (n_rows, self.scratch.row_bars)
        size = n_rows * self.scratch.row_bars * 8
        path = self.scratch.array(name)
        with path.open("ab") as file:
            if file.tell() < size:  # the last rows were never written
                file.truncate(size)
        return np.memmap(path, dtype=np.float64, mode="r", shape=shape)

    def returns(self, n_rows: int) -> FloatArray:
        """Map the net returns read-only, shape (n_rows, row_bars)."""
        return self.array(RETURNS, n_rows)

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.scratch.folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove everything; folders that others use stay."""
        self.close()
        shutil.rmtree(self.logs, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # someone has put something there meanwhile
                folder.rmdir()


def open_workspace(
    batch_id: str,
    output_dir: str | None,
    runs: Sequence[RunSpec],
    benchmark_rows: Mapping[str, int],
) -> Workspace:
    """Make the folders of a batch.

    Raises
    ------
    ConfigurationError
        When they cannot be made.
    """
    folder = (Path(output_dir) if output_dir else Path("mlruns", "batches", batch_id)).absolute()
    made = tuple(place for place in (folder, *folder.parents) if not place.exists())
    scratch = Scratch(
        folder=folder / f".scratch-{batch_id}",
        row_bars=max(run.n_bars for run in runs),
        benchmark_rows=benchmark_rows,
    )
    try:
        for name in ("runs", "start", "reports"):
            (scratch.folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"output_dir={folder}: cannot be written ({error.strerror or error}); nothing was run. "
            "Choose another folder with output_dir=..."
        ) from error
    return Workspace(output_dir=folder, scratch=scratch, made=made)
