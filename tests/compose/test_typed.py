"""Values as they reach a program when the shell has taken the quotes that were typed."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hypothesis import given
from hypothesis import strategies as st

from backtest_batch.compose.arguments import readable, typed_text
from backtest_batch.errors import ConfigurationError


def read(text):
    """Return what Hydra makes of a value that was typed; a tuple of a sweep."""
    (argument,) = readable([f"key={text}"])
    value = OverridesParser.create().parse_override(argument).value()
    if not isinstance(value, ChoiceSweep):
        return value
    return tuple(item.text if isinstance(item, QuotedString) else item for item in value.list)


@pytest.mark.parametrize(
    "text",
    [
        *";,:|\t^#&!~@%$*?<>=()[]{}'\"\\`",
        *("run#1", "profit & loss!", "a=b", "<5", "see (1, 2)", ":)", "50%", "$5", "a^b~c|d;e"),
        *("it's", "Größe", "交易", "🙂", "C:\\Käufe", "a\nb", "\\t", "S&P [500]"),
        *("metrics.sharpe > 0.5 and tags.suite = 'a, b'", 'say "so"', "a[1]", "f(x)", "'a' 'b'"),
    ],
)
def test_text_that_can_mean_one_thing_only_is_read_so(text):
    assert read(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[^GSPC]", ["^GSPC"]),
        ("[^GSPC, BRK.B ,'S&P']", ["^GSPC", "BRK.B", "S&P"]),
        ("^GSPC,^DJI", ("^GSPC", "^DJI")),
        ("1,Größe,null", (1, "Größe", None)),
        ("{max_drawdown: >= -0.3, trades: > 10}", {"max_drawdown": ">= -0.3", "trades": "> 10"}),
        ('{"sharpe": 0.5, "calmar": 0.5}', {"sharpe": 0.5, "calmar": 0.5}),
        ("[[1,2],{a: [3,;], b: {c: #}}]", [[1, 2], {"a": [3, ";"], "b": {"c": "#"}}]),
        ("${cash_rate} & more", "${cash_rate} & more"),
        # What Hydra reads stays as it is.
        ('"a, b"', "a, b"),
        ("1e-7", 1e-7),
        ("null", None),
        ("{a:1}", {"a": 1}),
        (r"a\,b", "a,b"),
        ("", ""),
        ("costs, exposure", ("costs", "exposure")),
    ],
)
def test_structure_is_kept(text, value):
    assert read(text) == value


def test_keys_of_a_mapping_that_hydra_cannot_write():
    assert read('{"S&P 500": 1, 2: [a, null]}') == (
        r'${oc.create:"{\"S&P 500\": 1, 2: [\"a\", null]}"}'
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("key=[a,b", "key=[a,b: [ is not closed"),
        ("key=a]", "key=a]: ] closes nothing"),
        ("key={a:1", "{ is not closed"),
        ("key=[1,2] 3", "3 follows ]"),
        ("key='abc", "the quote ' is not closed"),
        ('key=["a]', 'the quote " is not closed'),
        ("key=a,,b", "a value is missing before a comma"),
        ("key=0,1,", "a value is missing after the last comma"),
        ("key={a}", "a is in {} without a colon and a value"),
        ("key={a: }", "a has no value"),
        ("key={a: 1, a: 2}", "a is given twice"),
        ("key=range(1", "( is not closed"),
        ("key=range(a)", "is no range(start,stop,step) of numbers"),
        ("key=[1,range(3)]", "a sweep is inside a list or a mapping"),
        ("key", "key: is not key=value"),
        ("=", "'=': is not key=value; there must be no spaces around ="),
        ("a b=1", "a b: is not a known key"),
        ("é=1", "é: is not a known key"),
        ("--n-jobs=4", "--n-jobs: is not an option; keys are written without dashes: n_jobs=4"),
        ("--mode", "--mode: is not an option"),
        ("-x", "-x: is not an option"),
    ],
)
def test_what_is_at_fault_is_named(argument, said):
    with pytest.raises(ConfigurationError) as error:
        readable([argument])
    assert said in str(error.value)
    # No character is named that was not typed.
    reason = str(error.value).removeprefix(argument).partition(". To give it")[0]
    assert not {"<", ">", "^", "#", "~"} & set(reason)


def test_what_to_type_is_said_exactly():
    with pytest.raises(ConfigurationError) as error:
        readable(["description=[costs, exposure"])
    advice = str(error.value).partition(" write ")[2]
    assert advice == "'description=\"[costs, exposure\"'"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0$"), min_size=1))
def test_what_is_advised_is_that_text(text):
    (typed,) = shlex.split(typed_text("key", text))
    assert OverridesParser.create().parse_override(typed).value() == text


@given(st.text(st.sampled_from("ab1 ,:;=\"'\\()[]{}<>#&ö\t.$")))
def test_any_text_is_read_or_refused(text):
    try:
        (argument,) = readable([f"key={text}"])
    except ConfigurationError:
        return
    OverridesParser.create().parse_override(argument)


def test_spaces_around_the_equals_sign_of_one_argument_do_no_harm():
    assert readable(["seed = 3"]) == ["seed= 3"]
    assert OverridesParser.create().parse_override("seed= 3").value() == 3


@pytest.mark.parametrize(
    "query",
    [
        "select day, symbol, close from prices",
        "SELECT 'a, b', \"c\" from t where x in (1, 2) and y like '%z'",
        "with x as (select 1, 2)\nselect *\nfrom x",
        "from 'prices/*.parquet' select day, close",
    ],
)
def test_a_query_is_one_text_whose_commas_are_no_sweep(query):
    for key in ("data.query", "++data.query"):
        (argument,) = readable([f"{key}={query}"])
        assert OverridesParser.create().parse_override(argument).value() == query
    # With quotes of their own several are a sweep; other keys are read as ever.
    several = readable(["data.query='select 1, 2','select 3, 4'"])
    assert several == ["data.query='select 1, 2','select 3, 4'"]
    assert readable(["key=select a,b"]) == ["key=select a,b"]


def test_options_are_left_as_they_are():
    given = ["--config-dir", "my conf", "-m", "--cfg=job", "seed=1"]
    assert readable(given) == given
