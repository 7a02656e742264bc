"""What must outlive a crash: how a batch was asked for, and what it tries."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import git_diff
from backtest_batch.batch.workspace import (
    BATCH_CONFIG,
    Workspace,
    default_output_dir,
    is_batch_id,
)
from backtest_batch.comparison.scenarios import AxisKinds
from backtest_batch.masking import masked, masked_values
from backtest_batch.ownership import replace_text
from backtest_batch.printing import say
from backtest_batch.records import BatchRequest
from backtest_batch.stored.batch_document import (
    BatchDocument,
    read_document_file,
    signed_document,
)
from backtest_batch.sweep.decisions import decision_labels, source_kind, source_label
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
        "arguments": list(request.arguments),
        "overrides": list(request.overrides),
        "axes": dict(request.axes),
        "n_runs": len(plan.runs),
        "config": request.config,
    }
    now = {"output_dir": str(workspace.output_dir), "process": this_process().tags}
    # Whoever may read the store need not know its password.
    text = signed_document({**(begun or masked_values(asked)), **now})
    folder = workspace.start_files
    replace_text(folder / TRIALS, json.dumps(_tried(request, plan)) + "\n")
    if facts["git_dirty"]:
        replace_text(folder / GIT_DIFF, masked(git_diff(Path.cwd())))
    if workspace.pointer is not None:
        # Without it, resume=latest would not find a batch that the store does not know yet.
        with contextlib.suppress(OSError):
            workspace.pointer.mkdir(parents=True, exist_ok=True)
            replace_text(workspace.pointer / BATCH_CONFIG, text)
    for place in (folder, workspace.output_dir):
        replace_text(place / BATCH_CONFIG, text)


def _tried(request: BatchRequest, plan: Plan) -> dict[str, Any]:
    """Return what a batch tries, by the source of the prices, and of what kind each source is."""
    labels = decision_labels(plan.runs, AxisKinds.of(request.config))
    tried: dict[str, set[str]] = {}
    sources: dict[str, str] = {}
    for run, label in zip(plan.runs, labels, strict=True):
        source = source_label(run.config)
        tried.setdefault(source, set()).add(label)
        sources[source] = source_kind(run.config)
    return {
        "decisions": {source: sorted(found) for source, found in tried.items()},
        "kinds": sources,
    }


def local_document(batch_id: str) -> BatchDocument | None:
    """Return how a batch of this working directory was asked for, or None when it is not here."""
    if not is_batch_id(batch_id):
        return None
    found = read_document_file(default_output_dir(batch_id) / BATCH_CONFIG)
    return found if found is not None and found.batch_id == batch_id else None


def local_documents() -> Iterator[BatchDocument]:
    """Yield how the batches of this working directory were asked for, the newest first.

    What is no document of a batch is skipped, which is said.
    """
    for path in sorted(default_output_dir("x").parent.glob(f"*/{BATCH_CONFIG}"), reverse=True):
        found = local_document(path.parent.name)
        if found is None:
            say(f"{path} does not say how the batch of its folder was asked for: it is skipped.\n")
        else:
            yield found
