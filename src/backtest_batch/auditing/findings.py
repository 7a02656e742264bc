"""What an audit is asked, what it found, and how that is said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Lookahead = Literal["clean", "found", "untested"]
Warmup = Literal["ok", "short", "untested"]
Kind = Literal["lookahead", "warmup", "determinism"]

USUAL_CAUSES = (
    "shift(-1), a centred rolling window, a mean or a fit over the whole history, bfill, labels of "
    "resample, or an index of the next bar"
)


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How a strategy is audited.

    Attributes
    ----------
    budget_seconds
        Most seconds for the questions of one run.
    decisions
        Most decisions after which the future is cut off.
    tolerance
        Share of equity by which weights may move, in the mean of all decisions, when history before
        the warm-up is cut.
    seed
        Seed of the sampled decisions.
    expected_seconds
        How long the strategy took to answer in its run; 0 where that is not known.
    recorded
        Metrics of the run, with which those of the answer given now are compared; empty: the
        strategy is asked twice instead.
    """

    budget_seconds: float = 5.0
    decisions: int = 12
    tolerance: float = 0.02
    seed: int = 42
    expected_seconds: float = 0.0
    recorded: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditExample:
    """Two answers to the same question that should be equal and are not.

    Attributes
    ----------
    kind
        What it shows.
    timestamp, symbol
        The first bar whose answer differs, and the asset whose weight differs most there; ``net
        return`` for a strategy that makes its own account.
    value, other
        The two answers.
    given, known
        What the strategy was shown when it gave the one and the other.
    """

    kind: Kind
    timestamp: str
    symbol: str
    value: float
    other: float
    known: str
    given: str = "with all bars"

    @property
    def sentence(self) -> str:
        """The example for people."""
        what = self.symbol if self.is_return else f"weight of {self.symbol}"
        return (
            f"on {self.timestamp} the {what} is {_number(self.value)} {self.given}, and "
            f"{_number(self.other)} {self.known}"
        )

    @property
    def is_return(self) -> bool:
        """Whether the answers are returns, and not weights."""
        return self.symbol == NET_RETURN

    def document(self) -> dict[str, Any]:
        """Return it as plain values; what is no number is None."""
        return {
            "kind": self.kind,
            "timestamp": self.timestamp,
            "symbol": self.symbol,
            "value": _plain(self.value),
            "other": _plain(self.other),
            "given": self.given,
            "known": self.known,
            "sentence": self.sentence,
        }


NET_RETURN = "net return"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{value:.6g}"


@dataclass(frozen=True, kw_only=True)
class AuditFindings:
    """What the audit of one run found.

    Attributes
    ----------
    lookahead
        Whether its answers depend on later bars.
    warmup
        Whether they depend on more history than ``warmup_bars``.
    deterministic
        Whether it answered alike when it was asked again; None: not known.
    reasons
        Why something was not tested, and what else to know, by ``lookahead``, ``warmup``,
        ``deterministic``.
    examples
        At most one for each kind.
    n_decisions
        After how many decisions the future was cut off.
    effect
        What the warm-up changes: ``annual_return`` with twice the history and with
        ``warmup_bars``, where weights move.
    remembers
        Whether answers depend on what was asked before in the same process, so that nothing can be
        said until each question is asked by itself.
    alike_after
        A bar after which other values changed no bit of the answers, though cutting them off did:
        a cache by dates may have given them, so each question is to be asked by itself there.
    """

    lookahead: Lookahead = "untested"
    warmup: Warmup = "untested"
    deterministic: bool | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[AuditExample] = ()
    n_decisions: int = 0
    effect: Mapping[str, float] = field(default_factory=dict)
    remembers: bool = False
    alike_after: int | None = None

    def example(self, kind: Kind) -> AuditExample | None:
        """Return the example of a kind; None without one."""
        return next((item for item in self.examples if item.kind == kind), None)

    def document(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "lookahead": self.lookahead,
            "warmup": self.warmup,
            "deterministic": self.deterministic,
            "n_decisions": self.n_decisions,
            "reasons": dict(self.reasons),
            "warmup_effect": dict(self.effect) or None,
            "examples": [item.document() for item in self.examples],
        }


def untested(reason: str) -> AuditFindings:
    """Return the findings of a run that could not be audited."""
    return AuditFindings(reasons={"lookahead": reason, "warmup": reason})
