"""Every combination is checked before the first run, and all faults are told at once."""

from pathlib import Path

import pytest

from backtest_batch.config.rebalance import ALLOWED_PERIODS
from backtest_batch.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("working_dir")

SMALL = ("data=synthetic", "data.n_bars=200", "data.n_assets=3")
WAY_OUT = (
    "Take out the values that fit in no combination, or list the combinations that are valid: "
    "`runs` in a batch file."
)


@pytest.fixture
def faults(planned):
    def faults(*arguments):
        given = {item.partition("=")[0] for item in arguments}
        small = [item for item in SMALL if item.partition("=")[0] not in given]
        with pytest.raises(ConfigurationError) as caught:
            planned(*small, *arguments)
        return caught.value

    return faults


def test_all_faulty_combinations_are_listed_with_key_value_and_what_is_allowed(faults):
    error = faults("-m", "commission_bps=-1,0,abc", "max_gross_exposure=0,1", "strategy.fast=20,70")
    assert str(error).splitlines() == [
        "11 of 12 combinations are invalid; nothing was run:",
        "  max_gross_exposure=0.0: must be > 0 "
        "(in commission_bps=-1.0 max_gross_exposure=0.0 strategy.fast=20 and 3 more)",
        "  commission_bps=-1.0: must be >= 0 and <= 10,000 "
        "(in commission_bps=-1.0 max_gross_exposure=0.0 strategy.fast=20 and 3 more)",
        "  strategy=TrendBaseline: `fast < slow` must hold, but got fast=70, slow=60. "
        "(in commission_bps=-1.0 max_gross_exposure=0.0 strategy.fast=70 and 3 more)",
        "  commission_bps=abc: must be a number "
        "(in commission_bps=abc max_gross_exposure=0 strategy.fast=20 and 3 more)",
        WAY_OUT,
        "What a strategy itself refuses can be left out: say what must hold, as in "
        "'constraint=\"strategy.fast < strategy.slow\"', "
        "or skip whatever it refuses: invalid=skip.",
    ]
    keys = {(fault.key, fault.value) for fault in error.faults}
    assert ("commission_bps", -1.0) in keys


def test_a_fault_of_every_combination_stands_once(faults):
    error = faults("-m", "commission_bps=1,2,3", "rebalance=X")
    assert str(error).splitlines() == [
        "3 of 3 combinations are invalid; nothing was run:",
        f"  rebalance=X: {ALLOWED_PERIODS}",
    ]


def test_many_faults_are_counted(faults):
    error = faults("strategy.fast=range(61,100)")
    lines = str(error).splitlines()
    assert lines[0] == "39 of 39 combinations are invalid; nothing was run:"
    assert lines[-1] == "  ... and 19 more"
    assert len(error.faults) == 39


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("start_date=2001-01-01",), "start_date=2001-01-01: .*after the last bar"),
        (("end_date=1999-01-01",), "end_date=1999-01-01"),
        (("start_date=2000-10-06",), "start_date=2000-10-06: at least two bars must follow"),
        (("strategy.slow=199",), "needs 199 bars .* but the data has 200"),
        (("start_date=2000-03-01T00:00+01:00",), "start_date=2000-03-01T00:00.01:00"),
        (("data.symbols=[S00,NOPE]",), "unknown symbol NOPE"),
        (("data.n_bars=x",), "data.n_bars=x: .*integer"),
        (("data.n_bars=true",), "data.n_bars=true: must be a number, but got true or false"),
        (("strategy.fast=true",), "strategy.fast=true: must be a number"),
        (
            ("strategy=multifactor_long_short", "strategy.factors.momentum=true"),
            "strategy.factors=.*: must be a number",
        ),
        (
            ("data.bars=3",),
            "data.bars=3: is not an argument of Synthetic; did you mean data.n_bars",
        ),
        (
            ("strategy=equal_weight", "strategy.fast=3"),
            "is not an argument of EqualWeight; it has none",
        ),
    ],
)
def test_what_the_data_or_the_strategy_refuse(faults, arguments, message):
    error = faults(*arguments)
    assert str(error).startswith("The configuration is invalid; nothing was run:")
    assert error.faults[0].key
    with pytest.raises(ConfigurationError, match=message):
        raise error


