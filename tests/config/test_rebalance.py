"""The texts of `rebalance`: what they say, and what is said of others."""

import pytest

from backtest_batch.config.checks import checked
from backtest_batch.config.rebalance import Rebalance, parse_rebalance
from backtest_batch.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bar", Rebalance(unit="bars", n=1)),
        ("bars:5", Rebalance(unit="bars", n=5)),
        ("15min", Rebalance(unit="s", n=900)),
        ("30s", Rebalance(unit="s", n=30)),
        ("4h", Rebalance(unit="s", n=14_400)),
        ("D", Rebalance(unit="D", n=1)),
        ("2W", Rebalance(unit="W", n=2)),
        ("W-WED", Rebalance(unit="W", n=1, last_weekday=2)),
        ("2W-FRI:start", Rebalance(unit="W", n=2, last_weekday=4, at_start=True)),
        ("M:start", Rebalance(unit="M", n=1, at_start=True)),
        ("Q", Rebalance(unit="M", n=3)),
        ("Y", Rebalance(unit="M", n=12)),
        ("6M", Rebalance(unit="M", n=6)),
    ],
)
def test_a_text_says_when_is_decided_and_is_its_own_spelling(text, expected):
    assert parse_rebalance(text) == expected
    assert str(parse_rebalance(text)) == text


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("bars:1", "bar"),
        ("bar:start", "bar"),
        ("bars:1:start", "bar"),
        ("60min", "1h"),
        ("3600s", "1h"),
        ("90min", "90min"),
        ("h", "1h"),
        ("24h", "D"),
        ("1D", "D"),
        ("d", "D"),
        ("1w", "W"),
        ("W-SUN", "W"),
        ("w-fri", "W-FRI"),
        ("1mo", "M"),
        ("3M", "Q"),
        ("12M", "Y"),
        ("4Q", "Y"),
        ("2Q", "6M"),
        ("24M", "2Y"),
        ("M:end", "M"),
        ("3M:start", "Q:start"),
        ("7D", "7D"),  # counted from a Thursday, and no week
    ],
)
def test_equal_periods_have_one_spelling(text, spelt):
    assert str(parse_rebalance(text)) == spelt
    assert str(parse_rebalance(spelt)) == spelt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("X", "must be one of bar, D, W, M, Q, Y"),
        ("", "must be one of"),
        ("0D", "its number must be >= 1"),
        ("bars:0", "its number must be >= 1"),
        ("36h", "longer ones are whole days, such as D, 2D or W"),
        ("15m", r"did you mean 15min \(minutes\) or 15M \(months\)\?"),
        ("ME", r"did you mean M\?"),
        ("MS", r"did you mean M:start\?"),
        ("3MS", r"did you mean 3M:start\?"),
        ("monthly", r"did you mean M\?"),
        ("2weeks", r"did you mean 2W\?"),
        ("15T", r"did you mean 15min\?"),
        ("hourly", r"did you mean 1h\?"),
        ("daily:start", r"did you mean D:start\?"),
        ("5", r"did you mean bars:5\?"),
        ("W-XYZ", "the days of a week are MON, TUE, WED, THU, FRI, SAT, SUN"),
        ("M-FRI", "must be one of"),
        ("D:begin", "must be one of"),
        ("1.5h", "must be one of"),
    ],
)
def test_what_says_nothing_is_refused_with_what_may_be_meant(text, said):
    with pytest.raises(ValueError, match=said):
        parse_rebalance(text)
    with pytest.raises(ConfigurationError, match=said):
        checked({"rebalance": text})
