import ast
from pathlib import Path

import pytest

from backtest_batch.config.arguments import quote_text
from backtest_batch.masking import is_masked, masked, masked_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:s3cr3t@h:5432/db", "postgresql://***@h:5432/db"),
        ("postgresql+psycopg2://me:p@ss/w@h/db", "postgresql+psycopg2://***@h/db"),
        ("https://me:s3cr3t@mlflow.team/x", "https://***@mlflow.team/x"),
        ("mysql://h/db?user=me&password=s3cr3t&x=1", "mysql://h/db?user=me&password=***&x=1"),
        ("mssql:///?odbc_connect=DRIVER%3DPWD%3Ds3cr3t", "mssql:///?odbc_connect=***"),
        ("failed to reach 'http://me:s3cr3t@h' twice", "failed to reach 'http://***@h' twice"),
        ("https://t0ken@mlflow.team/x", "https://***@mlflow.team/x"),
        ("tracking.uri=sqlite:////tmp/a@b.db", "tracking.uri=sqlite:////tmp/a@b.db"),
        ("s3://bucket/prices@v1.csv", "s3://bucket/prices@v1.csv"),
        ("data.url=https://h/p?x=1&token=s3cr3t", "data.url=https://h/p?x=1&token=***"),
        ("+data.password=s3cr3t", "+data.password=***"),
        ("strategy.n_token=10,20", "strategy.n_token=10,20"),
        ("https://mlflow.team/a", "https://mlflow.team/a"),
    ],
)
def test_messages_hold_no_secrets(text, expected):
    assert masked(text) == expected


def test_a_password_on_its_own_is_masked_too(monkeypatch):
    uri = "postgresql://me:p%40ss-word@h/db"
    assert masked("login with p@ss-word failed", uri=uri) == "login with *** failed"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-12345")
    assert masked("Bearer tok-12345", uri="https://mlflow.team") == "Bearer ***"


def test_values_are_masked_wherever_they_stand():
    config = {
        "data": {"url": "postgresql://me:pw@h/db", "password": "pw", "path": "a@b.csv"},
        "runs": [{"api_key": "k"}, "http://me:pw@h"],
        "strategy": {"max_tokens": 5, "token": 5, "secret": ""},
    }
    assert masked_values(config) == {
        "data": {"url": "postgresql://***@h/db", "password": "***", "path": "a@b.csv"},
        "runs": [{"api_key": "***"}, "http://***@h"],
        "strategy": {"max_tokens": 5, "token": 5, "secret": ""},
    }


def test_what_was_masked_is_told_from_what_was_not():
    assert is_masked(masked("tracking.uri=postgresql://me:pw@h/db"))
    assert is_masked(masked("data.password=pw"))
    assert not is_masked(masked("tracking.uri=sqlite:////tmp/a@b.db"))


N = 2_000_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org\n" + "a" * N,
        "9" * N + "://a@b",
        "a://" * (N // 4),
        "a://b:" * (N // 6) + "@",
        "a://" + "@" * N,
        "a://" + "/@:" * (N // 3),
        "?token" * (N // 6) + " =",
        "?token" * (N // 6) + "=x",
        "?token=x" * (N // 8),
        "?" * N + "=token",
        "x=?" * (N // 3) + "token",
        "&a=" * (N // 3) + "token",
        "?token='" * (N // 8),
        "?odbc_connect" * (N // 13) + "=",
        "token" + "." * N + "=",
        "a.token=" + "1" * N + "x",
    ],
    ids=lambda text: text[:20],
)
def test_on_no_text_it_takes_longer_than_the_text_is(text):
    """In proportion to its length: two million characters would take hours otherwise."""
    assert masked(text)
    assert masked_values({"api_key": text}) == {"api_key": "***"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", ["\\" * N, "'" * N, "\\'" * (N // 2)])
def test_quoting_takes_no_longer_than_the_text_is(text):
    assert len(quote_text(text)) > N


DOORS = {
    # the terminal and the log, and values in messages
    "streams",
    "errors",
    # the store, and messages about its address
    "store/mlflow_run",
    "store/address",
    # files: of runs, of a batch that begins, of a spool, of best parameters, and reports
    "workers/run_files",
    "batch/provenance",
    "store/spool",
    "report/best_params",
    "report/markdown",
    # what names and describes a run, and the errors of strategies: taken in without secrets
    "compose/configurations",
    "records",
    "batch/plan",
    "batch/session",
    # what is compared with, or shown beside, what was recorded without secrets
    "batch/rerun",
    "store/batch_document",
    # a database of prices: what it says, and its address in hashes and in the cache
    "core/data/database",
    "core/data/sources/sql",
    "core/fingerprint",
}


def test_secrets_are_left_out_at_few_places():
    sources = Path(__file__).parents[1] / "src" / "backtest_batch"
    found = set()
    for path in sources.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module == "backtest_batch.masking":
                found.add(path.relative_to(sources).with_suffix("").as_posix())
    assert found == DOORS
