"""The same results as ever: batches of many kinds, compared with what was kept of them.

On the kind of processor and with the versions that ``expected/made_with.json`` names, every byte
is compared but for what differs each time (`outputs.VARYING` says what that is, and why). Elsewhere
the last bits of a number may differ for good reasons: there the values that are kept are compared
within a relative 1e-9, and columns, counts and texts as they are. Nothing is skipped.

After a change that was meant, ``python -m tests.golden.record`` records the results again, and
prints what differs.
"""

from pathlib import Path

import pytest

from tests.golden.batches import BATCHES, run_batches
from tests.golden.expected import (
    compare,
    is_made_with_the_same,
    keep,
    read_expected,
    summary,
)
from tests.golden.outputs import read_outputs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

AGAIN = "If that was meant: python -m tests.golden.record"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the batches ran."""
    folder = tmp_path_factory.mktemp("golden")
    run_batches(folder)
    return folder


@pytest.mark.parametrize("name", [batch.name for batch in BATCHES])
def test_a_batch_comes_to_what_it_always_did(folder: Path, name: str) -> None:
    tables = {title: keep(table) for title, table in read_outputs(folder, name).items()}
    found = compare(read_expected(name), tables, exact=is_made_with_the_same())
    assert not found, f"{summary(found)}\n{AGAIN}"
