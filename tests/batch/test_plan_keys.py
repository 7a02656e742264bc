"""Same run key, same result: what enters it, and what does not."""

import hashlib
import re
from pathlib import Path

import pytest

from backtest_batch.core.code import code_of, package_fingerprint

pytestmark = pytest.mark.usefixtures("working_dir")

SMALL = ("data=synthetic", "data.n_bars=200", "data.n_assets=3")


@pytest.fixture
def key(planned):
    def key(*arguments):
        # A key that is given twice is refused.
        given = {argument.partition("=")[0] for argument in arguments}
        usual = [item for item in SMALL if item.partition("=")[0] not in given]
        (run,) = planned(*usual, *arguments).runs
        assert re.fullmatch("[0-9a-f]{64}", run.run_key)
        return run.run_key

    return key


LABELS = [
    "batch_name=other",
    "description=words",
    "tags.suite=core",
    "n_jobs=1",
    "retries=3",
    "tracking.experiment=elsewhere",
    "rank_by=calmar",
    "top_n=3",
    "output_dir=somewhere",
    "fast_compose=false",
]
RESULTS = [
    "commission_bps=3",
    "seed=7",
    "rebalance=W",
    "strategy.fast=5",
    "strategy=equal_weight",
    "data.seed=3",
    "data.n_bars=150",
    "start_date=2000-06-01",
    "end_date=2000-08-01",
    "periods_per_year=365",
]


def test_labels_and_execution_do_not_change_a_run(key):
    assert {key(argument) for argument in ("seed=42", *LABELS)} == {key()}


def test_what_determines_results_does(key):
    keys = [key(), *(key(argument) for argument in RESULTS)]
    assert len(set(keys)) == len(keys)


def test_a_key_is_the_same_however_the_run_was_asked_for(key, planned):
    swept = planned(*SMALL, "-m", "commission_bps=1,2").runs[1]
    assert swept.run_key == key("commission_bps=2.0")
    assert planned(*swept.overrides).runs[0].run_key == swept.run_key


def test_a_run_of_an_experiment_is_repeated_by_its_own_arguments(planned):
    plan = planned("experiment=strategies", "data=synthetic", "data.n_bars=800", "start_date=null")
    assert [run.run_id for run in plan.runs] == [
        "trend",
        "trend_long_short",
        "reversion",
        "factors",
        "low_risk",
        "everything",
    ]
    for run in plan.runs:
        (again,) = planned(*run.overrides).runs
        assert again.run_key == run.run_key


MODULE = """
import {name}_maths
from {name}_maths import twice


class Held:
    def __init__(self, part: float = 1.0, seed: int | None = None):
        self.part = part

    def target_weights(self, panel, decisions):
        raise NotImplementedError
"""


def write_module(name):
    Path(f"{name}.py").write_text(MODULE.format(name=name))
    Path(f"{name}_maths.py").write_text("def twice(x):\n    return 2 * x\n")
    Path(f"{name}_other.py").write_text("unused = 1\n")
    return ("strategy=custom", f"strategy._target_={name}.Held")


def test_the_code_of_a_strategy_and_of_what_it_imports_is_part_of_the_key(key):
    held = write_module("keyed")
    first = key(*held)
    Path("keyed_other.py").write_text("unused = 2\n")
    assert key(*held) == first
    Path("keyed_maths.py").write_text("def twice(x):\n    return x + x\n")
    second = key(*held)
    assert second != first
    Path("keyed.py").write_text(Path("keyed.py").read_text() + "\nlimit = 3\n")
    assert key(*held) not in (first, second)


REWORDED = '''
"""A docstring."""
import {name}_maths  # a comment
from {name}_maths import (
    twice,
)


class Held:
    """Holds."""

    def __init__(
        self,
        part: float = 1.0,
        seed: (int | None) = None,
    ):
        """Nothing is checked."""
        self.part = part
        """The part."""

    def target_weights(self, panel, decisions): raise NotImplementedError
'''


def test_other_words_and_another_layout_are_no_change_of_code(key):
    held = write_module("worded")
    first = key(*held)
    Path("worded.py").write_text(REWORDED.format(name="worded"))
    assert key(*held) == first
    Path("worded_maths.py").write_text("# twice\ndef twice(x):\n  return (2*x)\n")
    assert key(*held) == first


def test_texts_that_are_data_are_code():
    same = code_of(b"def f(x):\n    'One word.'\n    return x['one']\n")
    assert code_of(b"def f(x):\n    'Two words.'\n    return x['one']\n") == same
    assert code_of(b'def f(x):\n    return x["one"]\n') == same
    assert code_of(b"def f(x):\n    return x['two']\n") != same
    assert len({code_of(b"x = 1"), code_of(b"x = 1.0"), code_of(b"x = True")}) == 3
    assert code_of(b"x = None") != code_of(b"x: None")
    assert code_of(b"x = -0.0") != code_of(b"x = 0.0")
    assert code_of(b"x = {**a, 'b': 1}") != code_of(b"x = {a: 'b'}")
    assert code_of(b"x = (1, 2)\ny = 3") != code_of(b"x = (1, 2, 3)\ny = 3")
    assert code_of(b"if a:\n  b\nc") != code_of(b"if a:\n  b\n  c")


