"""The audit of a strategy: it is asked again, of fewer bars.

Questions come in an order in which nothing that a process keeps can hide anything: first those that
show least of the future, the whole panel after them. Only then is the answer to the whole compared
with the run that is audited. What was kept from an earlier question shows there.

A difference alone accuses nobody. It must show up as well when later bars have other values (and
not just another number), and it must not rest on rounding: where the answer also changes with
prices that differ by one part in ten thousand million (or ten million, for what is computed in
single precision), it says nothing about the future.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.auditing.case import Case, StrategyAnswer
from backtest_batch.auditing.findings import (
    AuditExample,
    AuditFindings,
    AuditSettings,
    Kind,
    Lookahead,
    untested,
)
from backtest_batch.auditing.futures import (
    FINE_HAIR,
    FUTURES,
    HAIR,
    Future,
    bars_of_panel,
    first_priced,
    moved_by_a_hair,
    with_another_future,
)
from backtest_batch.core.data.bars import moment_text
from backtest_batch.errors import BacktestBatchError

SAME = 1e-8
"""Largest difference between weights, or returns, that count as equal."""

ROUNDING = 10.0
"""A difference counts if it is more than so many times what a hair's change of prices makes."""

MOST_VALUES = 4_000_000
"""Values of an answer that are kept for the comparison; of more, the last and some others."""

SINGLE = 1e-5
"""Share of the largest weight of a row that single precision may make."""

_HAIRS = (HAIR, HAIR, HAIR, HAIR, FINE_HAIR, FINE_HAIR)
_OF_ROWS = 0.9
_PART = 0.2
"""Share of the bars of which a strategy is asked first that took long in its run."""
_LATE_STARTS = 2
_CONFIRMED_CUTS = 3
_SAME_METRICS = 1e-9
_SAME_ALONE = 1e-6


def audit_case(case: Case, settings: AuditSettings) -> AuditFindings:
    """Audit a run.

    Parameters
    ----------
    case
        The run.
    settings
        Time, number of decisions, and what the run had found.

    Returns
    -------
    AuditFindings
        What could not be asked is ``untested``, with its reason.
    """
    return _Audit(case, settings).findings()


def sampled_cuts(case: Case, count: int, seed: int) -> IntArray:
    """Return bars after which the future is cut off, increasing, at most ``count``.

    The last and the first are always among them, and those just before late series begin, since
    values that are filled backwards show there alone; the others are drawn, one from each of as
    many stretches of equal length.
    """
    cuts = case.cuts
    if len(cuts) <= count:
        return cuts
    chosen = [int(cuts[-1]), int(cuts[0])]
    starts = np.unique(first_priced(case.panel))
    before = np.searchsorted(cuts, starts[np.isfinite(starts)], side="left") - 1
    chosen += [int(cuts[place]) for place in before[before >= 0][:_LATE_STARTS]]
    chosen = list(dict.fromkeys(chosen))[:count]
    numbers = np.random.default_rng([seed, len(cuts)])
    left = count - len(chosen)
    edges = np.linspace(0, len(cuts), left + 1)
    for low, high in itertools.pairwise(edges):
        chosen.append(int(cuts[min(int(numbers.uniform(low, high)), len(cuts) - 1)]))
    return np.unique(np.array(chosen, dtype=np.int64))


