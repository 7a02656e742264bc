"""What somebody else has recorded: shown, and run only when it is trusted."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.commands import SMALL_MARKET, Command

# Whoever imports it leaves a mark in the working directory.
THEIRS = """
import pathlib
import numpy as np

pathlib.Path("imported").touch()

class Theirs:
    def target_weights(self, panel, decisions):
        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)
"""


@pytest.fixture
def theirs(command: Command) -> Command:
    """A colleague's folder with a batch that is complete."""
    (command.folder / "theirs.py").write_text(THEIRS)
    target = ("strategy=custom", "strategy._target_=theirs.Theirs")
    done = command.run(*SMALL_MARKET, "n_jobs=1", *target)
    assert done.returncode == 0, done.stderr
    return command


@pytest.fixture
def mine(theirs: Command, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Another user's folder, who looks into the colleague's store and could import the same."""
    folder, home = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("home")
    (folder / "theirs.py").write_text(THEIRS)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{theirs.folder}/mlruns/mlflow.db"}
    environment = {**theirs.environment, **store, "HOME": str(home)}
    environment.pop("XDG_STATE_HOME", None)
    return replace(theirs, folder=folder, environment=environment)


@pytest.mark.slow
def test_a_batch_of_somebody_else_goes_on_only_when_it_is_trusted(
    theirs: Command, mine: Command
) -> None:
    refused = mine.run("resume=latest")

    assert refused.returncode == 2, refused.stderr
    for said in ("theirs.Theirs", "data.n_assets=3", "trust=true"):
        assert said in refused.stderr
    assert [path.name for path in mine.folder.iterdir()] == ["theirs.py"]

    trusted = mine.run("resume=latest", "trust=true")
    assert trusted.returncode == 0, trusted.stderr
    assert (mine.folder / "imported").exists()
    batch_id = theirs.batches[-1].name
    assert f"The batch {batch_id} is complete" in trusted.stdout
    assert [path.name for path in mine.batches] == [batch_id]
    # It has become this user's own by that, as it is in this folder.
    assert mine.run("resume=latest").returncode == 0


@pytest.mark.slow
def test_a_file_of_somebody_else_is_run_only_when_it_is_trusted(
    theirs: Command, mine: Command
) -> None:
    best = f"best={theirs.report('best_params.json')}"
    del mine.environment["MLFLOW_TRACKING_URI"]

    refused = mine.run(best)

    assert refused.returncode == 2, refused.stderr
    for said in ("theirs.Theirs", "data.n_assets=3", "trust=true"):
        assert said in refused.stderr
    assert [path.name for path in mine.folder.iterdir()] == ["theirs.py"]
    (mine.folder / "batch.yaml").write_text(f"best: {Path(best[5:])}\ntrust: true\n")
    assert "must not hold trust" in mine.run("batch_file=batch.yaml").stderr

    trusted = mine.run(best, "trust=true", "verify=true")
    assert trusted.returncode == 0, trusted.stderr
    assert "bit for bit" in trusted.stdout
    # Whoever has run it has a file of their own, and that needs no trust.
    again = mine.run(f"best={mine.report('best_params.json')}")
    assert again.returncode == 0, again.stderr
