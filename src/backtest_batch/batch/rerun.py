"""Run the winner of a best_params.json again, and verify its result.

``best=path/to/best_params.json`` puts its arguments in; ``verify=true`` compares bit for bit.
"""

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.analysis.batches import NEAR_ZERO, TOLERANCE
from backtest_batch.analysis.scenarios import choice_name, value_as_typed
from backtest_batch.config.arguments import PLAN_KEYS, Argument, Arguments, determines_results
from backtest_batch.config.schema import SWEEPABLE, BatchConfig
from backtest_batch.core.engine.metrics import result_names
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import is_masked, masked, masked_values
from backtest_batch.ownership import Origin, origin
from backtest_batch.records import RunFailure, RunRecord, RunResult
from backtest_batch.report.best_params import COMMAND_KEYS, ENVIRONMENT, SIGNED_COMMAND
from backtest_batch.search.samplers import GRID
from backtest_batch.store.batch_document import is_in_own_mlruns, names_destination
from backtest_batch.values import flattened, value_at

ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class RecordedCommand:
    """A command that was recorded.

    A new command may change how things are computed, recorded and named, but not what is computed.
    It may repeat recorded values, however they are written.

    Attributes
    ----------
    named
        The key that names it, such as ``resume=latest``.
    arguments
        Its arguments, without secrets.
    config
        The configuration that it composed, with the first value of each swept key.
    """

    named: str
    arguments: Arguments
    config: Mapping[str, Any]

    def changes(self, given: Arguments) -> list[str]:
        """Return the given keys that would change what is computed, each with both values."""
        recorded = {item.key: item for item in self.arguments.keys}
        leaves = {leaf.key: leaf for item in self.arguments.keys for leaf in item.leaves}
        return sorted(
            f"{item.key} (given {masked(item.text).partition('=')[2] or 'nothing'}, "
            f"recorded {self._recorded_text(item.key, recorded)})"
            for item in given.keys
            # The keys of a batch file stand beside it.
            if determines_results(item.key, searches=self._searches)
            and item.key != "batch_file"
            and not all(self._is_same(leaf, recorded | leaves) for leaf in _parts(item, recorded))
        )

    def remaining(self, given: Arguments, *, without: frozenset[str]) -> Arguments:
        """Return the recorded arguments that the new ones do not replace.

        Parameters
        ----------
        given
            The new arguments, which replace recorded ones.
        without
            Keys that only counted for the recorded command.

        Raises
        ------
        ConfigurationError
            When a value held a secret, which is not recorded, and no new value replaces it.
        """
        dropped = {item.key for item in given.keys} | without
        if os.environ.get("MLFLOW_TRACKING_URI"):
            dropped |= {
                item.key
                for item in self.arguments.keys
                if item.key == "tracking.uri" and is_masked(item.text)
            }
        remaining = [item for item in self.arguments.keys if item.key not in dropped]
        lost = sorted(
            item.key
            for item in remaining
            # A label may stay as it was recorded.
            if is_masked(item.text) and (item.key == "tracking.uri" or determines_results(item.key))
        )
        if lost:
            raise ConfigurationError(
                f"{self.named}: the values of these keys hold secrets, which are not recorded: "
                f"{', '.join(lost)}. Give them again."
            )
        return Arguments(keys=tuple(remaining), options=self.arguments.sources_without(given))

    def _is_same(self, given: Argument, recorded: Mapping[str, Argument]) -> bool:
        then = recorded.get(given.key)
        shown = masked(given.text)
        if then is not None:
            if shown != given.text:  # a secret, which is not recorded; its quotes may differ
                return shown == then.text or (
                    not given.is_sweep
                    and _are_equal(masked_values(given.value, given.key), then.value)
                )
            if given.prefix == then.prefix == "~" or _are_equal(given.value, then.value):
                return (given.prefix == "~") == (then.prefix == "~")
            if then.is_sweep or then.prefix == "~" or not self._is_one_run:
                return False
        # It may repeat the default, or the value that another key set.
        configured = configured_value(self.config, given.key)
        return (
            configured is not ABSENT
            and given.prefix != "~"
            and not given.is_sweep
            and _are_equal(given.value, configured)
        )

    @property
    def _searches(self) -> bool:
        return bool(value_at(self.config, ("search", "method"), GRID) != GRID)

    @property
    def _is_one_run(self) -> bool:
        """Whether its configuration is that of every run."""
        return not any(item.is_sweep or item.key in PLAN_KEYS for item in self.arguments.keys)

    def _recorded_text(self, key: str, recorded: Mapping[str, Argument]) -> str:
        if key in recorded:
            return recorded[key].value_text
        configured = configured_value(self.config, key)
        known = configured is not ABSENT and not isinstance(configured, Mapping)
        return value_as_typed(configured) if known else "nothing"


