import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

from backtest_batch.api.batches import config_folder


@pytest.fixture(scope="module")
def loader():
    """Hydra's loader of the shipped configuration."""
    Plugins.instance()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
