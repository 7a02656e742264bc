"""Public names of modules, which stay the same when the code moves.

A configuration names ``backtest_batch.strategies.TrendBaseline``, a strategy imports
``backtest_batch.market.panel``: in users' files, in recorded batches and in best_params.json. A
name that was documented once stays in the table below for good.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ROOT = "backtest_batch."
_MODULES = {
    "app": "cli.main",
    "comparison": "analysis",
    "comparison.overfitting": "analysis.overfitting",
    "comparison.overfitting.sharpe": "analysis.overfitting.sharpe",
    "comparison.walk_forward": "analysis.walk_forward",
    "engine": "core.engine",
    "engine.calendar": "core.engine.calendar",
    "engine.frequency": "core.engine.frequency",
    "engine.metric_table": "core.engine.metrics",
    "engine.metrics": "core.engine.metrics",
    "engine.settings": "core.engine.simulation",
    "engine.simulate": "core.engine.simulation",
    "market": "core.data",
    "market.cache": "core.data.cache",
    "market.fields": "arrays",
    "market.frames": "core.data.tables",
    "market.load": "core.data.load",
    "market.moves": "core.data.suspicions",
    "market.panel": "core.data.panel",
    "market.paths": "core.data.paths",
    "market.sources": "core.data.sources",
    "market.sources.base": "core.data.sources.base",
    "market.tables": "core.data.tables",
    "strategies": "core.strategies",
    "strategies.base": "core.strategies.base",
    "strategies.equal_weight": "core.strategies.equal_weight",
    "strategies.invariants": "core.strategies.base",
    "strategies.inverse_volatility": "core.strategies.inverse_volatility",
    "strategies.mean_reversion": "core.strategies.mean_reversion",
    "strategies.multifactor_long_short": "core.strategies.multifactor_long_short",
    "strategies.signals": "core.strategies.signals",
    "strategies.trend_baseline": "core.strategies.trend_baseline",
    "strategies.weighting": "core.strategies.signals",
    "tracking": "store",
    "tracking.process": "store.process",
    "tracking.recorder": "store.recorder",
    "tracking.search": "store.search",
    "tracking.store": "store.store",
}
"""Public names, below the package, and the modules that they stand for today."""


class _Finder(MetaPathFinder, Loader):
    """Finds a module under its public name: the same module object, not a copy."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - part of the protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the specification of a public name; None for every other name."""
        if fullname.startswith(_ROOT) and fullname.removeprefix(_ROOT) in _MODULES:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module itself, and save its specification, which importing will replace."""
        module = importlib.import_module(_ROOT + _MODULES[spec.name.removeprefix(_ROOT)])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own specification; it has run already."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def find_public_names() -> None:
    """Let modules be imported under their public names too."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # At the front: otherwise the folder of a renamed package would be searched for its modules
        # again.
        sys.meta_path.insert(0, _Finder())
