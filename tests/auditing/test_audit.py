"""Cheats are found and honest strategies are not accused; warm-up and repetition are looked at."""

import json
import time
from contextlib import contextmanager

import numpy as np
import pytest

from backtest_batch import strategies as shipped
from backtest_batch.auditing.audit import (
    Alone,
    asked_alone,
    audit_apart,
    audit_case,
    sampled_cuts,
)
from backtest_batch.auditing.findings import AuditSettings
from backtest_batch.core.splits import Split
from tests.auditing import strategies
from tests.auditing.cases import case_of, market

SHIPPED = (
    shipped.EqualWeight,
    shipped.InverseVolatility,
    shipped.MeanReversion,
    shipped.MultifactorLongShort,
    shipped.TrendBaseline,
)
GENEROUS = AuditSettings(budget_seconds=60)


@contextmanager
def seeded():
    np.random.seed(3)  # noqa: NPY002 - as a run does it
    yield


def audited(make, panel=None, *, settings=GENEROUS, **more):
    return audit_case(case_of(make, panel, in_state=seeded, **more), settings)


@pytest.mark.parametrize("cheat", strategies.CHEATS)
def test_a_cheat_is_found(cheat):
    found = audited(cheat)
    assert found.lookahead == "found"
    example = found.example("lookahead")
    assert example is not None
    assert example.value != example.other
    assert "when the bars after" in example.sentence
    assert example.symbol in example.sentence


@pytest.mark.parametrize("cheat", [strategies.TomorrowsReturn, strategies.FullSampleScore])
@pytest.mark.parametrize("rebalance", ["bar", "M"])
def test_a_cheat_is_found_however_often_it_decides(cheat, rebalance):
    assert audited(cheat, rebalance=rebalance).lookahead == "found"


def test_a_cheat_on_one_asset_that_seldom_trades_is_found():
    class BeforeTheCrossing:
        def target_weights(self, panel, decisions):
            close = panel.close
            crossed = (close.rolling(20).mean() > close.rolling(80).mean()).shift(-1)
            return crossed.fillna(False).to_numpy(float)[decisions]

    panel = market(n_assets=1)
    assert audited(BeforeTheCrossing, panel, rebalance="bar").lookahead == "found"


@pytest.mark.parametrize("honest", [*strategies.HONEST, *SHIPPED])
def test_an_honest_strategy_is_not_accused(honest):
    found = audited(honest)
    assert found.lookahead == "clean"
    assert found.n_decisions > 0
    assert found.deterministic is True
    assert found.example("lookahead") is None
    if found.alike_after is not None:
        case = case_of(honest, in_state=seeded)
        known = AuditSettings(recorded=case.metrics(case.ask()))

        def ask(question, whole):
            return asked_alone(case, known, question, whole, found.alike_after)

        assert audit_apart(ask).lookahead == "clean"


@pytest.mark.parametrize("strategy", SHIPPED)
def test_shipped_strategies_need_no_more_history_than_they_say(strategy):
    found = audited(strategy, market(n_bars=1500))
    assert found.warmup == "ok", found


def test_decisions_that_rest_on_rounding_are_no_accusation():
    found = audited(strategies.TransformedSign)
    assert found.lookahead == "clean"


class Peeks:
    """A class attribute, so that the same test can be honest or not."""

    bars = 0

    def fit(self, panel):
        return self

    def target_weights(self, panel, decisions):
        score = panel.close.pct_change(fill_method=None).shift(-self.bars)
        return strategies.spread(100.0 * score.iloc[decisions])


class PeeksOne(Peeks):
    bars = 1


@pytest.mark.parametrize(("make", "expected"), [(Peeks, "clean"), (PeeksOne, "found")])
def test_a_strategy_that_is_fitted_is_asked_as_the_run_asks(make, expected):
    splits = tuple(
        Split(
            number=number,
            train=(range(100 + 200 * number, 300 + 200 * number),),
            test=(range(300 + 200 * number, 500 + 200 * number),),
        )
        for number in range(3)
    )
    found = audited(make, splits=splits)
    assert found.lookahead == expected
    assert found.warmup == "untested"
    assert "fitted in each split" in found.reasons["warmup"]


