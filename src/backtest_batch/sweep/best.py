"""Run the winner of a best_params.json again: ``best=path/to/best_params.json``."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.arguments import (
    argument_key,
    argument_text,
    argument_value,
    determines_results,
    divide,
)
from backtest_batch.assignments import Assignment
from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import is_masked, masked
from backtest_batch.report.best_params import COMMAND_KEYS, SIGNED_COMMAND
from backtest_batch.signature import Origin, origin
from backtest_batch.stored.trust import is_in_own_mlruns, is_place, require_trust
from backtest_batch.sweep.configured import configured_text

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

    @property
    def rerun_name(self) -> str:
        """Name of the batch that runs it again: that of its own batch, marked once."""
        config = self.entry.get("config")
        named = config.get("batch_name") if isinstance(config, Mapping) else None
        name = named or argument_value(self.arguments, "batch_name") or BatchConfig.batch_name
        return str(name).removesuffix(RERUN) + RERUN


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


def require_own_winner(arguments: Sequence[str]) -> None:
    """Refuse to run what a best_params.json of somebody else names, unless it is trusted.

    Raises
    ------
    ConfigurationError
        When it is not trusted, or the file cannot be used.
    """
    path = argument_value(arguments, "best")
    if path is None:
        return
    winner = read_winner(path)
    if not winner.is_own:
        require_trust(f"best={path}", winner.arguments, (), arguments)


def with_winner(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with those of the winner that ``best`` names put in.

    How the run is computed and recorded may be chosen anew; what it computes may not.

    Parameters
    ----------
    arguments
        Those of the command line, with files expanded.

    Returns
    -------
    list of str
        Unchanged without ``best``.

    Raises
    ------
    ConfigurationError
        When the file cannot be used, or a given key that determines results differs from the
        winner's; the message names all of them.
    """
    path = argument_value(arguments, "best")
    if path is None:
        return list(arguments)
    winner = read_winner(path)
    sources, items = divide(winner.arguments)
    recorded = {argument_key(item): item for item in items if winner.is_own or not is_place(item)}
    own = [item for item in arguments if "=" in item and not _names_best(item)]
    changed = changed_arguments(own, recorded, winner.entry.get("config"))
    if changed:
        raise ConfigurationError(
            f"best={path}: what {winner.run_id} computes cannot change, but these differ: "
            f"{', '.join(changed)}. Leave them out, or run the changed configuration without best"
        )
    given = {argument_key(item) for item in own}
    # Under the name of its batch, the winner alone would be what `batch=<name>` means from now on.
    recorded["batch_name"] = Assignment("batch_name", winner.rerun_name).override
    kept = [item for key, item in recorded.items() if key not in given and key not in COMMAND_KEYS]
    # Quoted, because on the command line a path with a space may have come without quotes.
    masked_keys = [argument_key(item) for item in kept if is_masked(item)]
    lost = [key for key in masked_keys if determines_results(key)]  # a label may stay as it is
    if lost:
        raise ConfigurationError(
            f"best={path}: the values of these keys hold secrets, which are not recorded: "
            f"{', '.join(lost)}. Give them again."
        )
    kept.insert(0, Assignment("best", path).override)
    place = next(place for place, item in enumerate(arguments) if _names_best(item))
    rest = [item for item in arguments if not _names_best(item)]
    return [*sources, *rest[:place], *kept, *rest[place:]]


def _names_best(item: str) -> bool:
    return "=" in item and argument_key(item) == "best"


def changed_arguments(given: Sequence[str], recorded: Mapping[str, str], config: Any) -> list[str]:
    """Return the given arguments that would change a recorded result, each with what it was.

    Parameters
    ----------
    given
        Arguments ``key=value``.
    recorded
        Arguments of the recorded command, by key.
    config
        The configuration that they composed; a key may be given with the value it had by default.
    """
    changed = []
    for item in given:
        key = argument_key(item)
        # The keys of a batch file stand beside it.
        if not determines_results(key) or key == "batch_file":
            continue
        then = argument_text(recorded[key]) if key in recorded else configured_text(config, key)
        shown = masked(item)  # as it was recorded
        accepted = {then, configured_text(config, key)} - {None}
        if accepted.isdisjoint((argument_text(shown), argument_value([shown], key))):
            changed.append(f"{key} (given {argument_text(shown)}, recorded {then or 'nothing'})")
    return changed


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
