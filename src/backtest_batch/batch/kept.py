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

from backtest_batch.batch.chunks import make_working_folder

NAME = "kept.jsonl"

Kind = Literal["benchmark", "in_sample", "unwritten"]


@dataclass(frozen=True)
class ResumeNotes:
    """A file of one line for each thing to remember.

    Parameters
    ----------
    folders
        The folders that it may be in; all of them are read, and the first that takes a line gets
        it.
    """

    folders: Sequence[Path]

    def add(self, kind: Kind, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember metrics by key; a disk that is full costs that they are computed again."""
        text = "".join(f"{json.dumps([kind, key, dict(item)])}\n" for key, item in values.items())
        for folder in self.folders if text else ():
            with contextlib.suppress(OSError):
                make_working_folder(folder, is_spare=folder != self.folders[0])
                # The line before may have been cut off by a crash.
                with (folder / NAME).open("a", encoding="utf-8") as file:
                    file.write(f"\n{text}")
                return

    def read(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """Return the metrics of one kind by key."""
        found: dict[str, dict[str, Any]] = {}
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for line in (folder / NAME).read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):
                        name, key, values = json.loads(line)
                        if name == kind:
                            found[key] = values
        return found
