import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from backtest_batch.compose.arguments import read_arguments
from backtest_batch.config.arguments import flatten, quote
from backtest_batch.errors import ConfigurationError

# `${` begins an interpolation and `???` is a missing value: whoever writes them means that.
text = st.text(
    st.characters(exclude_characters="\0$", codec="utf-8")
    | st.sampled_from(" .,:;=\"'\\()[]{}<>#&!~^|@%?*+-/_\t\n\r"),
).filter(lambda item: item != "???")
# Separated by tabs, which none of them holds.
words = st.sampled_from(
    [
        "null",
        "true",
        "False",
        "nan",
        "-inf",
        "1",
        "1.5",
        "1e-7",
        "1_000",
        ".5",
        "2020-01-01",
        "12:30",
        "~",
        "no",
        "on",
        "???x",
        "a.b",
        "BRK.B",
        "Größe",
        "it's",
        '"say"',
        "a\\",
        "\\",
        "[a]",
        "{a}",
        "#1",
        "😀",
        "S&P 500",
        "a: b",
        "a, b",
        "- a",
        "",
        " ",
        " a ",
        "\u2028",
        "\x85",
    ]
)
keys = st.from_regex(r"[a-z_][a-z_.]{0,8}", fullmatch=True) | words | text
numbers = st.integers() | st.floats(allow_nan=False) | st.sampled_from([1e-7, 1e22, -0.0, 5e-324])
plain = st.recursive(
    st.none() | st.booleans() | numbers | text | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=6,
)


def read_back(value):
    """Return what a configuration holds to which the text of the value was given."""
    override = OverridesParser.create().parse_override("key=" + quote(value))
    assert not override.is_sweep_override()
    config = OmegaConf.create({"key": None})
    OmegaConf.update(config, "key", override.value())
    return OmegaConf.to_container(config, resolve=True)["key"]


@given(plain)
@example({"S&P 500": {"BRK.B": [1e-7, None]}, "null": -0.0, "it's": "\\'"})
@example({1: "a", 2: {"Größe": True}})
@example({"a b": 1, "a=b": 2, "a:b": 3, "a.b": 4, "trailing ": 5})
def test_what_is_written_as_text_is_read_back_as_it_was(value):
    # Their texts tell 1 from 1.0 and from True, and -0.0 from 0.0.
    assert repr(read_back(value)) == repr(value)


def test_plain_keys_stay_readable():
    assert quote({"sharpe": 0.5, "a b": [1, "x"]}) == r"{sharpe:0.5,a\ b:[1,x]}"
    assert quote({"S&P": 1}) == r"""'${oc.create:"{\"S&P\": 1}"}'"""


@pytest.mark.parametrize(
    ("given", "leaves"),
    [
        ({"strategy": {"fast": 1, "a.b": 2}}, {"strategy.fast": 1, "strategy.a.b": 2}),
        (
            {"strategy": {"factors": {"momentum": 1, "value": 2}}},
            {"strategy.factors.momentum": 1, "strategy.factors.value": 2},
        ),
        (
            {"strategy": {"weights": {"BRK.B": 1, "AAPL": 2}}},
            {"strategy.weights": {"BRK.B": 1, "AAPL": 2}},
        ),
        ({"strategy.weights": {"BRK.B": 1}}, {"strategy.weights": {"BRK.B": 1}}),
        ({"strategy": {"levels": {1: "a"}}}, {"strategy.levels": {1: "a"}}),
        ({"strategy": {}}, {"strategy": {}}),
    ],
)
def test_names_become_paths_and_other_keys_do_not(given, leaves):
    assert dict(flatten(given)) == leaves


def test_parts_of_a_mapping_that_is_one_value_are_put_together():
    typed = ["benchmark._target_=my.Mix", "commission_bps=1", "benchmark.bonds=AGG"]
    asked = read_arguments(typed).merged()
    assert [item.key for item in asked.keys] == ["commission_bps", "benchmark"]
    assert asked.keys[-1].value == {"_target_": "my.Mix", "bonds": "AGG"}


def test_a_part_of_such_a_mapping_is_no_axis():
    with pytest.raises(ConfigurationError, match=r"benchmark\.bonds=A,B: a part of benchmark"):
        read_arguments(["benchmark.bonds=A,B"]).merged()
