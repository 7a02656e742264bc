"""Arguments ``key=value`` and options, as text."""

from collections.abc import Sequence

from backtest_batch.config.schema import SWEEPABLE

OPTIONS_WITH_VALUE = frozenset(
    {
        "--config-dir",
        "-cd",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--info",
        "-i",
    }
)
FLAGS = frozenset(
    {
        *("-m", "--multirun", "-r", "--run", "-h", "--help", "--hydra-help", "--version"),
        *("--resolve", "-sc", "--shell-completion", "--with-profiling"),
    }
)
"""Options without a value: Hydra's, and our own."""
SOURCE_OPTIONS = frozenset({"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"})
"""Options that say where configuration is looked for."""
WHOLE_NODES = ("param_grid", "runs", "tags", "filter_tags", "rank_by", "constraints")
"""Keys whose mappings are one value and not a path to several."""
PLAN_KEYS = frozenset({"param_grid", "runs", "batch_file", "experiment"})
"""Keys that say which runs a batch has."""


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return options with their values, and keys.

    Hydra's parser does not understand keys on both sides of an option.
    """
    flags: list[str] = []
    keys: list[str] = []
    waiting = False
    for item in arguments:
        (flags if waiting or item.startswith("-") else keys).append(item)
        waiting = item in OPTIONS_WITH_VALUE
    return flags, keys


def configuration_sources(arguments: Sequence[str]) -> list[str]:
    """Return what of the arguments says where configuration is looked for.

    Options such as ``--config-dir conf``, and Hydra's search path: a command that repeats a run
    needs them beside the keys.
    """
    found: list[str] = []
    waiting = False
    for item in arguments:
        name = item.partition("=")[0]
        if waiting or name in SOURCE_OPTIONS or name == "hydra.searchpath":
            found.append(item)
        waiting = item in SOURCE_OPTIONS
    return found


def option_value(options: Sequence[str], *names: str) -> str | None:
    """Return the value of an option, given as ``--name value`` or ``--name=value``, or None."""
    found = None
    for position, item in enumerate(options):
        name, equals, value = item.partition("=")
        if name in names and equals:
            found = value
        elif name in names and position + 1 < len(options):
            found = options[position + 1]
    return found


def argument_key(argument: str) -> str:
    """Return the key of ``key=value``, without ``+`` and without a package."""
    return argument.partition("=")[0].lstrip("+~").partition("@")[0]


def argument_text(argument: str) -> str:
    """Return the value of ``key=value`` as it stands there."""
    return argument.partition("=")[2]


def determines_results(key: str) -> bool:
    """Return whether a key says what is computed, and not how, or what it is called."""
    return key.split(".", maxsplit=1)[0] in SWEEPABLE or key in PLAN_KEYS


def argument_value(arguments: Sequence[str], key: str) -> str | None:
    """Return the unquoted text that the last argument of this key gives, or None."""
    texts = [argument_text(item) for item in arguments if argument_key(item) == key]
    if not texts or texts[-1] in ("", "null"):
        return None
    text = texts[-1]
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if quoted else text
