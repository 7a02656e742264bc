"""Strategies for audits: cheats, each of which knows the future in one way, and honest ones."""

import numpy as np
import pandas as pd
from scipy.signal import fftconvolve


def spread(scores):
    """Return weights of shape (n_rows, n_assets) that rise with the scores, and sum to 1."""
    scores = np.nan_to_num(np.asarray(scores, dtype=float))
    weights = np.exp(np.clip(scores, -5.0, 5.0))
    return weights / weights.sum(axis=1, keepdims=True)


class TomorrowsReturn:
    """shift(-1): buys what will rise tomorrow."""

    def target_weights(self, panel, decisions):
        tomorrow = panel.close.pct_change().shift(-1)
        return spread(100.0 * tomorrow.iloc[decisions])


class TomorrowsSign:
    """Buys all that will rise; a signal of two values."""

    def target_weights(self, panel, decisions):
        rises = (panel.close.shift(-1) > panel.close).to_numpy()[decisions]
        return rises / panel.n_assets


class CentredWindow:
    """A rolling mean whose window is centred."""

    warmup_bars = 20

    def target_weights(self, panel, decisions):
        mean = panel.close.rolling(21, center=True, min_periods=1).mean()
        return spread((10.0 * (mean / panel.close - 1.0)).iloc[decisions])


class FullSampleScore:
    """A z-score with the mean and the deviation of the whole history."""

    def target_weights(self, panel, decisions):
        close = panel.close
        return spread(((close.mean() - close) / close.std()).iloc[decisions])


class BackFilled:
    """Closes that are filled backwards, so that a late series is priced before it begins."""

    def target_weights(self, panel, decisions):
        close = panel.close.bfill()
        return spread((close.div(close.sum(axis=1), axis=0) * 10.0).iloc[decisions])


class BackFilledSignal:
    """A rolling mean whose first values are filled backwards."""

    def target_weights(self, panel, decisions):
        mean = panel.close.rolling(120).mean().bfill()
        return spread((10.0 * (panel.close / mean - 1.0)).iloc[decisions])


class TomorrowsOpen:
    """Reads the open of the next bar; on the last one there is none."""

    def target_weights(self, panel, decisions):
        opened, close = panel.fields["open"], panel.fields["close"]
        return spread(50.0 * (opened[decisions + 1] / close[decisions] - 1.0))


class TomorrowsOpenShifted:
    """The same by shift(-1)."""

    def target_weights(self, panel, decisions):
        return spread((50.0 * (panel.open.shift(-1) / panel.close - 1.0)).iloc[decisions])


class FittedOnEverything:
    """A linear model whose coefficients come from all bars."""

    def target_weights(self, panel, decisions):
        returns = panel.close.pct_change().fillna(0.0).to_numpy()
        before, after = returns[:-1], returns[1:]
        coefficients = np.linalg.lstsq(before, after, rcond=None)[0]
        return spread(200.0 * returns[decisions] @ coefficients)


class Remembers:
    """A cache of the class: means of the panel that it saw first."""

    means = None

    def target_weights(self, panel, decisions):
        if Remembers.means is None:
            Remembers.means = panel.close.mean().to_numpy()
        return spread(Remembers.means / panel.fields["close"][decisions])


class WeeksByTheirFirstDay:
    """resample with the label on the left: the week's last close on the week's first day."""

    def target_weights(self, panel, decisions):
        weekly = panel.close.resample("W", label="left", closed="right").last()
        known = weekly.reindex(panel.index, method="ffill")
        return spread((50.0 * (known / panel.close - 1.0)).iloc[decisions])


class WeeksFilledBackwards:
    """resample with the label on the right, filled backwards to the days."""

    def target_weights(self, panel, decisions):
        weekly = panel.close.resample("W", label="right", closed="right").last()
        known = weekly.reindex(panel.index, method="bfill")
        return spread((50.0 * (known / panel.close - 1.0)).iloc[decisions])


class Survivors:
    """Holds only what still has a price on the last bar."""

    def target_weights(self, panel, decisions):
        alive = ~np.isnan(panel.fields["close"][-1])
        return np.tile(alive / alive.sum(), (len(decisions), 1))


