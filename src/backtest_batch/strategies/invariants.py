"""What the arguments of a strategy must satisfy, said with the values that break it."""

from collections.abc import Collection


def require(holds: bool, invariant: str, **values: object) -> None:
    """Raise when an invariant between arguments does not hold.

    Parameters
    ----------
    holds
        Whether it holds. Write it so that NaN breaks it (``0 < x``, not ``not x <= 0``).
    invariant
        The invariant as it would be written in code (``fast < slow``).
    **values
        The arguments that it speaks of, by name.

    Raises
    ------
    ValueError
        "`fast < slow` must hold, but got fast=99, slow=50."
    """
    if not holds:
        got = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"`{invariant}` must hold, but got {got}.")


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError when ``value`` is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, but got {value!r}.")
