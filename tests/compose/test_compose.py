"""Composing by parts is what Hydra does for each run, one by one."""

from typing import Any

import pytest
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from backtest_batch.api.batches import CONFIG_NAME, config_folder
from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.configurations import Composer, Compositions, batch_config
from backtest_batch.compose.grid import read_grid
from backtest_batch.core.construct import build
from backtest_batch.store.address import resolve_experiment

FOLDER = config_folder()
OPTIONS = sorted(
    f"{file.parent.relative_to(FOLDER).as_posix()}={file.stem}"
    for file in FOLDER.rglob("*.yaml")
    # Which runs a batch has is no part of a run.
    if file.parent not in (FOLDER, FOLDER / "search")
)
GIVEN = {
    "data=csv": ["data.path=prices.csv"],
    "data=parquet": ["data.path=prices"],
    "data=excel": ["data.path=prices.xlsx"],
    "data=sql": ["data.url=sqlite:///prices.db", "data.query='select 1, 2'"],
    "data=stored": ["data.fingerprint=" + "0a" * 32],
    "data=yahoo": ["data.symbols=[AAPL]"],
    "strategy=custom": ["strategy._target_=backtest_batch.strategies.EqualWeight"],
}
"""What the options need that have no default."""

VALUES: dict[str, list[Any]] = {
    "commission_bps": [0, 0.5, "${spread_bps}", -1, "abc"],
    "cash_rate": [0, 0.01, 0.05],
    "risk_free_rate": [0, 0.01, "${borrow_rate}"],
    "borrow_rate": [0, 0.01],
    "max_weight": ["null", 0.5],
    "rebalance": ["M", "W", "X"],
    "start_date": ["null", "2000-01-01"],
    "description": ["''", "'a, b'", "'${batch_name}!'", "${batch_name}"],
    "batch_name": ["x", "y"],
    "scenario_axes": ["[]", "[seed]", "[seed,rebalance]"],
    "tags": ["{a:1}", "{}"],
    "tags.a": [1, 2],
    "strategy": ["trend_baseline", "mean_reversion", "{fast:7}", "nope"],
    "strategy.fast": [5, 10, "${strategy.slow}"],
    "strategy.slow": [60, 100],
    "strategy.fats": [1],
    "data": ["synthetic", "sp500", "csv"],
    "data.symbols": ["null", "[A,B]"],
    "data.symbols[0]": ["C"],
    "experiment": ["null", "costs"],
    "tracking.experiment": ["${batch_name}", "other"],
    "profiling": ["{runs:2}"],
    "+extra": [1],
    "++strategy.fast": [11],
    "~strategy.average": [None],
}


def by_hydra(loader, overrides: list[str]) -> dict[str, Any] | None:
    """Return the configuration that Hydra composes for one run; None when it refuses."""
    try:
        config = loader.load_configuration(CONFIG_NAME, overrides, run_mode=RunMode.RUN)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        if OmegaConf.missing_keys(config):
            return None
        plain = OmegaConf.to_container(config, resolve=True)
    except Exception:  # noqa: BLE001 - Hydra refuses with errors of many kinds
        return None
    assert isinstance(plain, dict)
    if plain["tracking"]["experiment"] is None:  # then it comes from the environment
        plain["tracking"]["experiment"] = resolve_experiment(None)
    return {str(key): value for key, value in plain.items()}


def compositions(loader, arguments: list[str], *, fast: bool) -> Compositions:
    master = loader.load_configuration(CONFIG_NAME, [], run_mode=RunMode.MULTIRUN)
    batch = batch_config(master)
    # What a run may set for itself is another question.
    composer = Composer(loader, CONFIG_NAME, [], batch | {"fast_compose": fast})
    composer._set_for_the_batch = lambda *_: iter(())
    return Compositions(composer, read_grid(read_arguments(arguments).keys, None, None, loader))


def composed(loader, arguments: list[str], *, fast: bool):
    return list(compositions(loader, arguments, fast=fast))


def override(key: str, value: Any) -> str:
    return key if value is None else f"{key}={value}"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_what_hydra_composes(loader, option):
    overrides = [option, *GIVEN.get(option, []), "cash_rate=0.02"]
    wanted = by_hydra(loader, overrides)
    assert wanted is not None
    for fast in (True, False):
        (one,) = composed(loader, overrides, fast=fast)
        assert one.config == wanted
        assert one.config["risk_free_rate"] == 0.02
    for node in ("data", "strategy"):
        instance, faults = build(wanted[node], key=node)
        assert (instance is not None, faults) == (True, [])


def test_combinations_may_be_gone_through_again(loader):
    found = compositions(loader, ["commission_bps=0,1", "data=synthetic"], fast=True)
    first = list(found)
    assert [one.swept["commission_bps"] for one in first] == [0.0, 1.0]
    assert list(found) == first


swept_keys = [key for key in VALUES if not key.startswith(("+", "~"))]
axes = st.lists(st.sampled_from(swept_keys), min_size=0, max_size=4, unique=True).flatmap(
    lambda keys: st.tuples(
        *(
            st.tuples(
                st.just(key),
                st.lists(st.sampled_from(VALUES[key]), min_size=1, max_size=2, unique=True),
            )
            for key in keys
        )
    )
)
constants = st.lists(
    st.sampled_from([override(key, value) for key, values in VALUES.items() for value in values]),
    max_size=3,
    unique_by=lambda text: text.partition("=")[0].lstrip("+~"),
)


@given(axes, constants)
@settings(deadline=None, max_examples=20)
def test_any_grid_is_what_hydra_composes_run_by_run(loader, axes, constants):
    arguments = [f"{key}={','.join(map(str, values))}" for key, values in axes] + constants
    try:
        grid = read_grid(read_arguments(arguments).keys, None, None, loader)
        combinations = [items for _, _, items in grid.combinations()]
    except Exception:  # noqa: BLE001 - what cannot be swept is tested elsewhere
        return
    for fast in (True, False):
        found = composed(loader, arguments, fast=fast)
        assert len(found) == len(combinations)
        for one in found:
            wanted = by_hydra(loader, list(one.overrides))
            assert one.config == wanted
            assert bool(one.faults) == (wanted is None)


@pytest.mark.parametrize("fast", [True, False])
def test_a_value_that_is_set_does_not_follow_an_interpolation_any_more(loader, fast):
    found = composed(loader, ["risk_free_rate=0,0.01", "cash_rate=0,0.02"], fast=fast)
    rates = [(one.config["risk_free_rate"], one.config["cash_rate"]) for one in found]
    assert rates == [(0.0, 0.0), (0.0, 0.02), (0.01, 0.0), (0.01, 0.02)]


def test_runs_do_not_see_each_other(loader):
    first, second = composed(loader, ["strategy.fast=5,6", "tags={a:1}"], fast=True)
    assert (first.config["strategy"]["fast"], second.config["strategy"]["fast"]) == (5, 6)
    assert first.config["strategy"] is not second.config["strategy"]


@pytest.mark.parametrize("fast", [True, False])
def test_every_fault_of_a_run_is_found(loader, fast):
    (one,) = composed(
        loader, ["comission_bps=1", "strategy.slow=90", "max_weight=x", "n_jobs=1.5"], fast=fast
    )
    assert one.config is None
    assert [(fault.key, fault.allowed) for fault in one.faults] == [
        ("comission_bps", "is not a known key; did you mean commission_bps?"),
        ("max_weight", "must be a number or null"),
        ("n_jobs", "must be a whole number"),
    ]
