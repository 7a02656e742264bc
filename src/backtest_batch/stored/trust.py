"""What a store or a file from elsewhere would run is shown, and run only when it is trusted."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from backtest_batch.arguments import argument_key, argument_text, argument_value
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import masked, masked_values
from backtest_batch.ownership import is_own_file

KEY = "trust"


def require_trust(
    named: str, arguments: Sequence[str], targets: Iterable[str], given: Sequence[str]
) -> None:
    """Refuse to run a recorded command that is not the user's own, unless it is trusted.

    Parameters
    ----------
    named
        What names it, such as ``resume=latest``.
    arguments
        The recorded arguments that would be used.
    targets
        Classes and functions that it names beside those of the arguments.
    given
        The arguments of this command; ``trust=true`` among them trusts the recorded ones.

    Raises
    ------
    ConfigurationError
        When it is not trusted; the message has the code and the command.
    """
    if (argument_value(given, KEY) or "").lower() == "true":
        return
    code = dict.fromkeys([*targets, *argument_targets(arguments)])
    raise ConfigurationError(
        f"{named}: this was not recorded by you on this machine, and it would run code with your "
        "rights. Nothing was run. It names\n"
        f"  code     {masked(', '.join(code)) or 'that of the shipped configuration'}\n"
        f"  command  {shlex.join(masked_values(list(arguments)))}\n"
        "If you know where it comes from, add trust=true. Its tracking.uri, output_dir and hydra.* "
        "are left out in any case; give your own where they are needed."
    )


def argument_targets(arguments: Iterable[str]) -> list[str]:
    """Return the classes and functions that arguments name."""
    return [
        argument_text(item)
        for item in arguments
        if argument_key(item).rpartition(".")[2] == "_target_" or "_target_" in argument_text(item)
    ]


def is_in_own_mlruns(path: Path) -> bool:
    """Return whether a file lies in ``mlruns`` of the working directory and is the user's own.

    Python imports from the working directory in any case, so that whoever may write there need
    not forge a file.
    """
    here = Path("mlruns").absolute()
    below = here in path.absolute().parents and here.resolve() in path.resolve().parents
    return below and is_own_file(path)


def is_place(item: str) -> bool:
    """Return whether an argument says where something is written or sent, or how Hydra works.

    Such arguments are taken from the user's own words only: no token goes to an address, and no
    file into a folder, that others have recorded.
    """
    key = argument_key(item)
    return key in ("tracking.uri", "tracking", "output_dir") or (
        key.partition("/")[0].partition(".")[0] == "hydra" and key != "hydra.searchpath"
    )