STRATEGIES = """
class NoWeights:
    pass


class Negative:
    warmup_bars = -1
    def target_weights(self, panel, decisions): ...


class Raising:
    @property
    def warmup_bars(self):
        raise RuntimeError("no luck")
    def target_weights(self, panel, decisions): ...


class Refusing:
    def __init__(self, window: int, kind: str = "a"):
        raise TypeError("never")
    def target_weights(self, panel, decisions): ...


a_function = len
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["strategy._target_=faulty.NoWeights"],
            "strategy=NoWeights: has neither target_weights",
        ),
        (
            ["strategy._target_=faulty.Negative"],
            "warmup_bars must be a whole number >= 0, but got -1",
        ),
        (["strategy._target_=faulty.Raising"], "warmup_bars raises RuntimeError: no luck"),
        (["strategy._target_=faulty.Refusing"], "strategy.window=.missing.: must be given"),
        (["strategy._target_=faulty.Refusing", "strategy.window=3"], "strategy=Refusing: never"),
        (
            ["strategy._target_=faulty.Refusing", "strategy.window=3.5", "strategy.kynd=b"],
            "strategy.window=3.5: .*integer.*\n.*did you mean strategy.kind",
        ),
        (
            ["strategy._target_=faulty.a_function"],
            "strategy.obj=.missing.: must be given, len needs",
        ),
        (["strategy._target_=faulty.Refusin"], "did you mean Refusing"),
        (["strategy._target_=faultless.X"], "there is no module faultless"),
        (["strategy._target_=broken_module.X"], "fails on import: SyntaxError"),
        (["strategy._target_=ending_module.X"], "fails on import: SystemExit"),
        (["strategy._target_=X"], "must be module.Class"),
        ([], r"strategy._target_=\?\?\?: must be given"),
    ],
)
def test_what_a_class_of_the_user_refuses(faults, arguments, message):
    Path("faulty.py").write_text(STRATEGIES)
    Path("broken_module.py").write_text("def (")
    Path("ending_module.py").write_text("import sys\nsys.exit(0)")
    with pytest.raises(ConfigurationError, match=message):
        raise faults("strategy=custom", *arguments)


def test_prices_of_execution_that_the_data_does_not_have_are_a_fault(planned):
    with pytest.raises(ConfigurationError) as caught:
        planned("data=sp500,synthetic", "execution_price=open,close")
    assert str(caught.value).splitlines() == [
        "1 of 4 combinations are invalid; nothing was run:",
        "  execution_price=open: needs open prices, but the data has only: close "
        "(in data=sp500 execution_price=open)",
        WAY_OUT,
    ]


def test_an_interpolation_of_the_wrong_type_is_a_fault_of_its_key(faults, monkeypatch):
    monkeypatch.setenv("SOME_TEXT", "abc")
    (fault,) = faults("commission_bps=${oc.env:SOME_TEXT}").faults
    assert (fault.key, fault.value) == ("commission_bps", "${...}")
    assert "could not be converted to Float" in fault.allowed


def test_a_warmup_may_be_any_whole_number(planned):
    Path("warming.py").write_text(
        "import numpy as np\n"
        "class Warming:\n"
        "    warmup_bars = np.int64(7)\n"
        "    def target_weights(self, panel, decisions): ...\n"
    )
    plan = planned(*SMALL, "strategy=custom", "strategy._target_=warming.Warming")
    assert [run.first_bar for run in plan.runs] == [7]


def test_a_data_source_of_the_user_may_raise_anything(planned):
    Path("raising_source.py").write_text(
        "from dataclasses import dataclass\n"
        "from backtest_batch.core.data.sources import Source\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Broken(Source):\n"
        "    def identity(self):\n"
        "        raise RuntimeError('the database is away')\n"
        "    def read(self, wanted): ...\n"
    )
    with pytest.raises(ConfigurationError, match="data=Broken: RuntimeError: the database is away"):
        planned("data._target_=raising_source.Broken")


def test_what_belongs_to_the_whole_batch_cannot_be_set_for_a_run(planned, working_dir):
    folder = working_dir / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(
            f"# @package _global_\nbatch_name: {name}\ncommission_bps: {len(name)}\n"
        )
    (folder / "three.yaml").write_text("# @package _global_\nn_jobs: 7\nrank_by: calmar\n")
    (folder / "four.yaml").write_text("# @package _global_\nparam_grid: {seed: [1, 2]}\n")
    own = ("--config-dir", "conf", *SMALL)
    plan = planned(*own, "experiment=one,two")
    assert [run.run_id for run in plan.runs] == ["run_one"]  # both cost 3
    with pytest.raises(
        ConfigurationError, match=r"n_jobs=7: belongs to the whole batch(?s:.*)rank_by"
    ):
        planned(*own, "experiment=one,three")
    with pytest.raises(ConfigurationError, match=r"param_grid=.*belongs to the whole batch"):
        planned(*own, "experiment=one,four")
    assert [run.run_id for run in planned(*own, "experiment=four").runs] == ["run_1", "run_2"]
