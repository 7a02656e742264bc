"""Searches through MLflow's client, page by page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backtest_batch.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE_SIZE = 1_000


def searched(
    store: Store, filter_string: str, order_by: list[str] | None = None
) -> "Iterator[Run]":
    """Yield all runs of the store's experiment that match a condition in MLflow's language."""
    token: str | None = None
    while True:
        page: Any = store.client.search_runs(
            [store.experiment_id],
            filter_string=filter_string,
            max_results=_PAGE_SIZE,
            order_by=order_by,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def has_tag(key: str, value: str) -> str | None:
    """Return the condition that a tag has a value; None when the language cannot say it."""
    if "`" in key or ("'" in value and '"' in value):
        return None
    quote = '"' if "'" in value else "'"
    return f"tags.`{key}` = {quote}{value}{quote}"
