"""Hydra, isolated from that of a program around us.

Hydra keeps its state in globals: one application, one configuration store, one set of resolvers per
process. ``run_sweep`` may be called by a program that is a Hydra application itself, or by a
notebook after ``hydra.initialize``, and by several threads at once.
"""

import contextlib
import threading
from collections.abc import Iterator

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer

OF_A_PROGRAM = frozenset({GlobalHydra, HydraConfig, ConfigStore, JobRuntime, VersionBase})
"""Attributes in which Hydra keeps the state of the program that it runs."""

PROVIDER = "batch"
"""The modules that stored our nodes in Hydra's configuration store."""

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Give the block an unused Hydra, and restore the former one afterwards.

    Inside, Hydra knows only what is installed: its own nodes, those of plugins and ours, but not
    what the program around it has stored. A second thread waits until the first has left.
    """
    with _one_at_a_time:
        # Plugins are looked for once; they store their nodes before the store is copied.
        Plugins.instance()
        surrounding, resolvers = Singleton._instances, BaseContainer._resolvers
        stored = ConfigStore.instance().repo
        Singleton._instances = {
            kind: instance for kind, instance in surrounding.items() if kind not in OF_A_PROGRAM
        }
        BaseContainer._resolvers = dict(resolvers)
        own = ConfigStore.instance()
        own.repo = {
            name: node
            for name, node in stored.items()
            if name == "hydra" or getattr(node, "provider", None) in ("hydra", PROVIDER)
        }
        own.repo["hydra"] = dict(stored["hydra"])
        if getattr(stored["hydra"]["config.yaml"], "provider", None) != "hydra":
            # Programs replace this node to configure their Hydra. It takes time to make.
            own.store(group="hydra", name="config", node=HydraConf, provider="hydra")
        try:
            yield
        finally:
            Singleton._instances = surrounding
            BaseContainer._resolvers = resolvers
