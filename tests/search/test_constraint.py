"""A constraint is read, means what Python means, and refuses what it should not do."""

import itertools
import random
import re

import pytest

from backtest_batch.errors import ConfigurationError
from backtest_batch.search.constraint import (
    ABSENT,
    MOST_RULES,
    RuleError,
    parse_rule,
    parse_rules,
)

KEYS = {"a": 10, "b": 3, "c": 0.5, "n": None, "t": "M", "f": True}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("strategy.fast < strategy.slow", True),
        ("strategy.slow<strategy.fast", False),
        ("5 < strategy.fast <= 10 < strategy.slow", True),
        ("5 < strategy.fast < 10 < strategy.slow", False),
        ("strategy.slow % strategy.fast == 0 and strategy.slow // strategy.fast == 6", True),
        ("-strategy.fast + strategy.slow - 50 == 0", True),
        ("2 * strategy.fast ** 2 / 4 == 50", True),
        ("abs(strategy.fast - strategy.slow) >= 50", True),
        ("max(strategy.fast, 30) == min(30, strategy.slow)", True),
        ("round(commission_bps) == 0 and round(commission_bps, 1) == 0.5", True),
        ("rebalance == 'M'", True),
        ('rebalance in ["W", "M"]', True),
        ("rebalance not in ('W', 'M')", False),
        ("strategy.fast in [10, 20] or false", True),
        ("strategy.fast not in {10, 20}", False),
        ("rebalance < 'W'", True),
        ("strategy.on == true and strategy.on == True and strategy.on", True),
        ("not strategy.on or strategy.on is false", False),
        ("max_weight == null and max_weight is None and max_weight is not true", True),
        ("max_weight is not null", False),
        ("max_weight is null or max_weight > 0.5", True),
        ("max_weight is not null and max_weight > 0.5", False),
        ("(strategy.fast < 5\n or strategy.fast > 5)", True),
        ("strategy.levels == [1, 2]", True),
        ("strategy.fast != 'ten'", True),
        ("strategy.fast == 10.0", True),
    ],
)
def test_a_text_means_what_it_says(text, holds):
    values = {
        "strategy.fast": 10,
        "strategy.slow": 60,
        "strategy.on": True,
        "strategy.levels": [1, 2],
        "commission_bps": 0.5,
        "rebalance": "M",
        "max_weight": None,
    }
    rule = parse_rule(text)
    assert rule.holds(values) is holds
    assert rule.names <= values.keys()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a / (b - 3) > 1", "division by zero"),
        ("a % (b - b) > 1", "division by zero"),
        ("t < a", 'the text "M" and 10 have no order'),
        ("n < 1", "null and 1 have no order"),
        ("t + 'x' == 'Mx'", r'\+ needs numbers, but got the text "M"'),
        ("t * 1000000000 == t", r"\* needs numbers"),
        ("t % a == t", "% needs numbers"),
        ("-n == 1", "- needs numbers, but got null"),
        ("a and t", "and needs true or false, but got the text"),
        ("not t", "not needs true or false"),
        ("a", "it is 10, which is neither true nor false"),
        ("a + b", "it is 13, which"),
        ("'x' 'y' or a == 1", "or needs true or false"),
        ("a ** 10 ** 10 > 1", "too large"),
        ("9 ** 9 ** 9 > a", "too large"),
        ("10.0 ** a ** b > 1", "(?i)result too large|too large|out of range"),
        ("(-a) ** 0.5 > 1", "root of a negative number"),
        ("round(a, c) > 1", "round needs a whole number of digits"),
        ("a in [1, t * 2]", "needs numbers"),
    ],
)
def test_what_has_no_outcome_says_why(text, why):
    with pytest.raises(RuleError, match=why):
        parse_rule(text).holds(KEYS)


def test_what_is_not_needed_is_not_computed():
    assert not parse_rule("b > 3 and a / (b - 3) > 1").holds(KEYS)
    assert parse_rule("b == 3 or t < 1").holds(KEYS)


def test_a_key_that_a_run_lacks_excludes_it_from_nothing_but_where_it_is_not_needed():
    values = {"strategy": "mean_reversion", "strategy.fast": ABSENT, "strategy.slow": 5}
    assert parse_rule("strategy.fast < strategy.slow").holds(values)
    assert not parse_rule("strategy.slow > 5 and strategy.fast < 1").holds(values)
    assert not parse_rule("strategy == 'trend_baseline' and strategy.fast < 20").holds(values)
    assert parse_rule("strategy == 'mean_reversion' or strategy.fast < 20").holds(values)


