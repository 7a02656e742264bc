"""What a batch records at its beginning: how it was requested, and where its results come from.

Besides the configuration that is machine, packages and version control.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from backtest_batch.analysis.scenarios import value_as_typed
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.trials import tried
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import masked, masked_values
from backtest_batch.ownership import replace_text
from backtest_batch.records import BatchRequest
from backtest_batch.store.batch_document import (
    BatchDocument,
    read_document_file,
    signed_document,
)
from backtest_batch.store.folders import (
    BATCH_CONFIG,
    Workspace,
    default_output_dir,
    is_batch_id,
)
from backtest_batch.store.mlflow_run import RESERVED_TAGS, DatasetInfo
from backtest_batch.store.process import this_process
from backtest_batch.store.search import TRIALS
from backtest_batch.streams import say
from backtest_batch.values import flattened
from backtest_batch.workers.process import hash_seed

PACKAGES = (
    "backtest-batch",
    "numpy",
    "pandas",
    "numba",
    "scipy",
    "pyarrow",
    "mlflow",
    "hydra-core",
    "joblib",
)
LONGEST_DIFF = 1_000_000
"""Characters of the uncommitted changes that are recorded."""


def provenance(command: Sequence[str], seed: int) -> dict[str, Any]:
    """Return facts of this process, its packages and the working directory's repository."""
    return {
        "command": list(command),
        "seed": seed,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": sys.version.split()[0],
        "hash_seed": hash_seed(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        **git_state(Path.cwd()),
    }


def process_started(pid: int) -> str:
    """Return when a process started, which tells it from a later one with the same number."""
    return f"{psutil.Process(pid).create_time():.2f}"


def git_state(folder: Path) -> dict[str, Any]:
    """Return commit and dirty flag of the repository that holds ``folder``; None without one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": bool(status)}


def git_diff(folder: Path) -> str:
    """Return the uncommitted changes of the repository that holds ``folder``."""
    return (_git(folder, "diff", "HEAD") or "")[:LONGEST_DIFF]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip("\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


GIT_DIFF = "git.diff"


def write_start_files(
    workspace: Workspace,
    request: BatchRequest,
    plan: Plan,
    batch_id: str,
    facts: Mapping[str, Any],
    begun: Mapping[str, Any] | None,
) -> None:
    """Write the files that are recorded when a batch begins.

    Parameters
    ----------
    workspace, request, plan, batch_id
        The batch.
    facts
        Its provenance.
    begun
        How it was requested at first: what a resuming command adds counts for that attempt alone.
        None for a new batch.

    Raises
    ------
    OSError
        When they cannot be written.
    """
    asked = {
        "batch_id": batch_id,
        "batch_name": request.config["batch_name"],
        "arguments": list(request.arguments),
        "overrides": list(request.overrides),
        "axes": dict(request.axes),
        "n_runs": plan.n_rows,
        "config": request.config,
    }
    now = {"output_dir": str(workspace.output_dir), "process": this_process().tags}
    # Readers of the store need not know its password.
    text = signed_document({**(begun or masked_values(asked)), **now})
    folder = workspace.start_files
    write_trials(workspace, request, plan)
    if facts["git_dirty"]:
        replace_text(folder / GIT_DIFF, masked(git_diff(Path.cwd())))
    if workspace.pointer is not None:
        # Without it, resume=latest would not find a batch that the store does not know yet.
        with contextlib.suppress(OSError):
            workspace.pointer.mkdir(parents=True, exist_ok=True)
            replace_text(workspace.pointer / BATCH_CONFIG, text)
    for target in (folder, workspace.output_dir):
        replace_text(target / BATCH_CONFIG, text)


def write_trials(
    workspace: Workspace, request: BatchRequest, plan: Plan, labels: Sequence[str] = ()
) -> None:
    """Write what a batch has tried.

    Parameters
    ----------
    workspace, request, plan
        The batch.
    labels
        What was chosen in each run; without them what the configurations say.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    path = workspace.start_files / TRIALS
    replace_text(path, json.dumps(tried(request, plan, labels)) + "\n")


def local_document(batch_id: str) -> BatchDocument | None:
    """Return how a batch of this working directory was requested, or None when it is not here."""
    if not is_batch_id(batch_id):
        return None
    found = read_document_file(default_output_dir(batch_id) / BATCH_CONFIG)
    return found if found is not None and found.batch_id == batch_id else None


def local_documents() -> Iterator[BatchDocument]:
    """Yield how the batches of this working directory were requested, the newest first.

    Other files are skipped, with a message.
    """
    for path in sorted(default_output_dir("x").parent.glob(f"*/{BATCH_CONFIG}"), reverse=True):
        found = local_document(path.parent.name)
        if found is None:
            say(f"{path} does not say how the batch in its folder was requested: it is skipped.\n")
        else:
            yield found


def user_tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's tags of a batch; a tag of a nested mapping has a dotted name.

    Raises
    ------
    ConfigurationError
        When one has no name, or the name of one of our tags or MLflow's.
    """
    named = {str(name): "true" for name in config["tag_names"]}
    tags = named | {name: value_as_typed(value) for name, value in flattened(config["tags"])}
    if not all(name.strip() for name in tags):
        raise ConfigurationError("tags, tag_names: a tag must have a name, but got an empty one")
    taken = sorted(name for name in tags if name in RESERVED_TAGS or name.startswith("mlflow."))
    if taken:
        raise ConfigurationError(
            f"tags.{taken[0]}: this name is taken (names of our own tags and mlflow.* are); "
            "choose another"
        )
    return tags


def dataset_info(plan: Plan) -> DatasetInfo:
    """Return what the store records about the market data of a batch."""
    first = plan.runs[0]
    panel, node = plan.panels[first.data_fingerprint], first.config["data"]
    path = node.get("path")
    return DatasetInfo(
        name=str(node["_target_"]).rpartition(".")[2].lower(),
        fingerprint=panel.fingerprint,
        source=masked_values(str(path)) if path else json.dumps(masked_values(node), default=str),
        is_path=bool(path),
        n_bars=panel.n_bars,
        symbols=panel.symbols,
        fields=tuple(panel.fields),
        first=panel.index[0].isoformat() if panel.n_bars else "",
        last=panel.index[-1].isoformat() if panel.n_bars else "",
    )
