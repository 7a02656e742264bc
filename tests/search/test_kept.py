"""The combinations that are kept are those of the whole product that satisfy the constraint."""

import itertools
import random
import tracemalloc

import pytest

from backtest_batch.errors import ConfigurationError
from backtest_batch.search import grid as kept_grid
from backtest_batch.search.constraint import ABSENT, parse_rules
from backtest_batch.search.grid import Kept, Variable, kept_cells

VALUES = [
    [0, 1, 2, 3, 4],
    [10, 20, 30],
    [0.5, 1.0, -2.5, 3],
    [True, False],
    ["M", "W", "D"],
    [None, 0.5, 2],
    [1, "1", None, True],
]
TEXTS = [
    "{0} < {1}", "{0} <= {1} < {2}", "{0} != {1}", "{0} + {1} > {2}", "{0} * 2 - {1} >= 0",
    "{0} % 2 == 0 or {1} > 1", "abs({0} - {1}) < 2", "min({0} * 1, {1} * 1) == {0}",
    "not {0} == {1}",
    "{0} in [1, 2, 'M', null] or {1} == 0.5", "{0} == 'M' or {1} == 'W'", "{0} is not null",
    "{0} not in ['W', 10] and {1} != {2}", "{0} / 4 < {1} // 2 or {0} ** 2 > 8", "{0} == true",
]  # fmt: skip


class Text(str):
    """A text with which nothing is computed: a constraint only compares them."""

    def __add__(self, other):
        raise TypeError

    __mul__ = __mod__ = __add__


def _python(text: str) -> str:
    return text.replace("null", "None").replace("true", "True")


def _expected(rules, names, axes):
    """Filter the whole product by what Python makes of the texts; None where that fails."""
    found = []
    for cell in itertools.product(*map(range, map(len, axes))):
        values = {n: axis[i] for n, axis, i in zip(names, axes, cell, strict=True)}
        values |= {n: Text(value) for n, value in values.items() if isinstance(value, str)}
        scope = {"__builtins__": {"abs": abs, "min": min}}
        if all(eval(_python(rule), scope, values) for rule in rules):
            found.append(cell)
    return found


@pytest.mark.parametrize("few", [4_096, 2], ids=["as it is", "many at once"])
def test_the_kept_cells_are_those_of_a_filter_over_the_product(few, monkeypatch):
    monkeypatch.setattr(kept_grid, "_FEW", few)
    monkeypatch.setattr(kept_grid, "_BLOCK", 7)
    draw = random.Random(2)
    compared = kept = 0
    while compared < 200:
        axes = [draw.choice(VALUES) for _ in range(draw.randrange(1, 6))]
        names = [f"k{n}" for n in range(len(axes))]
        rules = [
            draw.choice(TEXTS).format(*(draw.choice(names) for _ in range(3)))
            for _ in range(draw.randrange(1, 4))
        ]
        variables = dict(zip(names, (Variable((i,), a) for i, a in enumerate(axes)), strict=True))
        try:
            expected = _expected(rules, names, axes)
        except TypeError:
            with pytest.raises(ConfigurationError, match="cannot be evaluated for k"):
                kept_cells([len(axis) for axis in axes], parse_rules(rules), variables)
            continue
        if not expected:  # then a rule may have been asked about what another leaves out
            continue
        found = kept_cells([len(axis) for axis in axes], parse_rules(rules), variables)
        assert list(found.positions()) == expected, (rules, axes)
        assert found.size == len(expected)
        wanted = draw.sample(range(len(axes)), draw.randrange(len(axes) + 1))
        projected = {tuple(cell[n] for n in sorted(wanted)) for cell in expected}
        assert found.count(wanted) == len(projected)
        compared += 1
        kept += len(expected)
    assert kept > 1_000


def test_ten_million_cells_are_counted_in_little_memory():
    sizes = [100, 100, 10, 10, 10]
    variables = {"fast": Variable((0,), range(100)), "slow": Variable((1,), range(100))}
    tracemalloc.start()
    found = kept_cells(sizes, parse_rules("fast < slow"), variables)
    assert found.size == 4_950_000
    assert found.n_cells == 10_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert next(found.positions()) == (0, 1, 0, 0, 0)


def test_ten_million_cells_of_one_rule_are_counted_by_blocks():
    n = 216
    variables = {name: Variable((at,), range(n)) for at, name in enumerate("abc")}
    tracemalloc.start()
    found = kept_cells([n, n, n], parse_rules("a < b < c or a == c"), variables)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.size == n * (n - 1) * (n - 2) // 6 + n * n
    assert peak < 100_000_000
    assert list(itertools.islice(found.positions(), 2)) == [(0, 0, 0), (0, 1, 0)]


def test_a_rule_is_only_asked_about_what_satisfies_those_before_it():
    variables = {"a": Variable((0,), [1, 2]), "b": Variable((1,), [0, 1])}
    found = kept_cells([2, 2], parse_rules(["b > 0", "a / b > 1"]), variables)
    assert list(found.positions()) == [(1, 1)]
    with pytest.raises(ConfigurationError, match="for a=1 b=0: division by zero; nothing was run"):
        kept_cells([2, 2], parse_rules(["a / b > 1", "b > 0"]), variables)


def test_large_whole_numbers_are_compared_exactly():
    large = 2**53
    variables = {"a": Variable((0,), [large, large + 1]), "b": Variable((1,), range(5_000))}
    found = kept_cells([2, 5_000], parse_rules(f"a + b - b == {large} + 1"), variables)
    assert found.size == 5_000


def test_a_variable_may_depend_on_several_dimensions_and_may_be_absent():
    values = [1, 2, 3, 4, ABSENT, 6]
    variables = {"x": Variable((0, 2), values), "y": Variable((1,), [2, 5])}
    found = kept_cells([2, 2, 3], parse_rules("x < y"), variables)
    assert list(found.positions()) == [
        (a, b, c)
        for a, b, c in itertools.product(range(2), range(2), range(3))
        if (x := values[a * 3 + c]) is ABSENT or x < [2, 5][b]
    ]


def test_without_rules_there_is_everything():
    assert list(Kept((2, 3)).positions()) == list(itertools.product(range(2), range(3)))
    assert Kept((2, 3)).size == 6
    assert Kept((10**9, 10**9)).size == 10**18


def test_too_many_cells_are_refused():
    variables = {name: Variable((at,), range(1_000)) for at, name in enumerate("abc")}
    with pytest.raises(ConfigurationError, match="span 1,000,000,000 combinations, and at most"):
        kept_cells([1_000] * 3, parse_rules("a < b < c"), variables)
    with pytest.raises(ConfigurationError, match="looked at one by one, at most 10,000,000"):
        kept_cells([300] * 3, parse_rules("a ** b < c"), variables)
