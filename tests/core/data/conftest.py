import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """Every test has a cache of its own."""
    folder = tmp_path / "cache of the test"
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(folder))
    return folder
