"""What the arguments of a strategy must satisfy, said with the values that break it."""

from collections.abc import Collection


def require(*faults: str | None) -> None:
    """Raise ValueError with all the faults; None stands for none."""
    found = [fault for fault in faults if fault is not None]
    if found:
        raise ValueError(" ".join(found))


def invariant(holds: bool, text: str, **values: object) -> str | None:
    """Return what is wrong when an invariant between arguments does not hold.

    Parameters
    ----------
    holds
        Whether it holds. Write it so that NaN breaks it (``0 < x``, not ``not x <= 0``).
    text
        The invariant as it would be written in code (``fast < slow``).
    **values
        The arguments that it speaks of, by name.

    Returns
    -------
    str or None
        "`fast < slow` must hold, but got fast=99, slow=50."
    """
    if holds:
        return None
    got = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"`{text}` must hold, but got {got}."


def one_of(name: str, value: object, choices: Collection[str]) -> str | None:
    """Return what is wrong when ``value`` is none of ``choices``."""
    if value in choices:
        return None
    return f"`{name}` must be one of {', '.join(choices)}, but got {value!r}."