class BestOfAll:
    """Holds the asset that has risen most when all is over."""

    def target_weights(self, panel, decisions):
        close = panel.close
        best = int((close.ffill().iloc[-1] / close.bfill().iloc[0]).to_numpy().argmax())
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, best] = 1.0
        return weights


class NextDecision:
    """Knows how prices change until its next decision."""

    def target_weights(self, panel, decisions):
        close = np.nan_to_num(panel.fields["close"][decisions], nan=1.0)
        change = np.zeros_like(close)
        change[:-1] = close[1:] / close[:-1] - 1.0
        return spread(20.0 * change)


class LaterFeature:
    """Reads a feature of the next bar."""

    def target_weights(self, panel, decisions):
        mood = panel.features["mood"].shift(-1).fillna(0.0).to_numpy()[decisions]
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, 0] = 0.5 + 0.1 * np.tanh(mood)
        return weights


class AccountOfTomorrow:
    """An account of its own that holds today what rises today."""

    def backtest(self, panel, conditions):
        returns = panel.close.pct_change(fill_method=None).fillna(0.0)
        return (
            returns.clip(lower=0.0)
            .mean(axis=1)
            .iloc[conditions.first_bar + 1 :]
            .shift(-1, fill_value=0.0)
        )


class MarketOfNextMonth:
    """Holds everything before the market as a whole rises."""

    def target_weights(self, panel, decisions):
        returns = panel.close.pct_change(fill_method=None).mean(axis=1).rolling(20).sum()
        held = (returns.shift(-20) > 0).to_numpy(float)[decisions]
        return np.repeat(held[:, None] / panel.n_assets, panel.n_assets, axis=1)


class Sceptical:
    """Knows tomorrow, and refuses prices that move too far."""

    def target_weights(self, panel, decisions):
        if (panel.close.pct_change(fill_method=None).abs() > 0.2).any(axis=None):
            raise ValueError("a return beyond 20 %")
        return (panel.close.shift(-1) > panel.close).to_numpy()[decisions] / panel.n_assets


class AccountFromItsLow:
    """An account that begins at the market's low, which only later bars make one."""

    def backtest(self, panel, conditions):
        returns = panel.close.pct_change(fill_method=None).mean(axis=1).iloc[1:]
        low = int(np.argmin((1.0 + returns).cumprod().to_numpy()[:-60]))
        return returns.iloc[low:]


CHEATS = (
    TomorrowsReturn,
    TomorrowsSign,
    CentredWindow,
    FullSampleScore,
    BackFilled,
    BackFilledSignal,
    TomorrowsOpen,
    TomorrowsOpenShifted,
    FittedOnEverything,
    WeeksByTheirFirstDay,
    WeeksFilledBackwards,
    Survivors,
    BestOfAll,
    NextDecision,
    LaterFeature,
    AccountOfTomorrow,
    MarketOfNextMonth,
    Sceptical,
    AccountFromItsLow,
)
"""Without :class:`Remembers`, which only shows in a process of its own."""


class Ewm:
    warmup_bars = 300

    def target_weights(self, panel, decisions):
        mean = panel.close.ewm(span=30).mean()
        return spread((10.0 * (panel.close / mean - 1.0)).iloc[decisions])


class Expanding:
    def target_weights(self, panel, decisions):
        close = panel.close
        score = (close - close.expanding().mean()) / close.expanding().std()
        return spread(score.iloc[decisions])


class RollingRank:
    warmup_bars = 60

    def target_weights(self, panel, decisions):
        past = panel.close.pct_change(60, fill_method=None)
        return spread(past.rank(axis=1, pct=True).iloc[decisions])


class Crossing:
    """A threshold of two rolling means."""

    warmup_bars = 50

    def target_weights(self, panel, decisions):
        fast, slow = (panel.close.rolling(n).mean() for n in (10, 50))
        return (fast > slow).to_numpy()[decisions] / panel.n_assets


class RefittedTree:
    """A tree of sklearn that is fitted again at every thirtieth decision on what is past."""

    warmup_bars = 100

    def __init__(self, seed: int = 3):
        self.seed = seed

    def target_weights(self, panel, decisions):
        from sklearn.tree import DecisionTreeRegressor

        returns = np.nan_to_num(panel.close.pct_change(fill_method=None).to_numpy())
        weights = np.zeros((len(decisions), panel.n_assets))
        model = None
        for row, bar in enumerate(decisions):
            if row % 30 == 0:
                known = returns[max(0, bar - 150) : bar + 1]
                model = DecisionTreeRegressor(max_depth=3, max_features=2, random_state=self.seed)
                model.fit(known[:-1], known[1:])
            weights[row] = spread(100.0 * model.predict(returns[bar : bar + 1]))[0]
        return weights


