import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.strategies import MeanReversion

# The last z-scores are -2/sqrt(3) = -1.155, +1.155, and 0/0.
CLOSES = {"LOW": [10, 10, 7], "HIGH": [10, 10, 13], "FLAT": [0.1, 0.1, 0.1]}


@pytest.mark.parametrize(
    ("entry_z", "direction", "expected"),
    [
        (1.0, "long_only", [1, 0, 0]),
        (1.0, "long_short", [0.5, -0.5, 0]),
        (1.2, "long_only", [0, 0, 0]),
        (1.2, "long_short", [0, 0, 0]),
    ],
)
def test_distance_by_hand(panel, entry_z, direction, expected):
    rule = MeanReversion(window=3, entry_z=entry_z, direction=direction)
    weights = rule.target_weights(panel(CLOSES), np.arange(3))
    np.testing.assert_array_equal(weights, [[0, 0, 0], [0, 0, 0], expected])
    assert rule.warmup_bars == 3


@pytest.mark.parametrize("direction", ["long_only", "long_short"])
def test_choice_against_pandas(market, direction):
    frame = pd.DataFrame(market.fields["close"])
    z = (frame - frame.rolling(20).mean()) / frame.rolling(20).std()
    signs = (z <= -1.5).astype(float)
    if direction == "long_short":
        signs -= (z >= 1.5).astype(float)
    expected = signs.div(signs.abs().sum(axis=1).clip(lower=1.0), axis=0)
    rule = MeanReversion(entry_z=1.5, direction=direction)
    found = rule.target_weights(market, np.arange(market.n_bars))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.any(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 1}, "`window >= 2` must hold, but got window=1."),
        ({"entry_z": 0.0}, "`0 < entry_z < inf` must hold, but got entry_z=0.0."),
        ({"entry_z": float("nan")}, "`0 < entry_z < inf` must hold, but got entry_z=nan."),
        (
            {"direction": "both"},
            "`direction` must be one of long_only, long_short, but got 'both'.",
        ),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match="must") as caught:
        MeanReversion(**arguments)
    assert str(caught.value) == message
