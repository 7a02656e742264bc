"""What is recorded of a run besides its row: files, equity curves for the UI, splits.

Between here and the server there may be a proxy, a login page or a cache, which answers everything
with 200, or with somebody else's run. So what was sent to a server is read back before its run
ends; if the answer differs, it counts as not recorded.
"""

import contextlib
import json
import math
import posixpath
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np

from backtest_batch.errors import StoreError
from backtest_batch.store.address import is_http, without_secrets
from backtest_batch.store.mlflow_run import (
    RUN_NAME_LENGTH,
    BatchInfo,
    EquityCurve,
    RunEntry,
    common_tags,
    metrics_of,
    now_ms,
    storable_text,
    tags_of,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from backtest_batch.store.store import Store


def unbelievable(shown: str, what: str) -> StoreError:
    """Return the error about a server whose answer does not match the request."""
    return StoreError(
        f"The tracking server {without_secrets(shown)} answers, but {what}. Check that "
        "tracking.uri is its address, and what is in between: a proxy, a login page or a cache."
    )


def require_recorded(
    store: "Store",
    run_id: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Check that a server has all that was sent of a run; a database need not be asked.

    Raises
    ------
    StoreError
        When it has not.
    """
    if not store.is_http:
        return
    run = store.client.get_run(run_id)
    if run.info.run_id != run_id:
        raise unbelievable(store.shown, f"not about the run {run_id} that it was asked for")
    compared: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("parameter", params or {}, run.data.params),
        ("metric", metrics or {}, run.data.metrics),
        ("tag", tags or {}, run.data.tags),
    ]
    for kind, sent, found in compared:
        for key, value in sent.items():
            if not _is_same(value, found.get(key)):
                raise unbelievable(
                    store.shown, f"does not have the {kind} {key} that was sent for {run_id}"
                )


def end_run(store: "Store", run_id: str, status: str, ended_ms: int) -> None:
    """End a run, and check that a server says so.

    Raises
    ------
    StoreError
        When it says something else.
    """
    if not store.is_http:
        store.client.set_terminated(run_id, status, ended_ms)
        return
    info = store.update_run(run_id, status, ended_ms)
    if (info.run_id, info.status) != (run_id, status):
        raise unbelievable(store.shown, f"does not say that the run {run_id} is {status} now")


def _is_same(sent: Any, found: Any) -> bool:
    if isinstance(sent, float) and isinstance(found, float):
        return math.isclose(sent, found, rel_tol=1e-12)
    return bool(sent == found)


_SERVED = ("mlflow-artifacts:", "http:", "https:")
"""Addresses of files that a tracking server keeps; other file stores check what they get."""


def local_folder(artifact_uri: str) -> Path | None:
    """Return the folder of a local artifact address, or None for any other address."""
    parsed = urlparse(artifact_uri)
    if parsed.scheme == "file" and parsed.netloc in ("", "localhost"):
        return Path(url2pathname(parsed.path))
    if not parsed.scheme:
        return Path(artifact_uri)
    return None


class MovedFiles:
    """Files that were moved from one folder into another, and can be moved back.

    Moving takes no time on the same disk, where copying a batch's files would take as long as
    computing it.
    """

    def __init__(self) -> None:
        self._moved: list[tuple[Path, Path]] = []
        self._written: list[Path] = []
        self._made: list[Path] = []

    def move(self, source: Path, target: Path) -> None:
        """Move the content of ``source`` into ``target``; existing files are replaced.

        Links are removed: their targets are not files of a run.
        """
        self._make(target)
        for item in sorted(source.iterdir()):
            path = target / item.name
            if item.is_symlink():
                item.unlink()
            elif item.is_dir():
                self.move(item, path)
            else:
                _move_file(item, path)
                self._moved.append((item, path))

    def write(self, texts: Mapping[str, str], target: Path) -> None:
        """Write ``texts`` as files below ``target``."""
        self._make(target)
        for name, text in texts.items():
            self._written.append(target / name)
            (target / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    def undo(self) -> None:
        """Move the files back, and remove folders that were made for them and are empty again."""
        for item, path in reversed(self._moved):
            if path.exists():
                item.parent.mkdir(parents=True, exist_ok=True)
                _move_file(path, item)
        for text in self._written:
            text.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # others have added files meanwhile
                folder.rmdir()
        self._moved, self._written, self._made = [], [], []

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            self._made.append(folder)


def _move_file(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError:  # another disk
        try:
            shutil.copyfile(source, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        source.unlink()


def upload(
    client: "MlflowClient",
    run_id: str,
    *,
    folder: Path | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Copy files to the artifact store of a run through MLflow's client."""
    for source in _folders(folder, texts or {}):
        client.log_artifacts(run_id, str(source))
        if is_http(client.tracking_uri):
            uri = str(client.get_run(run_id).info.artifact_uri)
            _require_arrived(uri, client.tracking_uri, source)


def send(
    artifact_uri: str, tracking_uri: str, folder: Path | None, texts: Mapping[str, str]
) -> None:
    """Copy files to a known artifact address, which is or will be that of a run.

    MLflow's client would ask for the whole run first, to learn the address.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
    for source in _folders(folder, texts):
        repository.log_artifacts(str(source))  # type: ignore[no-untyped-call]
        _require_arrived(artifact_uri, tracking_uri, source)


def _require_arrived(artifact_uri: str, tracking_uri: str, folder: Path) -> None:
    """Check that a server has the files of a folder that were sent to it.

    Raises
    ------
    StoreError
        When it does not have them: it, or something in front of it, gave another answer.
    """
    if artifact_uri.startswith(_SERVED):
        sizes = {name: (folder / name).stat().st_size for name in names_below(folder)}
        absent = missing(artifact_uri, tracking_uri, sizes, sizes)
        if absent:
            raise unbelievable(
                tracking_uri, f"does not have the file {absent[0]} that was sent to {artifact_uri}"
            )


def names_below(folder: Path) -> list[str]:
    """Return the names of all files below a folder, relative to it; none if it does not exist."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def missing(
    artifact_uri: str,
    tracking_uri: str,
    names: Iterable[str],
    sizes: Mapping[str, int] | None = None,
) -> list[str]:
    """Return which of the files are missing at an artifact address, or have another size.

    Raises
    ------
    StoreError
        When a server answers something else than it was asked.
    """
    local, sizes = local_folder(artifact_uri), sizes or {}
    if local is not None:
        return [name for name in names if not (local / name).is_file()]
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
    names = list(names)
    sizes_there: dict[str, int | None] = {}
    try:
        for folder in {posixpath.dirname(name) for name in names}:
            found = repository.list_artifacts(folder or None)
            sizes_there |= {str(info.path): info.file_size for info in found if not info.is_dir}
    except (AttributeError, KeyError, TypeError) as error:
        raise unbelievable(tracking_uri, "not with a list of files") from error
    return [
        name
        for name in names
        if name not in sizes_there
        or (name in sizes and sizes_there[name] not in (None, sizes[name]))
    ]


def _folders(folder: Path | None, texts: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders whose files are to be copied: the given one, and one with the texts."""
    if folder is not None and any(folder.iterdir()):
        yield folder
    if texts:
        with tempfile.TemporaryDirectory() as temporary:
            MovedFiles().write(texts, Path(temporary))
            yield Path(temporary)


MAX_POINTS = 200
"""Most points of a curve: more would not be visible, and each costs a row."""


def thinned_curve(curve: EquityCurve) -> EquityCurve:
    """Return at most 200 evenly spaced bars of ``curve``, including the first and the last."""
    n_bars = len(curve.steps)
    if n_bars <= MAX_POINTS:
        return curve
    chosen = np.linspace(0, n_bars - 1, MAX_POINTS).round().astype(np.int64)
    times = curve.timestamps_ms
    return EquityCurve(
        steps=curve.steps[chosen],
        equity=curve.equity[chosen],
        drawdown=curve.drawdown[chosen],
        timestamps_ms=None if times is None else times[chosen],
    )


def points(curve: EquityCurve) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds and step of each point of both metrics.

    Values that are not finite are left out. Bars without a time, or before 1970, which MLflow
    refuses, have the present time.
    """
    short, now = thinned_curve(curve), now_ms()
    times = [now] * len(short.steps)
    if short.timestamps_ms is not None:
        times = [int(time) if time >= 0 else now for time in short.timestamps_ms]
    for name, values in (("equity", short.equity), ("drawdown", short.drawdown)):
        for step, value, time in zip(short.steps, values, times, strict=True):
            if np.isfinite(value):
                yield name, float(value), time, int(step)


@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """One run on one split of a walk-forward.

    Attributes
    ----------
    run_key, run_id, mlflow_run_id
        The run that was split; the split's MLflow run is its child.
    split
        Number of the split, from 0.
    windows
        First and last bar of training and test: train_start, train_end, test_start, test_end.
    chosen
        Whether the run was chosen in this split.
    metrics
        In-sample metrics ``is_*`` and out-of-sample ones ``oos_*``.
    """

    run_key: str
    run_id: str
    mlflow_run_id: str
    split: int
    windows: Mapping[str, str]
    chosen: bool
    metrics: Mapping[str, float]


def split_entry(run: SplitRun, batch: BatchInfo, ended_ms: int) -> RunEntry:
    """Return the entry of one split."""
    name = storable_text(f"{run.run_id} split {run.split}", RUN_NAME_LENGTH)
    tags = {
        **common_tags(batch, name),
        "mlflow.parentRunId": run.mlflow_run_id,
        "batch_role": "split",
        "run_id": run.run_id,
        "run_key": run.run_key,
        "split": str(run.split),
        "chosen": json.dumps(run.chosen),
    }
    return RunEntry(
        name=name,
        status="FINISHED",
        started_ms=batch.started_ms,
        ended_ms=ended_ms,
        params=dict(run.windows),
        metrics=metrics_of(run.metrics),
        tags=tags_of(tags),
    )
