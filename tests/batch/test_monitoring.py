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
    assert found["n_bars"] == N - N_OLD
    assert found["since"] == str(INDEX[N_OLD - 1].date())
    assert not [note for note in found.notes if "not those recorded" in note]
