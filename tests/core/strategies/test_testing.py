"""The contract itself: what breaks a rule fails the test of that rule, with the reason."""

import inspect

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.testing import StrategyContract

TESTS = [name for name in vars(StrategyContract) if name.startswith("test_")]


class Momentum:
    """Keeps the contract; the strategies below break one rule each."""

    def target_weights(self, panel, decisions):
        changes = np.sign(panel.close.pct_change(5, fill_method=None).fillna(0.0))
        return changes.to_numpy()[decisions] / panel.n_assets


class NextBar(Momentum):
    def target_weights(self, panel, decisions):
        changes = panel.close.pct_change(fill_method=None).shift(-1)
        return changes.fillna(0.0).to_numpy()[decisions]


class WholeSampleMean(Momentum):
    def target_weights(self, panel, decisions):
        above = panel.close > panel.close.mean()
        return above.to_numpy(dtype=float)[decisions]


class Survivors(Momentum):
    def target_weights(self, panel, decisions):
        survives = panel.close.iloc[-1].notna().to_numpy()
        return np.where(survives, 0.1, 0.0) * np.ones((len(decisions), 1))


class RankAmongDecisions(Momentum):
    def target_weights(self, panel, decisions):
        weights = super().target_weights(panel, decisions)
        return weights / len(decisions)


class Unseeded(Momentum):
    def target_weights(self, panel, decisions):
        return np.random.default_rng().random((len(decisions), panel.n_assets))


class Remembering(Momentum):
    def __init__(self):
        self.asked = 0

    def target_weights(self, panel, decisions):
        self.asked += 1
        return super().target_weights(panel, decisions) * self.asked


class NotANumber(Momentum):
    def target_weights(self, panel, decisions):
        return panel.close.pct_change(5, fill_method=None).to_numpy()[decisions]


class OneRow(Momentum):
    def target_weights(self, panel, decisions):
        return super().target_weights(panel, decisions)[-1]


class Cash(Momentum):
    def target_weights(self, panel, decisions):
        return np.zeros((len(decisions), panel.n_assets))


class Overwriting(Momentum):
    def target_weights(self, panel, decisions):
        weights = super().target_weights(panel, decisions)
        panel.close["A"] = 1.0
        return weights


class HalfWarm(Momentum):
    warmup_bars = 2.5


class Unfit(Momentum):
    def fit(self, panel):
        return None


class FitPeeks(Momentum):
    """Learns nothing in ``fit`` but starts to peek after it."""

    fitted = False

    def fit(self, panel):
        self.fitted = True
        return self

    def target_weights(self, panel, decisions):
        return (NextBar() if self.fitted else Momentum()).target_weights(panel, decisions)


class Scaled(Momentum):
    """Learns from the training bars only."""

    scale = 1.0

    def fit(self, panel):
        self.scale = 1.0 / (1.0 + panel.close.iloc[:, 0].std())
        return self

    def target_weights(self, panel, decisions):
        return self.scale * super().target_weights(panel, decisions)


def failures(strategy):
    contract = type("Contract", (StrategyContract,), {"make_strategy": lambda self: strategy()})()
    messages = {}
    for name in TESTS:
        try:
            getattr(contract, name)()
        except AssertionError as error:
            messages[name] = str(error)
    return messages


@pytest.mark.parametrize("strategy", [Momentum, Scaled])
def test_a_strategy_that_keeps_the_contract_passes(strategy):
    assert failures(strategy) == {}


