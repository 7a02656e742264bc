"""What must outlive a crash: how a batch was asked for, and what it tries."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import git_diff
from backtest_batch.batch.workspace import BATCH_CONFIG, Workspace, default_output_dir
from backtest_batch.comparison.scenarios import AxisKinds
from backtest_batch.masking import masked, masked_values
from backtest_batch.records import BatchRequest
from backtest_batch.sweep.decisions import decision_label, source_kind, source_label
from backtest_batch.tracking.process import this_process
from backtest_batch.tracking.trials import TRIALS

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
        How it was asked for when it began: what is given when it goes on counts for that attempt
        alone. None for a new batch.

    Raises
    ------
    OSError
        When they cannot be written.
    """
    asked = {
        "batch_id": batch_id,
        "batch_name": request.config["batch_name"],
        # Whoever may read the store need not know its password.
        "arguments": [masked(item) for item in request.arguments],
        "overrides": [masked(item) for item in request.overrides],
        "axes": dict(request.axes),
        "n_runs": len(plan.runs),
        "config": masked_values(request.config),
    }
    now = {"output_dir": str(workspace.output_dir), "process": this_process().tags}
    document = {**(begun or asked), **now}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    folder = workspace.start_files
    (folder / TRIALS).write_text(json.dumps(_tried(request, plan)) + "\n", encoding="utf-8")
    if facts["git_dirty"]:
        (folder / GIT_DIFF).write_text(masked(git_diff(Path.cwd())), encoding="utf-8")
    for place in (folder, workspace.output_dir):
        _write_whole(place / BATCH_CONFIG, text)


def _tried(request: BatchRequest, plan: Plan) -> dict[str, Any]:
    """Return what a batch tries, by the source of the prices, and of what kind each source is."""
    kinds = AxisKinds.of(request.config)
    tried: dict[str, set[str]] = {}
    sources: dict[str, str] = {}
    for run in plan.runs:
        source = source_label(run.config)
        tried.setdefault(source, set()).add(decision_label(run, kinds))
        sources[source] = source_kind(run.config)
    return {
        "decisions": {source: sorted(found) for source, found in tried.items()},
        "kinds": sources,
    }


def local_document(batch_id: str) -> dict[str, Any] | None:
    """Return how a batch of this working directory was asked for, or None when it is not here."""
    return _read(default_output_dir(batch_id) / BATCH_CONFIG)


def local_documents() -> list[dict[str, Any]]:
    """Return how the batches of this working directory were asked for, the newest first."""
    folder = default_output_dir("x").parent
    found = (_read(path) for path in sorted(folder.glob(f"*/{BATCH_CONFIG}"), reverse=True))
    return [document for document in found if document is not None]


def parse_document(content: bytes) -> dict[str, Any] | None:
    """Return a batch_config.yaml as plain values; None when it is none."""
    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError:
        return None
    return document if isinstance(document, dict) and "arguments" in document else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return parse_document(path.read_bytes())
    except OSError:
        return None


def _write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