class RefittedLine:
    """Least squares on an expanding window at each decision."""

    warmup_bars = 30

    def target_weights(self, panel, decisions):
        returns = np.nan_to_num(panel.close.pct_change(fill_method=None).to_numpy())
        rows = []
        for bar in decisions:
            known = returns[: bar + 1]
            coefficients = np.linalg.lstsq(known[:-1], known[1:], rcond=None)[0]
            rows.append(spread(100.0 * (returns[bar] @ coefficients)[None])[0])
        return np.array(rows)


class Stateful:
    """Holds what it bought until that has fallen by a tenth; looks from decision to decision."""

    def target_weights(self, panel, decisions):
        close = np.nan_to_num(panel.fields["close"], nan=1.0)
        held, entry, rows = None, 0.0, []
        for bar in decisions:
            if held is None or close[bar, held] < 0.9 * entry:
                held = int(np.argmax(close[bar] / close[max(0, bar - 20)]))
                entry = close[bar, held]
            rows.append(np.eye(panel.n_assets)[held])
        return np.array(rows)


class SeededNoise:
    """Random weights, one row a decision, from the seed of the run."""

    def __init__(self, seed: int = 7):
        self.seed = seed

    def target_weights(self, panel, decisions):
        numbers = np.random.default_rng(self.seed)
        return spread(numbers.normal(size=(len(decisions), panel.n_assets)))


class NoiseForEachAsset:
    """Random numbers for all bars of one asset after the other: later bars shift them."""

    def __init__(self, seed: int = 7):
        self.seed = seed

    def target_weights(self, panel, decisions):
        numbers = np.random.default_rng(self.seed)
        noise = np.column_stack([numbers.normal(size=panel.n_bars) for _ in panel.symbols])
        return spread(noise[decisions])


class GlobalNoise:
    """The global generator, which the run seeds."""

    def target_weights(self, panel, decisions):
        numbers = np.random.normal(size=(len(decisions), panel.n_assets))  # noqa: NPY002
        return spread(numbers)


class Cumulated:
    """Differences of cumulative sums, with the noise of rounding."""

    warmup_bars = 40

    def target_weights(self, panel, decisions):
        returns = np.nan_to_num(panel.close.pct_change(fill_method=None).to_numpy())
        total = np.cumsum(returns, axis=0)
        score = total[decisions] - total[np.maximum(decisions - 40, 0)]
        return spread(10.0 * score)


class Transformed:
    """A causal filter by Fourier transform: its rounding depends on how many bars there are."""

    warmup_bars = 30

    def target_weights(self, panel, decisions):
        from scipy.signal import fftconvolve

        returns = np.nan_to_num(panel.close.pct_change(fill_method=None).to_numpy())
        smooth = fftconvolve(returns, np.ones((30, 1)) / 30.0)[: len(returns)]
        return spread(200.0 * smooth[decisions])


class TransformedSign:
    """The sign of a filter that is 0 but for rounding: nothing firm to go by."""

    def target_weights(self, panel, decisions):
        from scipy.signal import fftconvolve

        returns = np.nan_to_num(panel.close.pct_change(fill_method=None).to_numpy())
        kernel = np.zeros((40, 1))
        kernel[0], kernel[1] = 1.0, 0.5
        direct = returns + 0.5 * np.vstack([np.zeros((1, panel.n_assets)), returns[:-1]])
        rounding = fftconvolve(returns, kernel)[: len(returns)] - direct
        return (rounding[decisions] > 0.0) / panel.n_assets


class Volatility:
    warmup_bars = 60

    def target_weights(self, panel, decisions):
        deviation = panel.close.pct_change(fill_method=None).rolling(60).std().iloc[decisions]
        inverse = np.nan_to_num(1.0 / deviation.to_numpy())
        return inverse / np.maximum(inverse.sum(axis=1, keepdims=True), 1e-12)


