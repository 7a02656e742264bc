"""What earlier batches of the experiment have tried."""

import contextlib
import json

from backtest_batch.errors import StoreError
from backtest_batch.tracking.search import list_batches, read_artifact
from backtest_batch.tracking.store import Store

TRIALS = "trials.json"
"""Artifact of a batch's parent run: the source of its prices and the decisions that it tries."""

MOST_BATCHES = 1_000


def earlier_decisions(store: Store, source: str, *, batch_id: str) -> frozenset[str]:
    """Return the decisions that other batches of the experiment tried on the same prices.

    Parameters
    ----------
    store
        Where to look; the newest thousand batches count.
    source
        Label of where the prices come from.
    batch_id
        The batch that is being judged; its own decisions are not earlier ones.
    """
    decisions: set[str] = set()
    for batch in list_batches(store, limit=MOST_BATCHES):
        if batch.batch_id == batch_id:
            continue
        # A batch of another version, or one whose files were deleted, says nothing.
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError):
            tried = json.loads(read_artifact(store, batch.mlflow_run_id, TRIALS))
            if tried["source"] == source:
                decisions.update(tried["decisions"])
    return frozenset(decisions)