def test_a_warmup_that_is_too_short_says_what_it_changes():
    class Impatient:
        warmup_bars = 20

        def target_weights(self, panel, decisions):
            mean = panel.close.rolling(400, min_periods=1).mean()
            return strategies.spread((20.0 * (panel.close / mean - 1.0)).iloc[decisions])

    found = audited(Impatient)
    assert (found.lookahead, found.warmup) == ("clean", "short")
    assert "with the 20 bars of history" in found.example("warmup").sentence
    assert set(found.effect) == {"annual_return", "annual_return_with_more_history"}
    assert found.effect["annual_return"] != found.effect["annual_return_with_more_history"]


def test_an_average_that_has_not_forgotten_a_few_first_weights_is_within_the_tolerance():
    found = audited(shipped.TrendBaseline, market(n_bars=700), rebalance="M")
    assert found.warmup == "ok"


def test_an_average_that_never_forgets_wholly_may_move_within_the_tolerance():
    strict = AuditSettings(budget_seconds=60, tolerance=0.0)
    assert audited(strategies.Ewm).warmup == "ok"
    assert audited(strategies.Ewm, settings=strict).warmup == "short"


def test_a_strategy_that_draws_lots_is_not_called_a_cheat():
    class Lots:
        def target_weights(self, panel, decisions):
            shape = (len(decisions), panel.n_assets)
            return strategies.spread(np.random.default_rng().normal(size=shape))

    found = audited(Lots)
    assert (found.lookahead, found.deterministic) == ("untested", False)
    assert found.example("determinism").value != found.example("determinism").other


def test_a_run_whose_metrics_come_out_otherwise_is_to_be_asked_apart():
    settings = AuditSettings(budget_seconds=60, recorded={"total_return": 123.0})
    found = audited(strategies.RollingRank, settings=settings)
    assert found.remembers
    assert found.lookahead == "untested"


def test_what_takes_too_long_is_untested_and_says_so():
    settings = AuditSettings(budget_seconds=0.1, expected_seconds=0.2)
    asked = []

    class Slow:
        def target_weights(self, panel, decisions):
            asked.append(panel.n_bars)
            time.sleep(panel.n_bars * 0.2 / 900)
            return np.full((len(decisions), panel.n_assets), 0.1)

    found = audited(Slow, settings=settings)
    assert (found.lookahead, found.warmup) == ("untested", "untested")
    assert "an answer takes about 0.2 s" in found.reasons["lookahead"]
    assert "audit.budget_seconds" in found.reasons["lookahead"]
    assert len(asked) == 1
    assert asked[0] < 400


def test_a_run_that_took_long_once_is_no_reason_not_to_ask():
    settings = AuditSettings(budget_seconds=5.0, expected_seconds=20.0)
    assert audited(strategies.TomorrowsReturn, settings=settings).lookahead == "found"


def test_a_strategy_that_needs_one_asset_is_asked_where_it_does_not_end():
    class ClosedOnOne:
        def backtest(self, panel, conditions):
            returns = panel.close["A"].pct_change(fill_method=None).iloc[1:].copy()
            if returns.isna().any():
                raise ValueError("A has no prices")
            returns.iloc[-1] -= 0.01
            return returns.iloc[conditions.first_bar :]

    found = audited(ClosedOnOne)
    assert found.lookahead == "clean"
    assert "how many bars follow" in found.reasons["lookahead"]


