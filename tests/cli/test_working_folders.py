"""Where the command writes, and where it may be called from."""

import subprocess
import sys

import pytest

SMALL = ("data=synthetic", "data.n_bars=100", "data.n_assets=3", "n_jobs=2", "commission_bps=1,2")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
def test_nothing_but_a_key_is_written_outside_mlruns_output_dir_and_the_cache(
    tmp_path, ended_command
):
    folders = {name: tmp_path / name for name in ("home", "temporary", "working dir é", "cache")}
    for folder in folders.values():
        folder.mkdir()
    working_dir = folders["working dir é"]
    (working_dir / "prices.csv").write_text("timestamp,A\n2020-01-01,1\n")
    ended = ended_command(
        working_dir,
        *SMALL,
        "output_dir=my reports",
        env={
            "HOME": str(folders["home"]),
            "TMPDIR": str(folders["temporary"]),
            "BACKTEST_BATCH_CACHE": str(folders["cache"]),
            "NUMBA_CACHE_DIR": "",
        },
    )
    assert ended.code == 0, ended.err
    assert names(working_dir) == ["mlruns", "my reports", "prices.csv"]
    assert names(working_dir / "mlruns") == ["artifacts", "mlflow.db"]
    assert tree(folders["temporary"]) == []
    # What tells the user's own batches from those of others; else nothing.
    key = ".local/state/backtest_batch/signing_key"
    assert [name for name in tree(folders["home"]) if not key.startswith(name)] == []
    assert (folders["home"] / key).stat().st_mode & 0o777 == 0o600
    kept = ["code", "numba", "panels", "plotly", "sources", "templates"]
    assert names(folders["cache"]) == kept
    assert any(name.endswith(".nbc") for name in tree(folders["cache"] / "numba"))


@pytest.mark.slow
def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path):
    """As in ``python -m backtest_batch --help | head -1``."""
    with subprocess.Popen(
        [sys.executable, "-m", "backtest_batch", "--help"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert "Traceback" not in error
    assert "BrokenPipe" not in error


def test_the_configuration_is_found_from_anywhere(invoke, working_dir):
    ended = invoke("--cfg", "job", "data=synthetic")
    assert ended.code == 0
    assert "_target_: backtest_batch.market.sources.Synthetic" in ended.out
    assert list(working_dir.iterdir()) == []
