"""Panels that differ from a given one after a bar alone, or by a hair everywhere."""

import hashlib
from dataclasses import replace
from typing import Literal

import numpy as np

from backtest_batch.arrays import FIELDS, BoolArray, FloatArray
from backtest_batch.core.data.panel import Panel

HAIR = 1e-10
"""Relative change of every price that no honest decision should turn on."""

FINE_HAIR = 1e-7
"""The same for what is computed in single precision, which does not see the other."""

Future = Literal["mixed", "mirrored", "all fall", "all rise"]
"""What happens after a cut, in values that no market had."""

FUTURES: tuple[Future, ...] = ("mixed", "mirrored", "all fall", "all rise")

_DRIFT, _REACH, _NOISE, _CALM = 0.6, 8.0, 0.15, 0.01
_START = 50.0


def bars_of_panel(panel: Panel, start: int, stop: int) -> Panel:
    """Return the bars at positions ``start`` to ``stop - 1``, without copying or hashing them.

    Unlike :meth:`.Panel.window` it does not read the content: the fingerprint is made of that of
    the panel and of the positions, and equals no other.
    """
    if (start, stop) == (0, panel.n_bars):
        return panel
    return replace(
        panel,
        index=panel.index[start:stop],
        fields={name: values[start:stop] for name, values in panel.fields.items()},
        members=None if panel.members is None else panel.members[start:stop],
        feature_arrays={name: item[start:stop] for name, item in panel.feature_arrays.items()},
        fingerprint=_named(panel, f"bars {start} to {stop}"),
        base=(panel.base or panel.fingerprint) if start == 0 else None,
        notes=(),
        _frames={},
    )


def with_another_future(panel: Panel, cut: int, future: Future) -> Panel:
    """Return the panel with other values after the bar ``cut``, and the same ones up to it.

    In the mixed future every other asset rises and the others fall, with noise; mirrored, it is the
    other way round. In these the market as a whole always rises, so in two more, with little noise,
    all fall or all rise. Series that have not started start at once. In the mixed future every
    third asset that is priced at the cut ends there; in the others none does, for strategies that
    need the asset. Further fields, features and members differ too. The index is the same.
    """
    number = FUTURES.index(future)
    numbers = np.random.default_rng([cut, number])
    up = number % 2 == 1
    n_later = panel.n_bars - cut - 1
    last, ended = _last_prices(panel, cut, some_end=future == "mixed")
    signs, noise = np.full(panel.n_assets, 1.0 if up else -1.0), _CALM
    if future in ("mixed", "mirrored"):
        signs = np.where(np.arange(panel.n_assets) % 2 == number, 1.0, -1.0)
        noise = _NOISE
    reached = _DRIFT * (1.0 - np.exp(-np.arange(1, n_later + 1) / _REACH))
    moves = reached[:, None] * signs + numbers.normal(0.0, noise, (n_later, panel.n_assets))
    close = np.where(ended, np.nan, last * np.exp(moves))
    fields = {}
    for name, values in panel.fields.items():
        later = _later_field(name, values, cut, close, ended, numbers)
        fields[name] = _joined(values, cut, later)
    features = {}
    for name, values in panel.feature_arrays.items():
        past = values[: cut + 1]
        known = past[np.isfinite(past)]
        centre, spread = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        later = centre + (spread or abs(centre) or 1.0) * numbers.normal(
            1.0 if up else -1.0, 2.0, values[cut + 1 :].shape
        )
        features[name] = _joined(values, cut, later)
    members = panel.members
    if members is not None:
        members = members.copy()
        members[cut + 1 :] = numbers.uniform(size=members[cut + 1 :].shape) < 0.5
        members.setflags(write=False)
    return replace(
        panel,
        fields=fields,
        members=members,
        feature_arrays=features,
        fingerprint=_named(panel, f"another future after {cut}, {future}"),
        base=None,
        notes=(),
        _frames={},
    )


def moved_by_a_hair(panel: Panel, number: int, hair: float = HAIR) -> Panel:
    """Return the panel with every value changed by about a ``hair`` of itself.

    Decisions that change with it rest on rounding: on two values that are equal but for the order
    in which they were added up.
    """
    numbers = np.random.default_rng([number, 71])
    factor = 1.0 + hair * numbers.uniform(-1.0, 1.0, panel.fields["close"].shape)
    fields = {name: _read_only(values * factor) for name, values in panel.fields.items()}
    features = {
        name: _read_only(values * (1.0 + hair * numbers.uniform(-1.0, 1.0, values.shape)))
        for name, values in panel.feature_arrays.items()
    }
    return replace(
        panel,
        fields=fields,
        feature_arrays=features,
        fingerprint=_named(panel, f"moved by a hair {number}, {hair}"),
        base=None,
        notes=(),
        _frames={},
    )


def first_priced(panel: Panel) -> FloatArray:
    """Return the first bar with a close of each asset; inf without any. Shape (n_assets,)."""
    priced: BoolArray = ~np.isnan(panel.fields["close"])
    found: FloatArray = np.where(priced.any(axis=0), priced.argmax(axis=0), np.inf)
    return found


def _last_prices(panel: Panel, cut: int, *, some_end: bool) -> tuple[FloatArray, BoolArray]:
    """Return the last known close of each asset, and which have no price after the cut."""
    past = panel.fields["close"][: cut + 1]
    priced = ~np.isnan(past)
    began = priced.any(axis=0)
    last_bar = cut - priced[::-1].argmax(axis=0)
    last = np.where(began, past[last_bar, np.arange(panel.n_assets)], _START)
    ended = began & ~priced[-1]
    alive = np.flatnonzero(priced[-1])
    if some_end and len(alive) > 1:
        ended[alive[::3]] = True
    return last, ended


def _later_field(
    name: str,
    values: FloatArray,
    cut: int,
    close: FloatArray,
    ended: BoolArray,
    numbers: np.random.Generator,
) -> FloatArray:
    if name == "close":
        return close
    jitter = numbers.uniform(-0.05, 0.05, close.shape)
    if name in FIELDS and name != "volume":
        # High and low enclose open and close.
        level = {"high": 0.06, "low": -0.06}.get(name, 0.0)
        return np.asarray(close * np.exp(level + (jitter if name == "open" else 0.0)))
    past = values[: cut + 1]
    known = np.isfinite(past)
    typical = float(np.abs(past[known]).mean()) if known.any() else 1.0
    later = (typical or 1.0) * np.exp(numbers.normal(0.0, 1.0, close.shape))
    return np.where(ended, np.nan, later)


def _joined(values: FloatArray, cut: int, later: FloatArray) -> FloatArray:
    changed = values.copy()
    changed[cut + 1 :] = later
    return _read_only(changed)


def _read_only(values: FloatArray) -> FloatArray:
    values.setflags(write=False)
    return values


def _named(panel: Panel, text: str) -> str:
    return hashlib.sha256(f"{panel.fingerprint} {text}".encode()).hexdigest()