def test_a_small_budget_asks_of_fewer_decisions_and_always_of_the_last():
    settings = AuditSettings(budget_seconds=0.2, expected_seconds=0.05)
    asked = []

    class Slow:
        def target_weights(self, panel, decisions):
            asked.append(panel.n_bars)
            time.sleep(panel.n_bars * 0.05 / 900)
            return np.full((len(decisions), panel.n_assets), 0.1)

    found = audited(Slow, settings=settings)
    assert found.lookahead == "clean"
    assert 1 <= found.n_decisions < 12
    assert max(bars for bars in asked if bars < 900) > 890


def test_sampled_decisions_hold_the_first_the_last_and_those_before_a_late_start():
    case = case_of(strategies.RollingRank)
    cuts = sampled_cuts(case, 6, 1)
    assert len(cuts) <= 6
    assert cuts[0] == case.decisions[0]
    assert cuts[-1] == case.cuts[-1]
    assert case.decisions[case.decisions < 300][-1] in cuts
    assert list(cuts) == list(sampled_cuts(case, 6, 1))


def apart(make, settings):
    """Ask as a session does: each question of a class whose memory is empty."""

    def ask(question, whole):
        strategies.Remembers.means = None
        return asked_alone(case_of(make), settings, question, whole)

    return audit_apart(ask)


def recorded(make):
    strategies.Remembers.means = None
    case = case_of(make)
    return AuditSettings(budget_seconds=60, recorded=case.metrics(case.ask()))


def test_a_cache_that_remembers_the_future_is_found_by_questions_asked_apart():
    settings = recorded(strategies.Remembers)
    strategies.Remembers.means = None
    assert audited(strategies.Remembers, settings=settings).remembers
    found = apart(strategies.Remembers, settings)
    assert (found.lookahead, found.deterministic) == ("found", True)
    assert "when the bars after" in found.example("lookahead").sentence


@pytest.mark.parametrize("by", ["dates", "length"])
def test_a_cache_by_dates_or_length_that_holds_the_future_is_found_apart(by):
    kept = {}

    class KeptBySpan:
        def target_weights(self, panel, decisions):
            dates = (panel.symbols, panel.index[0], panel.index[-1])
            key = dates if by == "dates" else panel.n_bars
            if key not in kept:
                kept[key] = (panel.close.shift(-1) > panel.close).to_numpy()
            return kept[key][decisions] / panel.n_assets

    case = case_of(KeptBySpan)
    settings = AuditSettings(budget_seconds=60, recorded=case.metrics(case.ask()))
    kept.clear()
    cut = audited(KeptBySpan, settings=settings).alike_after
    assert cut is not None

    def ask(question, whole):
        kept.clear()
        return asked_alone(case_of(KeptBySpan), settings, question, whole, cut)

    assert audit_apart(ask).lookahead == "found"


def test_a_cache_of_what_was_known_is_not_accused():
    kept = {}

    class KeptBySymbol:
        warmup_bars = 60

        def target_weights(self, panel, decisions):
            key = panel.symbols
            if key not in kept:
                kept[key] = panel.close.pct_change(60, fill_method=None).to_numpy()
            places = np.minimum(decisions, len(kept[key]) - 1)
            return strategies.spread(kept[key][places])

    case = case_of(KeptBySymbol)
    settings = AuditSettings(budget_seconds=60, recorded=case.metrics(case.ask()))
    kept.clear()
    assert audited(KeptBySymbol, settings=settings).remembers

    def ask(question, whole):
        kept.clear()
        return asked_alone(case_of(KeptBySymbol), settings, question, whole)

    found = audit_apart(ask)
    assert (found.lookahead, found.deterministic) == ("clean", True)
    assert "remembers" in found.reasons["deterministic"]


def test_what_gives_another_account_in_each_process_is_untested():
    found = audit_apart(lambda _question, _whole: Alone(agrees=False))
    assert (found.lookahead, found.deterministic) == ("untested", False)


def test_findings_are_plain_values():
    found = audited(strategies.TomorrowsOpen)
    text = json.dumps(found.document(), allow_nan=False)
    assert json.loads(text)["lookahead"] == "found"
