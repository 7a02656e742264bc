"""From plain objects to what a batch is asked for."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arguments import Argument
from backtest_batch.batch.construct import TargetError, locate
from backtest_batch.config.key import date_text
from backtest_batch.errors import ConfigurationError
from backtest_batch.market.panel import Panel, panel_from_frames
from backtest_batch.market.sources.stored import store_with_notes


def data_keys(data: pd.DataFrame | Panel | str | None) -> dict[str, Any]:
    """Return what chooses a source; prices in memory are put into the cache."""
    if data is None or isinstance(data, str):
        return {} if data is None else {"data": data}
    panel = store_with_notes(data if isinstance(data, Panel) else panel_from_frames(data))
    return {"data": "stored", "data.fingerprint": panel.fingerprint}


def strategy_keys(strategy: type | str | None) -> dict[str, Any]:
    """Return what chooses a strategy."""
    if strategy is None or isinstance(strategy, str):
        return {} if strategy is None else {"strategy": strategy}
    return {"strategy": "custom", "strategy._target_": import_path(strategy)}


def import_path(strategy: Any) -> str:
    """Return where worker processes can import a strategy's class from.

    Raises
    ------
    ConfigurationError
        When it is no class, or they cannot.
    """
    if not isinstance(strategy, type):
        raise ConfigurationError(
            f"strategy={strategy!r}: must be a class or a name; its arguments are keys such as "
            'strategy.window: run_sweep({"strategy.window": [10, 20]}, strategy=MyStrategy)'
        )
    module, name = strategy.__module__, strategy.__qualname__
    advice = (
        "put it into a file of the working directory, such as my_module.py, and import it from "
        f"there: from my_module import {strategy.__name__}"
    )
    if module == "__main__":
        raise ConfigurationError(
            f"strategy={name}: is defined in this notebook or script (__main__), where worker "
            f"processes cannot import it; {advice}"
        )
    path = f"{module}.{name}"
    try:
        found = None if "." in name else locate(path)
    except TargetError:
        found = None
    if found is not strategy:
        raise ConfigurationError(f"strategy={path}: cannot be imported under this name; {advice}")
    return path


def plain_keys(given: Iterable[tuple[str, Any]]) -> list[Argument]:
    """Return what gives keys their values; a mapping gives the keys below it.

    Raises
    ------
    ConfigurationError
        When a value is nothing that a configuration can hold.
    """
    found: list[Argument] = []
    for key, value in given:
        name = key.lstrip("+~")
        found += Argument.of(name, _plain(value, name), key.removesuffix(name)).leaves
    return found


def _plain(value: Any, key: str) -> Any:
    """Return a value as a configuration holds it: numpy's numbers are Python's, dates are text."""
    if isinstance(value, dt.date | np.datetime64):
        text = date_text(value)
        return str(value) if text is None else text
    if isinstance(value, np.generic):
        return _plain(value.item(), key)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_name(name, key): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | np.ndarray | range | pd.Index | pd.Series):
        return [_plain(item, key) for item in value]
    raise ConfigurationError(
        f"{key}={value!r}: must be a number, text, a date, a list or a mapping of these"
    )


def _name(name: Any, key: str) -> str | int | float:
    """Return a key of a mapping: text or a number, as OmegaConf takes them."""
    plain = _plain(name, key)
    if isinstance(plain, str | int | float):
        return plain
    raise ConfigurationError(f"{key}: its keys must be text or numbers, but got {name!r}")
