"""The samplers of a search, by the names of the config group: those of Optuna."""

import contextlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backtest_batch.config.checks import close_names
from backtest_batch.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

GRID = "grid"
"""The method that computes every combination, without a sampler."""

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "random": "RandomSampler",
        "sobol": "QMCSampler",
        "tpe": "TPESampler",
        "gp": "GPSampler",
        "cmaes": "CmaEsSampler",
        "nsga2": "NSGAIISampler",
    }
)
"""Optuna's classes by method."""

IGNORES_RESULTS = frozenset({"random", "sobol"})
"""Methods whose next proposals do not depend on results."""

SEVERAL_METRICS = frozenset({*IGNORES_RESULTS, "nsga2"})
"""Methods that can do with a score of several metrics."""

_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"cmaes": ("cmaes",), "gp": ("torch", "scipy")}
)
"""Packages beside Optuna, by method."""

_OURS = ("seed", "constraints_func")
"""Options of Optuna's samplers that are set here."""


def require_sampler(method: str) -> None:
    """Refuse a method whose packages are not installed.

    Raises
    ------
    ConfigurationError
        When one is missing; the message says what to install.
    """
    missing = [
        name
        for name in ("optuna", *_NEEDED.get(method, ()))
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        install = "pip install 'backtest-batch[search]'"
        if "torch" in missing:
            install += " torch"
        raise ConfigurationError(
            f"search={method}: needs {' and '.join(missing)}, which is not installed: {install}"
        )


def make_sampler(method: str, seed: int, options: Mapping[str, Any]) -> "BaseSampler":
    """Return Optuna's sampler with this seed and these options; others have Optuna's defaults.

    Raises
    ------
    ConfigurationError
        When it is not installed, or has no such option, or refuses its value.
    """
    require_sampler(method)
    with quiet():
        import optuna

        kind = getattr(optuna.samplers, SAMPLERS[method])
        known = [name for name in inspect.signature(kind).parameters if name not in _OURS]
        for name, value in options.items():
            if name == "seed":
                raise ConfigurationError(f"search.sampler.seed={value}: is set by search.seed")
            if name not in known:
                close = close_names(str(name), known)
                hint = f"; did you mean {' or '.join(close)}?" if close else "."
                listed = ", ".join(known) or "none"
                raise ConfigurationError(
                    f"search.sampler.{name}={value}: is no option of Optuna's {kind.__name__}"
                    f"{hint} Its options: {listed}"
                )
        chosen = dict(options)
        if "warn_independent_sampling" in known:
            chosen.setdefault("warn_independent_sampling", False)
        try:
            sampler: BaseSampler = kind(seed=seed, **chosen)
        except (ValueError, TypeError, AttributeError) as error:
            shown = ", ".join(f"{name}={value}" for name, value in options.items())
            raise ConfigurationError(
                f"search.sampler ({shown}): Optuna's {kind.__name__} refuses it: {error}"
            ) from error
    return sampler


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from logging and warning: what users should know is said by the batch."""
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