def configured_value(config: Any, key: str) -> Any:
    """Return a configured value (for a node the name of its choice); ``ABSENT`` without one."""
    node = value_at(config, key.split("."), ABSENT)
    if isinstance(node, Mapping) and "_target_" in node:
        return choice_name(str(node["_target_"]))
    return node


def _parts(item: Argument, recorded: Mapping[str, Argument]) -> list[Argument]:
    """Return what is compared: a mapping value by value, unless it was recorded as a whole."""
    return [item] if item.key in recorded or item.is_sweep else item.leaves


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, str) != isinstance(other, str) and _is_plain(one) and _is_plain(other):
        # For a key that takes text, 2006 is a year.
        return value_as_typed(one) == value_as_typed(other)
    return bool(one == other)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


BEST_PARAMS = "best_params.json"

RERUN = " (rerun)"
"""Ending of the name of a batch that runs a winner again."""

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
    verdict
        The label of the verdict on its batch; empty where there is none.
    """

    path: Path
    entry: Mapping[str, Any]
    arguments: tuple[str, ...]
    verdict: str = ""

    @property
    def run_id(self) -> str:
        """Its name."""
        return str(self.entry.get("run_id", "the winner"))

    @property
    def is_own(self) -> bool:
        """Whether this user has recorded the command.

        Without a signature of this user a file is trusted only in the user's own ``mlruns`` of the
        working directory.
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
        When the file is missing, is not a best_params.json, or holds no run that can be repeated.
    """
    file = Path(path)
    document = _read(file)
    entries = document.get("top") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ConfigurationError(f"best={file}: is not a {BEST_PARAMS}: it has no list `top`")
    if not entries:
        raise ConfigurationError(f"best={file}: holds no run, because none could be ranked")
    entry = entries[0]
    command = entry.get("command") if isinstance(entry, Mapping) else None
    words = _split(command) if isinstance(command, str) else []
    if words[:3] != _PROGRAM:
        run = entry.get("run_id", "its first run") if isinstance(entry, Mapping) else "its first"
        raise ConfigurationError(f"best={file}: the command of {run} was not recorded")
    verdict = document.get("verdict")
    label = verdict.get("label") if isinstance(verdict, Mapping) else None
    return Winner(
        path=file,
        entry=entry,
        arguments=tuple(words[3:]),
        verdict=label if isinstance(label, str) else "",
    )


def with_winner(winner: Winner, recorded: Arguments, given: Arguments) -> Arguments:
    """Return the arguments with ``best`` replaced by the command of the winner.

    How the run is computed and recorded may change; what it computes may not.

    Parameters
    ----------
    winner
        The run that ``best`` names.
    recorded
        Its command.
    given
        The new arguments, with files expanded.

    Raises
    ------
    ConfigurationError
        When a given key that determines results differs from the winner's; the message names all
        of them.
    """
    path = given.value("best")
    named = f"best={path}"
    config = winner.entry.get("config")
    position = next(position for position, item in enumerate(given.keys) if item.key == "best")
    own = given.with_keys(item for item in given.keys if item.key != "best")
    usable = [item for item in recorded.keys if winner.is_own or not names_destination(item.text)]
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
    # With the name of its batch, `batch=<name>` would from now on mean the winner alone.
    # Its batch was judged by `fail_on_verdict`; one run alone has no luck of many to be judged by.
    left = {"batch_name", "fail_on_verdict"}
    remaining = command.remaining(own, without=COMMAND_KEYS | left)
    again = (
        []
        if any(item.key == "batch_name" for item in own.keys)
        else [_rerun_name(winner, recorded)]
    )
    # The path is quoted: it may hold spaces, and need not have had quotes on the command line.
    best = Argument.of("best", path)
    keys = (*own.keys[:position], best, *remaining.keys, *again, *own.keys[position:])
    return Arguments(keys=keys, options=(*remaining.options, *given.options))


def _rerun_name(winner: Winner, recorded: Arguments) -> Argument:
    """Return the name of the batch that runs a winner again: the winner's batch, marked once."""
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


_MACHINE = "machine and packages"