@pytest.mark.parametrize(
    ("strategy", "test", "message"),
    [
        (NextBar, "test_later_prices_do_not_matter", "the strategy peeks"),
        (WholeSampleMean, "test_later_prices_do_not_matter", "the strategy peeks"),
        (Survivors, "test_later_prices_do_not_matter", "the strategy peeks"),
        (RankAmongDecisions, "test_other_decisions_do_not_matter", "are asked for changed"),
        (Unseeded, "test_it_is_deterministic", "asking the same strategy again changed"),
        (Remembering, "test_it_is_deterministic", "asking the same strategy again changed"),
        (NotANumber, "test_weights_are_finite", "first at bar 0 for A: nan"),
        (
            OneRow,
            "test_weights_have_a_row_per_decision_and_a_column_per_asset",
            r"= (60, 8), but got (8,)",
        ),
        (Cash, "test_it_trades", "all weights are 0 on 400 bars"),
        (Overwriting, "test_it_leaves_the_prices_alone", "changed the field 'close'"),
        (HalfWarm, "test_warmup_bars_is_a_count", "`warmup_bars` must be an int >= 0, but got 2.5"),
        (Unfit, "test_fit_returns_the_strategy_and_keeps_the_contract", "return self"),
        (FitPeeks, "test_fit_returns_the_strategy_and_keeps_the_contract", "the strategy peeks"),
    ],
)
def test_a_strategy_that_breaks_a_rule_fails_its_test(strategy, test, message):
    assert message in failures(strategy)[test]


def test_make_strategy_must_be_given():
    with pytest.raises(NotImplementedError, match="StrategyContract must override make_strategy"):
        StrategyContract().make_strategy()


def test_the_market_has_a_late_start_an_early_end_and_every_field():
    contract = type("C", (StrategyContract,), {"make_strategy": lambda self: Momentum()})()
    market = contract.make_panel()
    gaps = market.close.isna()
    assert gaps["LATE"].tolist() == [True] * 60 + [False] * 340
    assert gaps["EARLY"].tolist() == [False] * 340 + [True] * 60
    assert not gaps.drop(columns=["LATE", "EARLY"]).to_numpy().any()
    assert set(market.fields) == {"open", "high", "low", "close", "volume"}
    assert (market.high >= market.close).to_numpy()[~gaps].all()
    assert market.fingerprint == contract.make_panel().fingerprint


def test_the_contract_needs_no_pytest():
    import backtest_batch.testing

    assert "import pytest" not in inspect.getsource(backtest_batch.testing).split('"""', 2)[2]


def market_with_everything(n_bars=300):
    rng = np.random.default_rng(4)
    days = pd.bdate_range("2020-01-01", periods=n_bars)
    names = list("ABC")
    close = pd.DataFrame(
        50 * np.exp(rng.normal(0, 0.02, (n_bars, 3)).cumsum(axis=0)), index=days, columns=names
    )
    return panel_from_frames(
        close,
        fields={"cap": close * rng.uniform(1, 2, close.shape)},
        members=pd.DataFrame(rng.random((n_bars, 3)) < 0.7, index=days, columns=names),
        features={"vix": pd.Series(rng.normal(size=n_bars), index=days)},
    )


class Ahead:
    """Uses what is beside the prices, with a lead of so many bars."""

    lead = 1

    def series(self, panel):
        raise NotImplementedError

    def target_weights(self, panel, decisions):
        known = np.asarray(self.series(panel), dtype=float).reshape(panel.n_bars, -1)
        later = np.minimum(decisions + self.lead, panel.n_bars - 1)
        return np.nan_to_num(known[later]) * np.full(panel.n_assets, 0.1)


class SeesFeatures(Ahead):
    def series(self, panel):
        return panel.features.vix


class SeesMembers(Ahead):
    def series(self, panel):
        return panel.members


class SeesFields(Ahead):
    def series(self, panel):
        return panel.frame("cap")


@pytest.mark.parametrize("kind", [SeesFeatures, SeesMembers, SeesFields])
def test_features_members_and_fields_of_later_bars_are_found_as_later_prices_are(kind):
    class Contract(StrategyContract):
        lead = 1

        def make_panel(self):
            return market_with_everything()

        def make_strategy(self):
            strategy = kind()
            strategy.lead = self.lead
            return strategy

    with pytest.raises(AssertionError, match="the strategy peeks"):
        Contract().test_later_prices_do_not_matter()
    Contract.lead = 0
    for name in TESTS:
        getattr(Contract(), name)()


class NeedsDividends(Momentum):
    required_fields = ("dividend",)

    def target_weights(self, panel, decisions):
        return np.nan_to_num(panel.fields["dividend"][decisions])


def test_the_market_has_the_fields_that_a_strategy_requires():
    assert failures(NeedsDividends) == {}
