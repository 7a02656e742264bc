"""Winners of all kinds on newer data: a seed that stays, own accounts and data, further splits."""

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb

N_OLD, N = 500, 640
INDEX = pd.bdate_range("2015-01-01", periods=N, name="date")
STRATEGIES = '''
import numpy as np
import pandas as pd


class Draws:
    """Weights by chance."""

    def __init__(self, n: int = 1, seed: int = 0):
        self.seed = seed

    def target_weights(self, panel, decisions):
        weights = np.random.default_rng(self.seed).random((len(decisions), panel.n_assets))
        return weights / weights.sum(axis=1, keepdims=True)


class Fits:
    """What has risen most in the training window."""

    def __init__(self, n: int = 1):
        self.best = 0

    def fit(self, panel, start=None, stop=None, **others):
        closes = panel.fields["close"]
        self.best = int(np.argmax(closes[-1] / closes[-50]))

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, self.best] = 1.0
        return weights


def account(panel, conditions, n: float = 1.0):
    closes = panel.fields["close"]
    returns = pd.Series((closes[1:] / closes[:-1] - 1).mean(axis=1), index=panel.index[1:])
    return n * returns.iloc[20:]


def alone(n: float = 1.0):
    return n * pd.read_csv("own.csv", index_col=0, parse_dates=True).iloc[:, 0]
'''


def closes():
    noise = np.random.default_rng(4).standard_normal((N, 3))
    prices = 100 * np.exp((0.0004 + 0.01 * noise).cumsum(axis=0))
    return pd.DataFrame(prices, index=INDEX, columns=list("ABC"))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Draws", {}),
        pytest.param("account", {}, marks=pytest.mark.slow),
        pytest.param(
            "Fits",
            {"walk_forward": "expanding", "walk_forward.train_size": 252},
            marks=pytest.mark.slow,
        ),
        ("alone", {"data": "none", "data.files": ["own.csv"]}),
    ],
)
def test_on_the_bars_of_the_batch_the_winner_is_what_it_was(with_store, name, keys):
    (with_store / "followed_strategies.py").write_text(STRATEGIES)
    prices = closes()
    own = prices.mean(axis=1).pct_change().dropna()
    own[: N_OLD - 1].to_csv("own.csv")
    prices[:N_OLD].to_csv("prices.csv")
    data = keys or {}
    if "data" not in data:
        data = {"data": "csv", "data.path": "prices.csv", **data}
    outcome = bb.run_sweep(
        {"strategy.n": [1, 2]},
        strategy="custom",
        n_jobs=1,
        **{"strategy._target_": f"followed_strategies.{name}", **data},
    )
    assert outcome.exit_code == 0
    own.to_csv("own.csv")
    newer = None if name == "alone" else prices
    found = bb.holds_or_broken(outcome, newer)
    assert found["n_restated_returns"] == 0
    # Bars after the last test window, and the one before it, may be fitted for again.
    not_yet = 9 if name == "Fits" else 0
    assert found["n_bars"] == N - N_OLD - not_yet
    assert bool([note for note in found.notes if "9 new bars do not count yet" in note]) == (
        name == "Fits"
    )
    assert found["since"] == str(INDEX[N_OLD - 1].date())
    assert not [note for note in found.notes if "not those recorded" in note]


def test_what_a_fit_may_still_change_does_not_count(with_store):
    (with_store / "followed_strategies.py").write_text(STRATEGIES)
    prices = closes()
    prices[:N_OLD].to_csv("prices.csv")
    outcome = bb.run_sweep(
        {"strategy.n": [1, 2]},
        strategy="custom",
        n_jobs=1,
        data="csv",
        walk_forward="rolling",
        **{
            "strategy._target_": "followed_strategies.Fits",
            "data.path": "prices.csv",
            "walk_forward.train_size": 120,
            "walk_forward.min_train_size": 100,
            "walk_forward.test_size": 60,
            "walk_forward.min_test_size": 40,
            "walk_forward.max_splits": 2,
        },
    )
    assert outcome.exit_code == 0
    whole = bb.holds_or_broken(outcome, prices).curve.set_index("timestamp")
    counted = set()
    for n_bars in (525, 545, 570, 600, 605):
        then = bb.holds_or_broken(outcome, prices[:n_bars])
        curve = then.curve.set_index("timestamp")
        counted.add(n_bars - N_OLD - len(curve))
        names = ["net_return", "evalue_holds", "evalue_broken"]
        pd.testing.assert_frame_equal(curve[names], whole.loc[curve.index, names])
    assert max(counted) > 1