_SOMETHING_ELSE = (
    "Code, data, configuration, machine and packages are those of then. So the result depends on "
    "something else: on the clock, on data that are read elsewhere, or on what a run leaves in its "
    "process for the next one (a cache, a counter, a global list)."
)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Whether a repeated run has the recorded result.

    Attributes
    ----------
    agrees
        Whether every recorded result metric was reproduced.
    exact
        Whether they were compared bit for bit.
    compared
        How many were compared.
    metrics
        Metrics that differ, with the recorded and the new value.
    environment
        What differs between then and now, one text each: machine, packages, data, code.
    run_id
        Name of the run.
    failure
        Why there is nothing to compare; empty when there is.
    """

    agrees: bool
    exact: bool
    compared: int
    metrics: tuple[str, ...]
    environment: tuple[str, ...]
    run_id: str
    failure: str = ""

    def __str__(self) -> str:
        """Return the outcome in a few lines, the last ending with a line feed."""
        if self.failure:
            first = f"Not verified: {self.run_id} cannot be compared: {self.failure}"
        elif self.agrees and self.exact:
            first = (
                f"Verified: all {self.compared} result metrics of {self.run_id} are equal, bit for "
                f"bit, to those recorded (same {_MACHINE})."
            )
        elif self.agrees:
            first = (
                f"Verified: all {self.compared} result metrics of {self.run_id} are equal to those "
                f"recorded within {TOLERANCE:g}, relatively."
            )
        else:
            how = "bit for bit" if self.exact else f"within {TOLERANCE:g}, relatively"
            first = (
                f"Not verified: {len(self.metrics)} of {self.compared} result metrics of "
                f"{self.run_id} are not equal to those recorded, compared {how}:"
            )
        lines = [first, *(f"  {text}" for text in self.metrics)]
        if self.metrics and self.exact:
            lines.append(_SOMETHING_ELSE)
        if self.environment:
            lines += ["Differences since then:", *(f"  {text}" for text in self.environment)]
        return "\n".join(lines) + "\n"


def verify(winner: Winner, records: Sequence[RunRecord], facts: Mapping[str, Any]) -> Verification:
    """Compare the result of a run with the one in best_params.json.

    Result metrics are compared bit for bit if machine, packages, data and code are the same; else
    to a relative 1e-9 (and to 1e-12 around zero).

    Parameters
    ----------
    winner
        The run as it was recorded.
    records
        The runs of the batch that computed it again: one.
    facts
        The present machine and packages; see :func:`.provenance`.
    """
    recorded = winner.entry
    record = records[0] if records else None
    environment = tuple(_environment_differences(recorded, record, facts))
    outcome = None if record is None else record.outcome
    if not isinstance(outcome, RunResult):
        return Verification(
            agrees=False,
            exact=not environment,
            compared=0,
            metrics=(),
            environment=environment,
            run_id=winner.run_id,
            failure=_failure(outcome),
        )
    then = recorded.get("metrics") or {}
    names = result_names({*then, *outcome.metrics})
    texts = [
        text
        for name in names
        if (text := _difference(name, then.get(name), outcome.metrics.get(name), not environment))
    ]
    return Verification(
        agrees=not texts and bool(names),
        exact=not environment,
        compared=len(names),
        metrics=tuple(texts),
        environment=environment,
        run_id=winner.run_id,
        failure="" if names else "no result metric is defined, then or now",
    )


def _failure(outcome: RunFailure | None) -> str:
    if outcome is None:
        return "it did not end"
    return f"{outcome.error_type}: {outcome.error_message}"


def _difference(name: str, then: Any, now: float | None, exactly: bool) -> str:
    """Say how a metric differs; empty when it does not."""
    if not isinstance(then, int | float) or now is None:
        return f"{name}: recorded {_shown(then)}, now {_shown(now)}"
    if exactly:
        same = float(then) == now
    else:
        same = math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)
    if same:
        return ""
    largest = max(abs(then), abs(now))
    relative = f"; they differ by {abs(then - now) / largest:.2g}, relatively" if largest else ""
    return f"{name}: recorded {then!r}, now {now!r}{relative}"


def _shown(value: Any) -> str:
    return "undefined" if value is None else repr(value)


def _environment_differences(
    recorded: Mapping[str, Any], record: RunRecord | None, facts: Mapping[str, Any]
) -> Iterator[str]:
    environment = recorded.get("environment") or {}
    if not environment:
        yield f"the {_MACHINE} of that time were not recorded"
    for name in ENVIRONMENT if environment else ():
        then, now = environment.get(name), facts.get(name)
        if name == "packages":
            yield from _package_differences(then or {}, now or {})
        elif then != now:
            yield f"{name}: then {_shown(then)}, now {_shown(now)}"
    if record is None:
        return
    for name in ("data_fingerprint", "code_fingerprint"):
        then, now = recorded.get(name), getattr(record.spec, name)
        if then != now:
            yield f"{name}: then {_shown(then)}, now {_shown(now)}"
    # As it would be recorded: without its secrets.
    now_configured = masked_values(record.spec.config)
    yield from _config_differences(recorded.get("config") or {}, now_configured)


def _package_differences(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*then, *now)):
        if then.get(name) != now.get(name):
            yield f"{name}: then {then.get(name, 'absent')}, now {now.get(name, 'absent')}"


def _config_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = _settings(then), _settings(now)
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            yield f"{key}: then {before.get(key, 'absent')}, now {after.get(key, 'absent')}"


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that determine results, as text by dotted key."""
    chosen = {key: value for key, value in config.items() if key in SWEEPABLE}
    return {key: value_as_typed(value) for key, value in flattened(chosen)}
