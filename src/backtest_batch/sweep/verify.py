"""Whether a run that was computed again came to what is recorded of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.comparison.agreement import NEAR_ZERO, TOLERANCE
from backtest_batch.comparison.levels import format_value
from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.engine.metrics import RESULT_METRICS
from backtest_batch.masking import masked_values
from backtest_batch.records import RunFailure, RunRecord, RunResult
from backtest_batch.report.best_params import ENVIRONMENT
from backtest_batch.sweep.best import Winner
from backtest_batch.tracking.values import flattened

_MACHINE = "machine and packages"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of it.

    Attributes
    ----------
    agrees
        Whether every recorded result metric was found again.
    exact
        Whether they were compared bit for bit.
    compared
        How many were compared.
    metrics
        Those that differ, with what was recorded and what was found.
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
        """Return the outcome in a few lines, ended by a line feed."""
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
        if self.environment:
            lines += ["What differs from then:", *(f"  {text}" for text in self.environment)]
        return "\n".join(lines) + "\n"


def verify(winner: Winner, records: Sequence[RunRecord], facts: Mapping[str, Any]) -> Verification:
    """Compare the result of a run with what best_params.json recorded of it.

    Result metrics are compared bit for bit where the machine, the packages, the data and the code
    are those of then; else to 1e-9, relatively (and to 1e-12 around zero).

    Parameters
    ----------
    winner
        The run as it was recorded.
    records
        The runs of the batch that computed it again: one.
    facts
        Machine and packages of now; see :func:`.provenance`.
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
    names = [name for name in RESULT_METRICS if name in then or name in outcome.metrics]
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
        yield f"the {_MACHINE} of then are not recorded"
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
    # As it would be recorded now: without its secrets.
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
    """Return what determines results as text by dotted key."""
    chosen = {key: value for key, value in config.items() if key in SWEEPABLE}
    return {key: format_value(value) for key, value in flattened(chosen)}