def middle_cut(case: Case) -> int:
    """Return the bar in the middle after which questions that are asked alone cut the future."""
    cuts = case.cuts
    return int(cuts[len(cuts) // 2])


def agrees(recorded: Mapping[str, float], found: Mapping[str, float]) -> bool:
    """Return whether metrics that both have are equal, but for rounding."""
    return all(
        math.isclose(recorded[name], value, rel_tol=_SAME_METRICS, abs_tol=1e-12)
        for name, value in found.items()
        if name in recorded
    )


Question = Literal["whole", "cut off"] | Future
"""What a strategy is asked that was imported for this question alone."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What came of one question that a strategy was asked before any other.

    Attributes
    ----------
    answer
        The answer to the whole panel, up to the bar in the middle.
    agrees
        Whether that is what the run had.
    example
        How another answer differs from it; None if it does not.
    failure
        Why there is no answer; empty if there is one.
    """

    answer: StrategyAnswer | None = None
    agrees: bool = False
    example: AuditExample | None = None
    failure: str = ""


AskAlone = Callable[[Question, StrategyAnswer | None], Alone]
"""Asks a question of a strategy that has kept nothing, and compares it with the whole answer."""


def audit_apart(ask: AskAlone) -> AuditFindings:
    """Audit a strategy that remembers what it was asked before: each question by itself."""
    whole = ask("whole", None)
    if whole.failure:
        return untested(f"asked again, it failed: {whole.failure}")
    if not whole.agrees:
        reason = "asked again, it gave an account with other results than in its run"
        return AuditFindings(deterministic=False, reasons={"lookahead": reason, "warmup": reason})
    remembers = {
        "warmup": "it remembers earlier questions",
        "deterministic": "it remembers earlier questions: asked of other bars in the same process "
        "before, it answers something else",
    }
    cut = ask("cut off", whole.answer)
    if cut.example is None and not cut.failure:
        return AuditFindings(
            lookahead="clean", deterministic=True, reasons=remembers, n_decisions=1
        )
    failure = cut.failure
    for future in FUTURES:
        other = ask(future, whole.answer)
        failure = failure or other.failure
        if other.example is not None:
            example = cut.example or other.example
            return AuditFindings(
                lookahead="found",
                deterministic=True,
                reasons=remembers,
                examples=(example,),
                n_decisions=1,
            )
    if failure:
        return replace(
            untested(f"it could not be asked with the future cut off: {failure}"),
            deterministic=True,
        )
    reason = "its answers depend on how many bars follow, and not on what these are"
    return AuditFindings(
        lookahead="clean",
        deterministic=True,
        reasons={"lookahead": reason, **remembers},
        n_decisions=1,
    )


def asked_alone(
    case: Case,
    settings: AuditSettings,
    question: Question,
    whole: StrategyAnswer | None,
    cut: int | None = None,
) -> Alone:
    """Ask one question of a strategy that was asked nothing before; None: cut in the middle."""
    cut = middle_cut(case) if cut is None else cut
    try:
        if question == "whole":
            answer = case.ask()
            kept = answer.until(cut).thinned(MOST_VALUES)
            return Alone(answer=kept, agrees=agrees(settings.recorded, case.metrics(answer)))
        assert whole is not None
        if question == "cut off":
            other = case.ask(bars_of_panel(case.panel, 0, cut + 1), last=cut)
        else:
            other = case.ask(with_another_future(case.panel, cut, question))
    except Exception as error:  # noqa: BLE001 - a strategy may raise anything
        return Alone(failure=_shown(error))
    rows, gaps = whole.gaps(other, cut)
    far = (gaps > _SAME_ALONE) & _beyond_single(gaps, whole, rows)
    if not far.any():
        return Alone()
    example = _example("lookahead", case, whole, rows, far, gaps, other)
    return Alone(example=replace(example, known=_after(case, cut, question == "cut off")))


def _after(case: Case, cut: int, cut_off: bool) -> str:
    stamp = moment_text(case.panel.index[cut])
    return f"when the bars after {stamp} {'are cut off' if cut_off else 'have other values'}"


class _Audit:
    """One audit while it is at work."""

    def __init__(self, case: Case, settings: AuditSettings) -> None:
        self._case = case
        self._settings = settings
        self._began = time.perf_counter()
        self._hair: FloatArray | None = None
        self._alike: int | None = None
        self._examples: list[AuditExample] = []
        self._reasons: dict[str, str] = {}

    def findings(self) -> AuditFindings:
        case = self._case
        if len(case.cuts) == 0:
            return untested("there is no decision after which a bar follows")
        cut_off: dict[int, StrategyAnswer] = {}
        failed: dict[int, str] = {}
        too_slow = self._is_too_slow(cut_off, failed)
        if too_slow:
            return untested(too_slow)
        self._cut_off(cut_off, failed)
        try:
            whole = case.ask()
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            return replace(
                untested(f"asked again, it raised {_shown(error)}"), remembers=bool(case.seconds)
            )
        again = self._again(whole)
        if again is not None:
            return again
        lookahead, n_decisions = self._lookahead(whole, cut_off, failed)
        warmup, effect = self._warmup(whole)
        return AuditFindings(
            lookahead=lookahead,
            warmup=warmup,  # type: ignore[arg-type]
            deterministic=True,
            reasons=self._reasons,
            examples=tuple(self._examples),
            n_decisions=n_decisions,
            effect=effect,
            alike_after=self._alike if lookahead == "clean" else None,
        )

    def _is_too_slow(self, answers: dict[int, StrategyAnswer], failed: dict[int, str]) -> str:
        """Return why the strategy is too slow for the budget; empty if it is not.

        If its run took too long, it is asked of a part of the bars: the run may have compiled, or
        imported a library.
        """
        case, budget = self._case, self._settings.budget_seconds
        total, known = case.panel.n_bars, self._settings.expected_seconds
        if 2 * known <= budget:
            return ""
        cuts = self._first_cuts()
        part = int(cuts[np.argmin(np.abs(cuts - _PART * total))])
        if known * (part + 1) / total <= budget:
            self._ask_until(part, answers, failed)
            if part in answers:
                known = case.expected_seconds(total) or known
        if 2 * known <= budget:
            return ""
        return (
            f"an answer takes about {known:.1f} s, and it would have to answer twice in "
            f"{budget:.1f} s (audit.budget_seconds)"
        )

    def _first_cuts(self) -> IntArray:
        """Return the first half of the cuts; the others follow where weights change."""
        settings = self._settings
        return sampled_cuts(self._case, max(1, math.ceil(settings.decisions / 2)), settings.seed)

    def _cut_off(self, answers: dict[int, StrategyAnswer], failed: dict[int, str]) -> None:
        """Ask with the future cut off, the longest future first."""
        cuts = [cut for cut in self._first_cuts().tolist() if cut not in answers]
        for cut in cuts:
            if cut == cuts[-1] or self._affords(cut + 1, reserve=2):
                self._ask_until(cut, answers, failed)

    def _ask_until(
        self, cut: int, answers: dict[int, StrategyAnswer], failed: dict[int, str]
    ) -> None:
        try:
            shown = bars_of_panel(self._case.panel, 0, cut + 1)
            answers[cut] = self._case.ask(shown, last=cut).thinned(MOST_VALUES)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            failed[cut] = _shown(error)

    def _affords(self, n_bars: int, reserve: float) -> bool:
        """Return whether a question fits into the budget, with so many of the whole after it."""
        case, settings = self._case, self._settings
        total = case.panel.n_bars
        whole = case.expected_seconds(total)
        whole = settings.expected_seconds if whole is None else whole
        needed = whole * (n_bars / total + reserve)
        return time.perf_counter() - self._began + needed <= settings.budget_seconds

    def _again(self, whole: StrategyAnswer) -> AuditFindings | None:
        """Return the findings on a strategy that does not repeat itself; None on any other."""
        case, recorded = self._case, self._settings.recorded
        if recorded:
            try:
                same = agrees(recorded, case.metrics(whole))
            except BacktestBatchError:
                same = False
            if same:
                return None
            reason = "asked again, it gave an account with other results than in its run"
            return AuditFindings(reasons={"lookahead": reason, "warmup": reason}, remembers=True)
        second = case.ask()
        rows, gaps = whole.gaps(second, case.panel.n_bars)
        far = _beyond(gaps, whole, rows)
        if not far.any():
            return None
        reason = "asked twice, it gave two answers"
        example = _example("determinism", case, whole, rows, far, gaps, second)
        return AuditFindings(
            deterministic=False,
            reasons={"lookahead": reason, "warmup": reason},
            examples=(replace(example, known="when it was asked again"),),
        )

    def _lookahead(
        self, whole: StrategyAnswer, answers: dict[int, StrategyAnswer], failed: dict[int, str]
    ) -> tuple[Lookahead, int]:
        """Compare what was answered before the whole panel was shown; ask on where it matters."""
        for cut in self._changes(whole, {*answers, *failed}):
            if not self._affords(cut + 1, reserve=1):
                break
            self._ask_until(cut, answers, failed)
        suspects = [cut for cut in sorted(answers) if self._differs(whole, answers[cut], cut)]
        unclear: list[int] = []
        for cut in _some(suspects):
            if self._turns_on_the_future(whole, cut, answers[cut], unclear):
                return "found", len(answers)
        tested = len(answers)
        for cut in _some(sorted(failed)):
            before = len(unclear)
            if self._turns_on_the_future(whole, cut, None, unclear):
                return "found", tested + 1
            tested += len(unclear) == before
        if tested == 0 or (suspects and len(unclear) >= len(_some(suspects))):
            error = next(iter(failed.values()), "it raises with other prices after the cut")
            self._reasons["lookahead"] = f"it could not be asked with the future cut off: {error}"
            return "untested", 0
        if suspects:
            said = "its answers depend on how many bars follow, and not on what these are"
            if self._alike is not None and not self._affords(self._case.panel.n_bars, reserve=5):
                self._alike = None
                said += "; a cache that gave them would not be noticed, for lack of time"
            self._reasons["lookahead"] = said
        return "clean", tested

    def _changes(self, whole: StrategyAnswer, known: set[int]) -> list[int]:
        """Return further cuts: the decisions at which the answer changes most."""
        wanted = self._settings.decisions - len(known)
        cuts = self._case.cuts
        rows = np.flatnonzero(np.isin(whole.bars, cuts, assume_unique=True))
        rows = rows[rows > 0]
        if wanted <= 0 or len(rows) == 0:
            return []
        moves = np.zeros(len(rows))
        values = whole.values
        for column in range(values.shape[1]):
            steps = np.abs(values[rows, column] - values[rows - 1, column])
            moves += np.nan_to_num(steps)
        order = np.argsort(-moves, kind="stable")
        chosen = [int(whole.bars[row]) for row in rows[order] if int(whole.bars[row]) not in known]
        return sorted(chosen[:wanted])

    def _differs(self, whole: StrategyAnswer, other: StrategyAnswer, cut: int) -> bool:
        rows, gaps = whole.gaps(other, cut)
        return bool(_beyond(gaps, whole, rows).any())

    def _turns_on_the_future(
        self, whole: StrategyAnswer, cut: int, cut_off: StrategyAnswer | None, unclear: list[int]
    ) -> bool:
        """Return whether other values after a cut change what was answered before, firmly."""
        panel, asked = self._case.panel, 0
        same = cut_off is not None
        for future in FUTURES:
            try:
                other = self._case.ask(with_another_future(panel, cut, future))
            except Exception:  # noqa: BLE001 - prices that no market had may break a strategy
                continue
            asked += 1
            rows, gaps = whole.gaps(other, cut)
            same &= not gaps.any()
            if not self._firm(whole, rows, gaps).any():
                continue
            shown = other
            if cut_off is not None:
                rows, gaps = whole.gaps(cut_off, cut)
                if not self._firm(whole, rows, gaps).any():
                    continue
                shown = cut_off
            firm = self._firm(whole, rows, gaps)
            known = _after(self._case, cut, shown is cut_off)
            example = _example("lookahead", self._case, whole, rows, firm, gaps, shown)
            self._examples.append(replace(example, known=known))
            return True
        if asked == 0:
            unclear.append(cut)
        elif same:
            self._alike = cut
        return False

    def _firm(self, whole: StrategyAnswer, rows: IntArray, gaps: FloatArray) -> Any:
        """Return where answers differ by more than rounding can make."""
        far = _beyond(gaps, whole, rows) & _beyond_single(gaps, whole, rows)
        if not far.any():
            return far
        if self._hair is None:
            self._hair = self._moved_by_a_hair(whole)
        firm = far & (gaps > ROUNDING * self._hair[rows])
        # A decision that rests on rounding turns with some hairs and not with others.
        return firm if 2 * firm.sum() >= far.sum() else np.zeros_like(far)

    def _moved_by_a_hair(self, whole: StrategyAnswer) -> FloatArray:
        moved = np.zeros(whole.values.shape)
        for number, hair in enumerate(_HAIRS):
            try:
                other = self._case.ask(moved_by_a_hair(self._case.panel, number, hair))
            except Exception:  # noqa: BLE001 - a strategy may raise anything
                continue
            rows, gaps = whole.gaps(other, self._case.panel.n_bars)
            moved[rows] = np.maximum(moved[rows], gaps)
        # Rounding that moves many rows may move each of them; flips of a few say nothing of others.
        finite = np.where(np.isfinite(moved), moved, 0.0)
        usual: FloatArray = np.maximum(moved, np.quantile(finite, _OF_ROWS, axis=0))
        return usual

    def _warmup(self, whole: StrategyAnswer) -> tuple[str, dict[str, float]]:
        """Compare answers with ``warmup_bars`` of history and with twice as many."""
        case = self._case
        place = self._shorter_history()
        if isinstance(place, str):
            self._reasons["warmup"] = place
            return "untested", {}
        first, short, long = place
        n_bars = case.panel.n_bars
        if not self._affords(2 * n_bars - short - long, reserve=0):
            self._reasons["warmup"] = "there was no time left (audit.budget_seconds)"
            return "untested", {}
        try:
            one = case.ask(bars_of_panel(case.panel, short, n_bars), start=short, first=first)
            # Of the whole history it has just been asked.
            two = whole
            if (first, long) != (case.first_bar, 0):
                two = case.ask(bars_of_panel(case.panel, long, n_bars), start=long, first=first)
            rows, gaps = two.gaps(one, n_bars)
            if not self._moves(gaps):
                return "ok", {}
            shaken = moved_by_a_hair(bars_of_panel(case.panel, long, n_bars), 1)
            other = case.ask(shaken, start=long, first=first)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            self._reasons["warmup"] = f"it could not be asked with less history: {_shown(error)}"
            return "untested", {}
        same, hair = two.gaps(other, n_bars)
        noise = np.zeros(two.values.shape)
        noise[same] = hair
        gaps[gaps <= ROUNDING * noise[rows]] = 0.0
        if not self._moves(gaps):
            return "ok", {}
        far = gaps.sum(axis=1) > self._settings.tolerance
        self._examples.append(self._of_warmup(one, two, rows, far, gaps, first - short))
        return "short", self._effect(one, two)

    def _moves(self, gaps: FloatArray) -> bool:
        """Return whether weights move by more than the tolerance, in the mean of all decisions."""
        return bool(len(gaps) and gaps.sum(axis=1).mean() > self._settings.tolerance)

    def _of_warmup(
        self,
        one: StrategyAnswer,
        two: StrategyAnswer,
        rows: IntArray,
        far: Any,
        gaps: FloatArray,
        history: int,
    ) -> AuditExample:
        everywhere = np.broadcast_to(far[:, None], gaps.shape)
        found = _example("warmup", self._case, two, rows, everywhere, gaps, one)
        given = "with twice as many" if history else "with the bars before it"
        known = f"with the {history} bars of history that warmup_bars={history} promises are enough"
        if not history:
            known = "without them, which warmup_bars=0 promises are not needed"
        return replace(found, given=given, known=known)

    def _shorter_history(self) -> tuple[int, int, int] | str:
        """Return the first bar to compare, and where the shorter and the longer history begin."""
        case, warmup = self._case, self._case.warmup_bars
        n_bars = case.panel.n_bars
        if case.splits:
            return "it is fitted in each split, on the training bars alone"
        first = max(case.first_bar, 2 * warmup)
        if case.conditions is not None:
            # What an account holds depends on when it began.
            first = case.first_bar
            if first <= warmup:
                return "there is no history before its warm-up"
        elif warmup == 0 and first == 0:
            first = n_bars // 4
        later = case.decisions[case.decisions >= first]
        if len(later) == 0 or first > n_bars - 3 or first == 0:
            return f"there are not twice as many bars as warmup_bars={warmup}, and some to compare"
        return first, first - warmup, max(0, first - 2 * warmup) if warmup else 0

    def _effect(self, one: StrategyAnswer, two: StrategyAnswer) -> dict[str, float]:
        """Return the annual return with the shorter and with the longer history."""
        names = ("annual_return", "annual_return_with_more_history")
        found = {}
        for name, answer in zip(names, (one, two), strict=True):
            try:
                measured = answer.account or self._case.simulated(answer)
                equity = measured.equity
            except BacktestBatchError:
                return {}
            years = (len(equity) - 1) / self._case.per_year
            growth = float(equity[-1] / equity[0])
            if years <= 0 or growth <= 0:
                return {}
            found[name] = float(growth ** (1.0 / years) - 1.0)
        return found


def _example(
    kind: Kind,
    case: Case,
    whole: StrategyAnswer,
    rows: IntArray,
    far: Any,
    gaps: FloatArray,
    other: StrategyAnswer,
) -> AuditExample:
    """Return the first row that differs, and of it the column that differs most."""
    place = int(np.flatnonzero(far.any(axis=1))[0])
    column = int(np.argmax(np.where(far[place], gaps[place], -1.0)))
    row = int(rows[place])
    bar = int(whole.bars[row])
    return AuditExample(
        kind=kind,
        timestamp=moment_text(case.panel.index[bar]),
        symbol=case.columns[column],
        value=float(whole.values[row, column]),
        other=float(other.values[int(np.searchsorted(other.bars, bar)), column]),
        known="",
    )


def _beyond(gaps: FloatArray, whole: StrategyAnswer, rows: IntArray) -> Any:
    scale = np.maximum(1.0, np.abs(np.nan_to_num(whole.values[rows])))
    return gaps > SAME * scale


def _beyond_single(gaps: FloatArray, whole: StrategyAnswer, rows: IntArray) -> Any:
    """Return where gaps are larger than single precision makes, beside the weights of the row."""
    values = whole.values
    largest = np.zeros(len(values))
    for column in range(values.shape[1]):
        largest = np.maximum(largest, np.abs(np.nan_to_num(values[:, column])))
    usual = float(np.median(largest)) if len(largest) else 0.0
    return gaps > SINGLE * np.maximum(largest[rows], usual)[:, None]


def _some(cuts: Sequence[int]) -> list[int]:
    """Return a few of some cuts, the first and the last among them."""
    if len(cuts) <= _CONFIRMED_CUTS:
        return list(cuts)
    places = np.linspace(0, len(cuts) - 1, _CONFIRMED_CUTS).astype(int)
    return [cuts[place] for place in places]


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