def test_docstrings_that_a_module_asks_for_are_code():
    asks = b"'''{text}'''\nimport sys\nfast = int(__doc__.split()[1])\n"
    assert code_of(asks) != code_of(asks.replace(b"{text}", b"fast 20"))
    read = b"import inspect\n\ndef f():\n    'One.'\n\nname = inspect.getdoc(f)\n"
    assert code_of(read) != code_of(read.replace(b"One", b"Two"))


def test_what_is_no_python_counts_byte_for_byte_but_for_its_line_ends():
    assert code_of(b"fast = = 3\n# a") == code_of(b"fast = = 3\r\n# a")
    assert code_of(b"fast = = 3  # a") != code_of(b"fast = = 3  # b")
    assert code_of(b"\x00\x01") != code_of(b"\x00\x02")


def test_all_versions_of_python_make_the_same_of_a_source():
    source = r"""
from __future__ import annotations
import a.b as c, d
from .. import e
@c.wrapped(1, *d, key=2, **e)
async def f(x, /, y: int = 0x_ff, *rest, z=b"\xe4", **more) -> str | None:
    async with x as y, z:
        yield f"{x!r:>{y}} {y:.2f}{{}} {x=}" f"" "\N{LATIN SMALL LETTER E WITH ACUTE}ä" u"b"
    try:
        assert x[1:2, ..., ::3] is not None, "no"
    except* (TypeError, ValueError) as error:
        raise Error(f'{error:}') from None
    else:
        del x.y
    match x:
        case {"a": [1, *_, None], **rest} | Held(b=-1.5e300 + 2j) if (n := len(y)) > 0:
            global g; g **= 10 ** 5_000
        case _: pass
    return lambda *a, b=1: (yield), [i async for i in a if i], {**a, 1: {2}}
class A(B, metaclass=C):
    x: int
    y: "list[int]" = not 1 < x <= 3 and y or z
"""
    found = hashlib.sha256(code_of(source.encode())).hexdigest()
    assert found == "78098cb7a81be5042af50e4427a6ce7554007184ae119bff5eeaa7c38e699063"


def test_the_fingerprint_of_the_package_is_kept_for_its_bytes(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path))
    package_fingerprint.cache_clear()
    first = package_fingerprint()
    (kept,) = (tmp_path / "code").iterdir()
    assert kept.read_text() == first
    assert kept.stat().st_mode & 0o077 == 0 or (tmp_path / "code").stat().st_mode & 0o077 == 0
    for text in ("0" * 64, "no hash"):
        kept.write_text(text)
        package_fingerprint.cache_clear()
        # What is no hash is found again, and written.
        assert package_fingerprint() == (text if text[0] == "0" else first)
    assert kept.read_text() == first
    package_fingerprint.cache_clear()


def test_line_ends_are_no_change_of_code(key):
    held = write_module("ended")
    first = key(*held)
    Path("ended.py").write_bytes(Path("ended.py").read_bytes().replace(b"\n", b"\r\n"))
    assert key(*held) == first


def test_variants_of_costs_draw_the_same_numbers(planned):
    held = write_module("seeded")
    plan = planned(*SMALL, *held, "commission_bps=0,1", "max_gross_exposure=0.5,1", "seed=42")
    assert len({run.strategy_seed for run in plan.runs}) == 1
    other = planned(*SMALL, *held, "strategy.part=0.5,1.0", "rebalance=M,W", "seed=1,2")
    assert len({run.strategy_seed for run in other.runs}) == 8
    assert all(0 <= run.strategy_seed < 2**32 for run in other.runs)


def test_the_seed_is_derived_from_nothing_that_the_strategy_does_not_see(planned):
    held = write_module("derived")
    (first,) = planned(*SMALL, *held).runs
    (second,) = planned(*SMALL, *held, "batch_name=x", "cash_rate=0.01", "initial_capital=5").runs
    (third,) = planned(*SMALL, *held, "data.seed=9").runs
    assert first.strategy_seed == second.strategy_seed != third.strategy_seed


def test_the_same_prices_from_two_files_are_the_same_data(planned):
    text = "timestamp,A,B\n" + "".join(
        f"2020-01-{day:02d},{day},{day + 1}\n" for day in range(1, 29)
    )
    Path("one.csv").write_text(text)
    Path("two.csv").write_text(text)
    plan = planned("strategy=equal_weight", "data=csv", "data.path=one.csv,two.csv", "rebalance=W")
    assert len({run.data_fingerprint for run in plan.runs}) == 1
    assert len(plan.runs) == 2
