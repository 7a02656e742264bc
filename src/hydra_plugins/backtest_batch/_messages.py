"""One readable message for what Hydra and OmegaConf have to say."""

import difflib
import re
from dataclasses import fields

from backtest_batch.config import BatchConfig
from backtest_batch.errors import Fault

TYPE_NAMES = {"Float": "a number", "Integer": "a whole number"}
"""How the configuration library calls types, and what people call them."""


def explain(error: BaseException, schema: type = BatchConfig) -> str:
    """Return what the user should read: the key, the value and what is allowed.

    Parameters
    ----------
    error
        What was raised.
    schema
        Dataclass of the known root keys.
    """
    text = str(error).strip()
    cause = error.__cause__
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:
        return f"{unknown[1]}: is not a known key{close_keys(unknown[1], schema)}"
    merging = re.match(r"Error merging override (.+)", text, re.DOTALL)
    if merging and cause is not None:
        wrong_type = re.match(r"Value '.*' .*could not be converted to (\w+)", _first_line(cause))
        kind = TYPE_NAMES.get(wrong_type[1]) if wrong_type else None
        return f"{merging[1]}: {f'must be {kind}' if kind else _first_line(cause)}"
    choice = choice_fault(error)
    if choice is not None:
        return str(choice)
    if not text and cause is not None:
        return explain(cause, schema)
    return re.sub(r"\nSee https?://\S+.*", "", text) or type(error).__name__


def choice_fault(error: BaseException) -> Fault | None:
    """Return the group, the choice that it does not have, and those that it has."""
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing is None:
        return None
    available = re.search(r"Available options in '[^']+':\n((?:\t.+\n?)+)", str(error))
    names = available[1].split() if available else []
    listed = f"; choose one of: {', '.join(names)}" if names else ""
    return Fault(key=missing[1], value=missing[2], allowed=f"there is no such choice{listed}")


def close_keys(key: str, schema: type) -> str:
    """Return the known root keys that resemble ``key``, as the end of a sentence."""
    known = [item.name for item in fields(schema)]
    close = difflib.get_close_matches(key.lstrip("+~").split(".")[0], known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
