"""Run the winner of a best_params.json again: ``best=path/to/best_params.json``."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.arguments import Argument, Arguments
from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import ConfigurationError
from backtest_batch.report.best_params import COMMAND_KEYS, SIGNED_COMMAND
from backtest_batch.signature import Origin, origin
from backtest_batch.stored.trust import is_in_own_mlruns, is_place
from backtest_batch.sweep.configured import RecordedCommand

BEST_PARAMS = "best_params.json"

RERUN = " (rerun)"
"""What the name of a batch that runs a winner again ends with."""

_PROGRAM = ["python", "-m", "backtest_batch"]


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The run that ranked first, as best_params.json describes it.

    Attributes
    ----------
    path
        The file.
    entry
        Its entry in the file; see :func:`.best_params`.
    arguments
        The arguments of the command that repeats it.
    """

    path: Path
    entry: Mapping[str, Any]
    arguments: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """Its name."""
        return str(self.entry.get("run_id", "the winner"))

    @property
    def is_own(self) -> bool:
        """Whether this user has recorded the command.

        A file without a signature of this user is believed in the user's own ``mlruns`` of the
        working directory only.
        """
        command = str(self.entry["command"])
        recorded_by = origin(SIGNED_COMMAND, command, self.entry.get("command_signature"))
        if recorded_by is Origin.UNKNOWN:
            return is_in_own_mlruns(self.path)
        return recorded_by is Origin.OWN

    @property
    def batch_id(self) -> str:
        """The batch that it won; empty where that was not recorded."""
        return str(self.entry.get("batch_id") or "")


def read_winner(path: str | Path) -> Winner:
    """Return the first entry of a best_params.json.

    Raises
    ------
    ConfigurationError
        When the file is missing, is no best_params.json, or holds no run that can be repeated.
    """
    place = Path(path)
    document = _read(place)
    entries = document.get("top") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ConfigurationError(f"best={place}: is no {BEST_PARAMS}, for it has no list `top`")
    if not entries:
        raise ConfigurationError(f"best={place}: holds no run, because none could be ranked")
    entry = entries[0]
    command = entry.get("command") if isinstance(entry, Mapping) else None
    words = _split(command) if isinstance(command, str) else []
    if words[:3] != _PROGRAM:
        run = entry.get("run_id", "its first run") if isinstance(entry, Mapping) else "its first"
        raise ConfigurationError(f"best={place}: the command of {run} was not recorded")
    return Winner(path=place, entry=entry, arguments=tuple(words[3:]))


def with_winner(winner: Winner, recorded: Arguments, given: Arguments) -> Arguments:
    """Return what is given with the command of the winner put in where ``best`` names it.

    How the run is computed and recorded may be chosen anew; what it computes may not.

    Parameters
    ----------
    winner
        The run that ``best`` names.
    recorded
        Its command.
    given
        What is given now, with files expanded.

    Raises
    ------
    ConfigurationError
        When a given key that determines results differs from the winner's; the message names all
        of them.
    """
    path = given.value("best")
    named = f"best={path}"
    config = winner.entry.get("config")
    place = next(place for place, item in enumerate(given.keys) if item.key == "best")
    own = given.with_keys(item for item in given.keys if item.key != "best")
    usable = [item for item in recorded.keys if winner.is_own or not is_place(item.text)]
    command = RecordedCommand(
        named=named,
        arguments=recorded.with_keys(usable),
        config=config if isinstance(config, Mapping) else {},
    )
    changes = command.changes(own)
    if changes:
        raise ConfigurationError(
            f"{named}: what {winner.run_id} computes cannot change, but these differ: "
            f"{', '.join(changes)}. Leave them out, or run the changed configuration without best"
        )
    # Under the name of its batch, the winner alone would be what `batch=<name>` means from now on.
    kept = command.kept(own, without=COMMAND_KEYS | {"batch_name"})
    again = (
        []
        if any(item.key == "batch_name" for item in own.keys)
        else [_rerun_name(winner, recorded)]
    )
    # The path is quoted: on the command line one with a space may have come without quotes.
    best = Argument.of("best", path)
    keys = (*own.keys[:place], best, *kept.keys, *again, *own.keys[place:])
    return Arguments(keys=keys, options=(*kept.options, *given.options))


def _rerun_name(winner: Winner, recorded: Arguments) -> Argument:
    """Return the name of the batch that runs a winner again: that of its own batch, marked once."""
    config = winner.entry.get("config")
    named = config.get("batch_name") if isinstance(config, Mapping) else None
    named = named or recorded.value("batch_name") or BatchConfig.batch_name
    return Argument.of("batch_name", str(named).removesuffix(RERUN) + RERUN)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quote that does not close
        return []


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError as error:
        meant = f"; did you mean {path / BEST_PARAMS}?" if (path / BEST_PARAMS).is_file() else ""
        raise ConfigurationError(f"best={path}: is a folder{meant}") from error
    except OSError as error:
        raise ConfigurationError(
            f"best={path}: cannot be read ({error.strerror or error}; looked in {Path.cwd()})"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"best={path}: is not valid JSON: {error}") from error
