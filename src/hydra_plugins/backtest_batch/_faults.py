"""Find every key of a command that is wrong, where Hydra stops at the first."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.arguments import Argument
from backtest_batch.assignments import Assignment, quote
from backtest_batch.errors import Fault
from hydra_plugins.backtest_batch._compose import apply
from hydra_plugins.backtest_batch._grid import axis_of, group_options
from hydra_plugins.backtest_batch._messages import choice_fault


def faults_of(
    arguments: Sequence[Argument], config_folder: Path, config_name: str, further_folder: str | None
) -> list[Fault]:
    """Return what is wrong with the keys and types of a command that does not compose.

    Parameters
    ----------
    arguments
        Its keys.
    config_folder, config_name
        Where the primary configuration stands.
    further_folder
        What ``--config-dir`` names.
    """
    GlobalHydra.instance().clear()
    hidden = []
    if further_folder is not None:
        hidden.append(f"hydra.searchpath=[{quote(str(Path(further_folder).absolute()))}]")
    try:
        with initialize_config_dir(str(config_folder), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            hidden += [item.text for item in arguments if item.is_hydra]
            keys = [item for item in arguments if not item.is_hydra]
            return list(_faults(keys, loader, config_name, hidden))
    except (HydraException, OmegaConfBaseException):
        return []


MOST_VALUES = 1_000
"""So many values of a key are looked at for faults."""


def _faults(
    arguments: Sequence[Argument], loader: ConfigLoader, config_name: str, hidden: Sequence[str]
) -> Iterator[Fault]:
    options = group_options(loader)
    assignments: list[Assignment] = []
    for argument in arguments:
        values = axis_of(argument, options, loader).assignments
        assignments += itertools.islice(values, MOST_VALUES)
    chosen = []
    for item in assignments:
        if item.is_group:
            fault = _choice_fault(item, loader, config_name, hidden)
            if fault is None:
                chosen.append(item.override)
            else:
                yield fault
    config = loader.load_configuration(config_name, [*hidden, *chosen], run_mode=RunMode.RUN)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    for item in assignments:
        if not item.is_group:
            fault = apply(copy.deepcopy(config), item)
            if fault is not None:
                yield fault


def _choice_fault(
    item: Assignment, loader: ConfigLoader, config_name: str, hidden: Sequence[str]
) -> Fault | None:
    try:
        loader.load_configuration(config_name, [*hidden, item.override], run_mode=RunMode.RUN)
    except HydraException as error:
        return choice_fault(error)
    return None