ATTACKS = [
    "__import__('os').system('true') == 0",
    "().__class__.__bases__ == 1",
    "strategy.__class__ == 1",
    "strategy.fast.bit_length() > 2",
    "open('x') == 1",
    "(lambda: 1)() == strategy.fast",
    "[x for x in strategy.fast] == 1",
    "{x: 1 for x in strategy.fast} == 1",
    "(x for x in strategy.fast) == 1",
    "strategy.fast[0] == 1",
    "(strategy.fast := 5) < 3",
    "strategy.fast if strategy.slow else 1",
    "f'{strategy.fast}' == '5'",
    "b'5' == strategy.fast",
    "1j < strategy.fast",
    "... == strategy.fast",
    "*strategy.fast, 1 == 2",
    "min(*strategy.fast) < 3",
    "max(strategy.fast, key=abs) < 3",
    "strategy.fast << 1000000 > 1",
    "strategy.fast @ 2 == 1",
    "~strategy.fast == 1",
    "strategy.fast & 1",
    "{'a': 1} == strategy.fast",
    "await strategy.fast",
    "(yield strategy.fast)",
    "print(strategy.fast)",
    "eval('1') < strategy.fast",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_what_is_more_than_a_comparison_is_refused_readably(text):
    with pytest.raises(ConfigurationError, match=r"^constraint=") as caught:
        parse_rule(text)
    assert (
        "allowed" in str(caught.value)
        or "is no key" in str(caught.value)
        or "cannot be read" in (str(caught.value))
    )
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("strategy.fast = 5", "equality is written =="),
        ("strategy.fast && strategy.slow", "write and for &&"),
        ("a < 1 || b < 2", r"write or for \|\|"),
        ("a <> 1", "write != for <>"),
        ("strategy.fast <", "cannot be read"),
        ("strategy.fast < 'x", "cannot be read"),
        ("strategy.fast < 5; import os", "cannot be read"),
        ("import os", "cannot be read"),
        ("a\0b", "cannot be read"),
        ("1 < 2", "names no key"),
        ("true", "names no key"),
        ("'strategy.fast < strategy.slow'", "names no key"),
        ("9**9**9", "names no key"),
        ("a in b", "after `in` must stand a list"),
        ("a in 'abc'", "after `in` must stand a list"),
        ("a is b", "`is` compares with null, true and false"),
        ("abs(a, b) < 1", "abs takes one value"),
        ("min(a) < 1", "min takes several values"),
        ("a" * 10_000_000, "holds 10,000,000 characters; at most 2,000 are read"),
        ("(" * 900 + "a" + ")" * 900, "nested too deeply"),
        ("-" * 1_900 + "a < 1", "nested too deeply"),
        ("not " * 400 + "a", "nested too deeply"),
        ("+".join(["a"] * 900) + " < 1", "nested too deeply"),
        (5, 'must be a text such as "strategy.fast < strategy.slow"'),
        (True, "must be a text"),
        ({"a": 1}, "must be a text"),
        ([["a < 1"]], "must be a text"),
        (["a < 1"] * (MOST_RULES + 1), "at most 100 texts"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_rules(text)
    assert len(str(caught.value)) < 400


def test_one_text_a_list_and_nothing():
    assert parse_rules(None) == ()
    assert parse_rules([]) == ()
    assert [rule.text for rule in parse_rules("a < b")] == ["a < b"]
    assert [rule.text for rule in parse_rules(["a < b", "b < c"])] == ["a < b", "b < c"]


def test_any_outcome_is_pythons():
    """Random expressions over numbers and truth values, against Python's own evaluation."""
    draw = random.Random(1)
    compared = 0
    for _ in range(3_000):
        text = _expression(draw, 4)
        values = {name: draw.choice([0, 1, 2, 7, -3, 0.5, 2.5, True, False]) for name in "abcd"}
        try:
            expected = eval(text, {"__builtins__": {"abs": abs, "min": min, "max": max}}, values)
        except (ArithmeticError, TypeError):
            continue
        if isinstance(expected, bool) and re.search(r"\b[abcd]\b", text):
            assert parse_rule(text).holds(values) is expected, (text, values)
            compared += 1
    assert compared > 1_500


def _expression(draw, depth):
    if depth == 0:
        return draw.choice(["a", "b", "c", "d", "2", "0.5", "10"])
    below = [_expression(draw, depth - 1 - draw.randrange(2) if depth > 1 else 0) for _ in range(2)]
    return draw.choice(
        [
            "({} < {})", "({} <= {})", "({} == {})", "({} != {})", "({} > {})",
            "({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} // {})", "({} % {})",
            "(({0} < {1}) and ({1} > 1))", "(({0} < {1}) or ({1} == 2))", "(not ({} < {}))",
            "({} in [1, {}, 2.5])", "min({}, {})", "max({}, {})", "(abs({}) >= {})",
        ]
    ).format(*below)  # fmt: skip


def test_the_order_of_a_chain_is_that_of_python():
    for a, b, c in itertools.product(range(3), repeat=3):
        values = {"a": a, "b": b, "c": c}
        assert parse_rule("a < b <= c != a").holds(values) == (a < b <= c != a)
