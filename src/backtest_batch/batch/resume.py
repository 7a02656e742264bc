"""Continue a batch: find it, restore its command, and record what could not be recorded."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from backtest_batch.batch.earlier import claim_batch, refuse_running
from backtest_batch.batch.provenance import local_document, local_documents
from backtest_batch.batch.rerun import RecordedCommand
from backtest_batch.config.arguments import Argument, Arguments
from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.errors import ConfigurationError, SelectionError, StoreError
from backtest_batch.ownership import (
    is_free_or_own,
    is_own_folder,
    make_own_folder,
    temporary_folder_name,
)
from backtest_batch.store.address import (
    DEFAULT_DATABASE,
    is_sqlite,
    resolve_experiment,
    resolve_uri,
    sqlite_path,
)
from backtest_batch.store.batch_document import KEY as TRUST
from backtest_batch.store.batch_document import BatchDocument, stored_document, targets
from backtest_batch.store.claim import release
from backtest_batch.store.folders import (
    BATCH_CONFIG,
    default_output_dir,
    is_batch_id,
    scratch_folder,
)
from backtest_batch.store.search import BatchHandle, find_batch
from backtest_batch.store.spool import record_spool, spool_store
from backtest_batch.store.sqlite_file import locked
from backtest_batch.store.store import StoreNotFoundError, open_store
from backtest_batch.streams import say, tell

_FLAGS = ("-m", "--multirun")
_SPOOLS = "backtest_batch-spool"
_OF_ONE_COMMAND = frozenset({"resume", TRUST})
"""Keys that only count for the command that gives them."""


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """A batch that is to be continued.

    Attributes
    ----------
    batch_id
        Its unique name.
    arguments
        The arguments of its command.
    config
        Its configuration, every root key; swept keys have their first value.
    output_dir
        Its folder.
    is_local
        Whether it was found in the working directory, rather than in the store alone.
    process
        The tags host, pid and process_started of the process that worked on it last, as far as
        the working directory knows.
    is_own
        Whether this user requested it.
    targets
        Classes and functions that its configuration names.
    """

    batch_id: str
    arguments: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    output_dir: Path
    is_local: bool = True
    process: Mapping[str, str] = field(default_factory=dict)
    is_own: bool = True
    targets: tuple[str, ...] = ()


def recall(batch: str, *, uri: str | None, experiment: str) -> Recalled:
    """Find the batch that ``resume`` names.

    Parameters
    ----------
    batch
        ``latest``, a batch_id or a batch_name.
    uri, experiment
        The store to look in, as configured.

    Raises
    ------
    SelectionError
        When there is no such batch, or nothing to resume at all.
    """
    document = local_document(batch) if batch != "latest" else None
    if document is not None:
        return _recalled(document)
    try:
        store = open_store(resolve_uri(uri, Path.cwd()), experiment, create=False)
        handle: BatchHandle | None = find_batch(store, batch)
    except (StoreError, SelectionError) as error:
        handle, why = None, error
    if batch == "latest":
        begun = _begun_only(uri, experiment)
        if begun is not None and (handle is None or begun.batch_id > handle.batch_id):
            return _recalled(begun)
    if handle is None:
        raise SelectionError(f"resume={batch}: nothing to resume. {why}") from why
    if not is_batch_id(handle.batch_id):
        raise SelectionError(
            f"resume={batch}: the store {store.shown} has a batch whose batch_id is "
            f"{handle.batch_id!r}. It was not made by this package, and cannot be continued"
        )
    document = local_document(handle.batch_id)
    if document is not None:
        return _recalled(document)
    document = stored_document(store, handle)
    if document is None:
        raise SelectionError(
            f"resume={batch}: the command of the batch {handle.batch_id} was not recorded, or its "
            f"{BATCH_CONFIG} is damaged"
        )
    return replace(_recalled(document), is_local=False)


@contextlib.contextmanager
def claimed(recalled: Recalled, *, uri: str | None, experiment: str) -> Iterator[None]:
    """Keep all others from continuing the same batch during the block.

    The store says who works on a batch. A batch that it does not know lies on this machine only,
    where a lock beside it guards it.

    Parameters
    ----------
    recalled
        The batch.
    uri, experiment
        The store of the batch, as its command names it.

    Raises
    ------
    ConfigurationError
        When another process works on the batch, or may do so.
    StoreError
        When the store cannot be read.
    """
    batch_id = recalled.batch_id
    with contextlib.ExitStack() as locks:
        _lock_here(locks, recalled)
        locks.callback(release, batch_id)
        try:
            store = open_store(resolve_uri(uri, Path.cwd()), experiment, create=False)
            handle = find_batch(store, batch_id)
        except (SelectionError, StoreNotFoundError):
            refuse_running(batch_id, recalled.process)
        else:
            claim_batch(store, handle)
        yield


def _lock_here(locks: contextlib.ExitStack, recalled: Recalled) -> None:
    """Hold a lock beside the files of the batch; where none can be made, nothing is locked."""
    own = own_cache_dir()
    if own is None and not recalled.is_local:
        return
    beside = recalled.output_dir if recalled.is_local or own is None else own / "locks"
    try:
        if not recalled.is_local:
            make_own_folder(beside)
        lock_file = beside / f".lock-{recalled.batch_id}"
        locks.enter_context(locked(lock_file, timeout_seconds=0.0))
    except StoreError as error:
        raise ConfigurationError(
            f"resume={recalled.batch_id}: another process is going on with this batch already"
        ) from error
    except OSError:
        pass


def _begun_only(uri: str | None, experiment: str) -> BatchDocument | None:
    """Return the newest unfinished batch of this folder, even one that the store does not know.

    A complete batch has no scratch folder any more. One that runs a winner again is never the
    latest.
    """
    for document in local_documents():
        if document.config.get("best"):
            continue
        tracking = document.config.get("tracking", {})
        if (
            scratch_folder(document.output_dir, document.batch_id).is_dir()
            and resolve_experiment(tracking.get("experiment")) == experiment
            and _address(tracking.get("uri")) == resolve_uri(uri, Path.cwd())
        ):
            return document
    return None


def _address(recorded: object) -> str | None:
    try:
        return resolve_uri(None if recorded is None else str(recorded), Path.cwd())
    except StoreError:
        return None


def _recalled(document: BatchDocument) -> Recalled:
    return Recalled(
        batch_id=document.batch_id,
        arguments=document.arguments,
        config=document.config,
        output_dir=document.output_dir,
        is_own=document.is_own,
        targets=tuple(targets(document)),
        process=document.process,
    )


def continued(recalled: Recalled, recorded: Arguments, given: Arguments) -> Arguments:
    """Return the recorded command, updated with the new arguments.

    How a batch is computed may change between attempts; what it computes may not.

    Parameters
    ----------
    recalled
        The batch.
    recorded
        Its command.
    given
        The new arguments.

    Raises
    ------
    ConfigurationError
        When a key that determines results differs; the message names all of them.
    """
    named = f"resume={recalled.batch_id}"
    command = RecordedCommand(named=named, arguments=recorded, config=recalled.config)
    changes = command.changes(given)
    if changes:
        raise ConfigurationError(
            f"{named}: what the batch computes cannot change, but these differ: "
            f"{', '.join(changes)}. Leave them out to go on, or start a new batch."
        )
    remaining = command.remaining(given, without=_OF_ONE_COMMAND)
    keys = list(remaining.keys)
    experiment = recalled.config.get("tracking", {}).get("experiment")
    known = {item.key for item in (*recorded.keys, *given.keys)}
    if experiment and "tracking.experiment" not in known:
        # It may have come from the environment, which may differ now.
        keys.append(Argument.of("tracking.experiment", str(experiment)))
    keys += [item for item in given.keys if item.key not in _OF_ONE_COMMAND]
    keys.append(Argument(key="resume", value=recalled.batch_id, text=named))
    own = tuple(item for item in given.options if item not in _FLAGS)
    return Arguments(keys=tuple(keys), options=("-m", *remaining.options, *own))


def spool_folders(batch_id: str, output_dir: Path) -> list[Path]:
    """Return the folders that may hold unrecorded results, the preferred one first."""
    own = own_cache_dir()
    bases = (*(() if own is None else (own,)), temporary_folder_name())
    spares = (base / _SPOOLS / batch_id for base in bases)
    return [
        output_dir / "spool",
        *(spool for spool in spares if is_free_or_own(spool, above=2)),
    ]


def make_spool_folder(spool: Path) -> None:
    """Make one of these folders.

    Raises
    ------
    OSError
        When it cannot be made, or is not this user's alone.
    """
    make_own_folder(spool, above=2 if spool.parent.name == _SPOOLS else 0)


def remove_spool_folder(spool: Path) -> None:
    """Remove one of these folders, and the one above it if that is then empty."""
    shutil.rmtree(spool, ignore_errors=True)
    if spool.parent.name == _SPOOLS:
        with contextlib.suppress(OSError):
            spool.parent.rmdir()


def record_unrecorded(
    recalled: Recalled, output_dir: str | None, uri: str | None, output: TextIO
) -> None:
    """Record the results, if any, that could not be recorded when they were computed.

    Parameters
    ----------
    recalled
        The batch.
    output_dir, uri
        Its folder and its store, as configured.
    output
        Where to report how many were recorded.

    Raises
    ------
    StoreError
        When the store still fails; unrecorded results stay where they are.
    """
    batch_id = recalled.batch_id
    folder = Path(output_dir).absolute() if output_dir else default_output_dir(batch_id)
    configured = uri or os.environ.get("MLFLOW_TRACKING_URI")
    for spool in spool_folders(batch_id, folder):
        if not (spool / "batch.json").is_file():
            continue
        if not is_own_folder(spool):
            say(
                f"{spool} holds results that are not recorded, but others may have put them there: "
                "it is skipped.\n"
            )
            continue
        reports = spool / "parent"
        if reports.is_dir():
            # They are recorded as well; on a disk that is still full only this copy is lost.
            with contextlib.suppress(OSError):
                shutil.copytree(reports, folder, dirs_exist_ok=True)
        here = configured or _was_beside(spool, recalled)
        report = record_spool(spool, store_uri=resolve_uri(uri, Path.cwd()) if here else None)
        remove_spool_folder(spool)
        tell(
            f"Recorded {report.n_recorded} runs of the batch {batch_id} that were computed "
            "earlier.\n",
            output,
        )


def _was_beside(spool: Path, recalled: Recalled) -> bool:
    """Return whether the results belong to the store of their working directory.

    That means the present one, even if the directory was moved or copied since.
    """
    database = sqlite_path(spool_store(spool)) if is_sqlite(spool_store(spool)) else None
    return (
        database is not None
        and database.as_posix().endswith(f"/{DEFAULT_DATABASE}")
        and recalled.config.get("tracking", {}).get("uri") is None
    )
