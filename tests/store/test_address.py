from pathlib import Path

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.store.address import (
    has_secret,
    resolve_experiment,
    resolve_uri,
    shown,
    sqlite_path,
    sqlite_uri,
)


def test_without_configuration_the_store_is_under_the_working_directory(tmp_path):
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path.as_posix()}/mlruns/mlflow.db"


def test_the_environment_counts_when_the_key_is_unset(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.team/")
    assert resolve_uri(None, tmp_path) == "https://mlflow.team"
    assert resolve_uri("", tmp_path) == "https://mlflow.team"
    assert resolve_uri("http://other:5000", tmp_path) == "http://other:5000"


@pytest.mark.parametrize("folder", ["plain", "a b", "Zürich 東京", "50%41", "a#b"])
def test_a_path_comes_back_from_its_address(tmp_path, folder):
    uri = resolve_uri(None, tmp_path / folder)
    assert sqlite_path(uri) == tmp_path / folder / "mlruns" / "mlflow.db"
    assert shown(uri) == str(tmp_path / folder / "mlruns" / "mlflow.db")


def test_a_relative_sqlite_address_starts_in_the_working_directory(tmp_path):
    uri = resolve_uri("sqlite:///stores/my runs.db", tmp_path)
    assert sqlite_path(uri) == tmp_path / "stores" / "my runs.db"


def test_an_absolute_sqlite_address_is_kept(tmp_path):
    uri = sqlite_uri(tmp_path / "x.db")
    assert resolve_uri(uri, Path("/elsewhere")) == uri


@pytest.mark.parametrize(
    ("given", "suggestion"),
    [
        ("./mlruns", "sqlite:///mlruns/mlflow.db"),
        ("file:///home/me/mlruns", "sqlite:///mlruns/mlflow.db"),
        ("runs.db", "sqlite:///runs.db"),
        ("C:\\runs", "sqlite:///"),
    ],
)
def test_the_file_store_is_refused_with_a_database_to_use_instead(tmp_path, given, suggestion):
    with pytest.raises(StoreError, match="file store takes no new runs") as caught:
        resolve_uri(given, tmp_path)
    assert f"tracking.uri={given}" in str(caught.value)
    assert suggestion in str(caught.value)


def test_a_refused_address_of_the_environment_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    with pytest.raises(StoreError, match=r"^MLFLOW_TRACKING_URI=file:./mlruns "):
        resolve_uri(None, tmp_path)


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_in_memory_is_refused(tmp_path, given):
    with pytest.raises(StoreError, match="which is lost at the end"):
        resolve_uri(given, tmp_path)


@pytest.mark.parametrize("given", ["databricks", "databricks://team", "postgresql://h/db"])
def test_other_stores_are_left_to_mlflow(tmp_path, given):
    assert resolve_uri(given, tmp_path) == given


def test_whether_an_address_holds_a_secret():
    assert has_secret("postgresql://me:pw@h/db")
    assert not has_secret("postgresql://h/db")
    assert not has_secret("sqlite:////tmp/a@b/c.db")


def test_a_path_that_an_address_must_quote_names_the_driver(tmp_path):
    # MLflow makes the folder of `sqlite:///...` as the text says: a twin with an encoded name.
    folder = tmp_path / "c#50% ä"
    uri = resolve_uri(None, folder)
    assert uri.startswith("sqlite+pysqlite:////")
    assert sqlite_path(uri) == folder / "mlruns" / "mlflow.db"
    assert resolve_uri(uri.replace("+pysqlite", ""), tmp_path) == uri


@pytest.mark.parametrize(
    ("configured", "variable", "expected"),
    [
        ("mine", "theirs", "mine"),
        (None, "theirs", "theirs"),
        (None, " ", "backtest_batch"),
        (None, None, "backtest_batch"),
    ],
)
def test_which_experiment_is_meant(monkeypatch, configured, variable, expected):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    if variable is not None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", variable)
    assert resolve_experiment(configured) == expected
