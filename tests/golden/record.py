"""Record again what the batches write: ``python -m tests.golden.record``, at the repository's top.

What differs from what was kept is printed. Commit it only when every difference is meant, and say
in the CHANGELOG which numbers changed and why.
"""

import json
import tempfile
from pathlib import Path

from tests.golden.batches import BATCHES, run_batches
from tests.golden.expected import (
    EXPECTED,
    MADE_WITH,
    compare,
    is_made_with_the_same,
    keep,
    made_with,
    read_expected,
    summary,
    write_expected,
)
from tests.golden.outputs import read_outputs


def record() -> None:
    """Run the batches, print what differs, and keep what they wrote."""
    EXPECTED.mkdir(exist_ok=True)
    if not is_made_with_the_same():
        print("another processor or other versions than before: numbers are compared, not bits")
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        run_batches(Path(folder))
        for batch in BATCHES:
            outputs = read_outputs(Path(folder), batch.name)
            tables = {title: keep(table) for title, table in outputs.items()}
            found = compare(read_expected(batch.name), tables, exact=is_made_with_the_same())
            print(f"{batch.name}: {summary(found) if found else 'the same'}")
            write_expected(batch.name, tables)
    names = {batch.name for batch in BATCHES}
    for path in EXPECTED.glob("*.txt"):
        if path.stem not in names:
            print(f"{path.stem}: is no batch any more")
            path.unlink()
    MADE_WITH.write_text(json.dumps(made_with(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
