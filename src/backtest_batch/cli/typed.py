"""What commands beside the sweep share: keys typed as a sweep's, a folder for files, and help."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from backtest_batch.compose.apart import apart
from backtest_batch.compose.arguments import read_arguments, readable
from backtest_batch.config.arguments import refuse_repeats
from backtest_batch.errors import ConfigurationError


def typed_config(arguments: Sequence[str], schema: type) -> Any:
    """Return an instance of a schema with the values that the arguments give, unchecked.

    Parameters
    ----------
    arguments
        What was typed, ``key=value``.
    schema
        Dataclass of the keys.

    Raises
    ------
    ConfigurationError
        When a key is given twice, or a list without brackets.
    HydraException
        When a key is unknown or a value has the wrong type.
    """
    overrides = readable(arguments)
    refuse_repeats(read_arguments(overrides).given())
    name = f"backtest_batch_{schema.__name__}"
    with apart(), initialize(version_base="1.3", config_path=None):
        ConfigStore.instance().store(name=name, node=schema)
        try:
            composed = compose(name, overrides=overrides)
        except ConfigCompositionException as error:
            listed = re.match(r"Ambiguous value for argument '([^=']+)=(.*)'", str(error))
            if listed is None:
                raise
            key, values = listed.groups()
            raise ConfigurationError(
                f"{key}={values}: to give a list, write '{key}=[{values}]'"
            ) from error
    return OmegaConf.to_object(composed)


def tracking_in_full(argument: str) -> str:
    """Write ``tracking=true`` as what it is short for."""
    key, _, value = argument.partition("=")
    if key != "tracking" or value.lstrip().startswith("{"):
        return argument
    return f"tracking.enabled={value.strip()}"


def made_folder(output_dir: str | None, parent: Path, name: str) -> Path:
    """Make the folder of a command's files; two that begin in the same second get one each.

    Parameters
    ----------
    output_dir
        The folder that was asked for; None for a new one.
    parent, name
        Where that is, and what it is called.

    Raises
    ------
    ConfigurationError
        When it cannot be made.
    """
    try:
        if output_dir:
            folder = Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            return folder.absolute()
        parent.mkdir(parents=True, exist_ok=True)
        return _new_folder(parent, name).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"output_dir={output_dir or parent}: cannot be written ({error.strerror or error})"
        ) from error


def _new_folder(parent: Path, name: str) -> Path:
    for number in range(1, 1_000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(0, f"a thousand folders {name} are there already")


def help_text(about: str | None, schema: type) -> str:
    """Return what ``--help`` shows: what a command does, and its keys with their meanings."""
    lines = [str(about).strip(), "", "Keys:"]
    hints = get_type_hints(schema)
    for item in fields(schema):
        inner = hints[item.name]
        lines.append(f"  {item.name}: {item.metadata['meaning']}")
        if is_dataclass(inner):
            lines += [
                f"  {item.name}.{field.name}: {field.metadata['meaning']}"
                for field in fields(inner)
                if "meaning" in field.metadata and field.name in ("enabled", "uri", "experiment")
            ]
    return "\n".join(lines) + "\n"