def hourly(n_days):
    """Closes at 10:00 to 16:00 of weekdays."""
    days = pd.bdate_range("2022-01-03", periods=n_days)
    index = pd.DatetimeIndex([day + pd.Timedelta(hours=10 + n) for day in days for n in range(7)])
    noise = np.random.default_rng(3).standard_normal((len(index), 2))
    drift = np.where(np.arange(len(index)) < 100 * 7, 0.0002, -0.0006)[:, None]
    prices = 100 * np.exp((drift + 0.002 * noise).cumsum(axis=0))
    return pd.DataFrame(prices, index=index.rename("timestamp"), columns=["X", "Y"])


def swept(prices):
    prices.to_csv("prices.csv")
    outcome = bb.run_sweep(
        {"commission_bps": [1, 2]},
        strategy="equal_weight",
        data="csv",
        n_jobs=1,
        benchmark="none",
        **{"data.path": "prices.csv"},
    )
    assert outcome.exit_code == 0
    return outcome


def test_a_session_counts_when_it_has_ended(with_store):
    prices = hourly(110)
    outcome = swept(prices[: 100 * 7])
    prices.iloc[105 * 7 + 3] *= 0.7  # in the middle of a day, and taken back within it
    ended = bb.holds_or_broken(outcome, prices[: 105 * 7])
    within = bb.holds_or_broken(outcome, prices[: 105 * 7 + 4])
    assert within["evalue"] == ended["evalue"]
    assert (within["n_returns"], within["last_bar"]) == (5, ended["last_bar"])
    assert "4 new bars do not count yet: the session that began at 2022-05-30" in str(within.notes)
    next_day = bb.holds_or_broken(outcome, prices[: 106 * 7])
    assert next_day["n_returns"] == 6
    assert "do not count yet" not in str(next_day.notes)
    # A short day counts once the next one has begun.
    short = prices.drop(prices.index[105 * 7 + 4 : 106 * 7])
    assert bb.holds_or_broken(outcome, short[: 105 * 7 + 5])["n_returns"] == 6
    with pytest.raises(bb.ConfigurationError, match="no new bars that count"):
        bb.holds_or_broken(outcome, prices[: 100 * 7 + 3])


def test_a_year_has_as_many_bars_as_in_the_batch_and_its_end_is_not_moved(with_store):
    weekdays = closes()[:200]
    outcome = swept(weekdays)
    more = pd.date_range(weekdays.index[-1] + pd.Timedelta("1D"), periods=600, name="date")
    noise = np.random.default_rng(5).standard_normal((600, 3))
    later = weekdays.iloc[-1].to_numpy() * np.exp((0.01 * noise - 0.001).cumsum(axis=0))
    newer = pd.concat([weekdays, pd.DataFrame(later, index=more, columns=list("ABC"))])
    whole = bb.holds_or_broken(outcome, newer)
    early = bb.holds_or_broken(outcome, newer[:300])
    assert whole["settings"]["periods_per_year"] == early["settings"]["periods_per_year"] == 252.0
    assert whole.curve["evalue_broken"][:100].tolist() == early.curve["evalue_broken"].tolist()
    last = weekdays.index[-1].date()
    assert bb.holds_or_broken(outcome, newer, since=str(last))["evalue"] == whole["evalue"]
    with pytest.raises(bb.ConfigurationError, match=f"ended at {last}, as its returns say"):
        bb.holds_or_broken(outcome, newer, since=str(more[50].date()))