class Monthly:
    """Month-end closes of months that are over."""

    warmup_bars = 70

    def target_weights(self, panel, decisions):
        monthly = panel.close.resample("ME").last()
        known = monthly.shift(1).reindex(panel.index, method="ffill")
        return spread((5.0 * (panel.close / known - 1.0)).iloc[decisions])


class LastDayOfTheWeek:
    """Trades at the end of weeks: the calendar of the market is known beforehand."""

    def target_weights(self, panel, decisions):
        week = panel.index.isocalendar().week.to_numpy()
        ends = np.append(week[1:] != week[:-1], True)[decisions]
        weights = np.full((len(decisions), panel.n_assets), 0.5 / panel.n_assets)
        weights[ends] *= 2.0
        return weights


class ByLabel:
    """A DataFrame by labels, with some of the symbols."""

    warmup_bars = 5

    def target_weights(self, panel, decisions):
        chosen = panel.close[list(panel.symbols[:2])]
        score = (chosen.rolling(5).mean() / chosen).iloc[decisions].fillna(0.0)
        return 0.4 * score.clip(0.5, 1.5)


class OldFeature:
    def target_weights(self, panel, decisions):
        mood = panel.features["mood"].rolling(5, min_periods=1).mean().fillna(0.0)
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, 0] = 0.5 + 0.1 * np.tanh(mood.to_numpy()[decisions])
        return weights


class NeedsManyBars:
    """Refuses a short panel, as a careful strategy may."""

    warmup_bars = 50

    def target_weights(self, panel, decisions):
        if panel.n_bars < 600:
            raise ValueError("at least 600 bars are needed")
        return RollingRank().target_weights(panel, decisions)


class Memoised:
    """Keeps what it worked out by the fingerprint of the panel."""

    kept: dict = {}
    warmup_bars = 60

    def target_weights(self, panel, decisions):
        if panel.fingerprint not in self.kept:
            self.kept[panel.fingerprint] = panel.close.pct_change(60, fill_method=None)
        return spread(self.kept[panel.fingerprint].iloc[decisions])


class HonestAccount:
    """An account of its own, with the returns of what it chose the day before."""

    warmup_bars = 20

    def backtest(self, panel, conditions):
        returns = panel.close.pct_change(fill_method=None).fillna(0.0)
        weights = spread(10.0 * returns.rolling(20).mean())
        earned = (pd.DataFrame(weights, panel.index).shift(1) * returns.to_numpy()).sum(axis=1)
        return earned.iloc[conditions.first_bar + 1 :]


class ClosedAtTheEnd:
    """Sells everything on the last bar and pays for it, as some libraries do."""

    def backtest(self, panel, conditions):
        returns = panel.close.pct_change(fill_method=None).fillna(0.0).mean(axis=1)
        returns.iloc[-1] -= 0.01
        return returns.iloc[conditions.first_bar + 1 :]


class SinglePrecision:
    """A mean by a Fourier transform in single precision, which rests a little on all bars."""

    def target_weights(self, panel, decisions):
        prices = panel.close.ffill().fillna(1.0).to_numpy(np.float32)
        kernel = np.ones((20, 1), np.float32) / np.float32(20)
        mean = fftconvolve(prices, kernel, axes=0)[: len(prices)]
        return np.clip(10 * (prices / np.maximum(mean, 1) - 1), -1, 1)[decisions] / panel.n_assets


class AccountOfThePriced:
    """An account that begins when all assets are priced."""

    def backtest(self, panel, conditions):
        began = int(panel.close.notna().to_numpy().argmax(axis=0).max())
        return panel.close.pct_change(fill_method=None).mean(axis=1).iloc[began + 1 :]


HONEST = (
    Ewm,
    Expanding,
    RollingRank,
    Crossing,
    RefittedTree,
    RefittedLine,
    Stateful,
    SeededNoise,
    NoiseForEachAsset,
    GlobalNoise,
    Cumulated,
    Transformed,
    TransformedSign,
    Volatility,
    Monthly,
    LastDayOfTheWeek,
    ByLabel,
    OldFeature,
    NeedsManyBars,
    Memoised,
    HonestAccount,
    ClosedAtTheEnd,
    SinglePrecision,
    AccountOfThePriced,
)
