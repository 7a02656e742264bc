"""What a batch must remember of its runs beyond what is recorded of them.

The tracking store holds no metrics of benchmarks, none of the training windows of runs whose
strategy was fitted, and does not say which runs lack files that could not be written. All that is
needed when a batch that was interrupted goes on.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backtest_batch.batch.chunks import make_place

NAME = "kept.jsonl"

Kind = Literal["benchmark", "in_sample", "unwritten"]


@dataclass(frozen=True)
class Kept:
    """A file of one line for each thing to remember.

    Parameters
    ----------
    places
        The folders that it may be in; all of them are read, and the first that takes a line gets
        it.
    """

    places: Sequence[Path]

    def add(self, kind: Kind, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember metrics by key; a disk that is full costs that they are computed again."""
        text = "".join(f"{json.dumps([kind, key, dict(item)])}\n" for key, item in values.items())
        for place in self.places if text else ():
            with contextlib.suppress(OSError):
                make_place(place, is_spare=place != self.places[0])
                # The line before may have been cut off by a crash.
                with (place / NAME).open("a", encoding="utf-8") as file:
                    file.write(f"\n{text}")
                return

    def read(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """Return the metrics of one kind by key."""
        found: dict[str, dict[str, Any]] = {}
        for place in self.places:
            with contextlib.suppress(OSError):
                for line in (place / NAME).read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):
                        name, key, values = json.loads(line)
                        if name == kind:
                            found[key] = values
        return found
