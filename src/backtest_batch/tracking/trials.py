"""What earlier batches of the experiment have tried."""

import contextlib
import json
from collections.abc import Collection

from backtest_batch.errors import StoreError
from backtest_batch.tracking.entries import RERUN_OF
from backtest_batch.tracking.search import list_batches, read_artifact
from backtest_batch.tracking.store import Store

TRIALS = "trials.json"
"""Artifact of a batch's parent run: the decisions that it tries, by the source of prices.

Beside them, of what kind each source is.
"""

MOST_BATCHES = 1_000


def earlier_decisions(
    store: Store, sources: Collection[str], *, batch_id: str
) -> dict[str, frozenset[str]]:
    """Return the decisions that other batches of the experiment tried, by source of prices.

    A batch that runs a winner again tries nothing.

    Parameters
    ----------
    store
        Where to look; the newest thousand batches count.
    sources
        Labels of where the prices come from, or of what kind their sources are.
    batch_id
        The batch that is being judged; its own decisions are not earlier ones.
    """
    found: dict[str, set[str]] = {source: set() for source in sources}
    for batch in list_batches(store, limit=MOST_BATCHES):
        if batch.batch_id == batch_id or RERUN_OF in batch.tags:
            continue
        # A batch of another version, or one whose files were deleted, says nothing.
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError, AttributeError):
            content = read_artifact(
                store, batch.mlflow_run_id, TRIALS, artifact_uri=batch.artifact_uri
            )
            tried = json.loads(content)
            kinds = tried.get("kinds", {})
            for source, decisions in tried["decisions"].items():
                for label in {source, kinds.get(source)} & found.keys():
                    found[label].update(decisions)
    return {source: frozenset(decisions) for source, decisions in found.items()}
