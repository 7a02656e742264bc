"""What a worker of a cluster does with a request, without an engine around it."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data import cache
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.errors import ConfigurationError, DataError, RunTimeout, WorkerDied
from backtest_batch.rows import is_whole, open_rows
from backtest_batch.workers.chunks import RETURNS, ChunkTask, Scratch, array_file, benchmark_rows
from backtest_batch.workers.cluster import agent, transfer
from backtest_batch.workers.cluster.transfer import (
    TOKEN,
    CommandOrigin,
    PanelCopy,
    Request,
    Sources,
    sources_of,
    unpack,
)
from backtest_batch.workers.executor import StartError
from backtest_batch.workers.monitor import Limits

SMALL = ("data=synthetic", "data.n_bars=300", "data.n_assets=4", "commission_bps=0,1")


@pytest.fixture
def plan(planned, working_dir):
    return planned("-m", *SMALL)


@pytest.fixture
def request_of(plan, tmp_path):
    """Make the request of a plan's runs, as the command would."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    made = []

    def make(runs=plan.runs, limits=Limits()):  # noqa: B008 - it is frozen
        origin = CommandOrigin.here(scratch)  # each is a command of its own
        task = ChunkTask(
            runs=tuple(runs),
            scratch=Scratch(
                folder=scratch,
                row_bars=max(run.n_bars for run in runs),
                benchmark_rows=benchmark_rows(plan.runs),
            ),
            with_files=frozenset(run.index for run in runs),
            profile=False,
            provenance={},
        )
        target = runs[0].config["strategy"]["_target_"]
        made.append(origin.token)
        return Request(task=task, limits=limits, origin=origin, sources=sources_of(target))

    yield make
    for token in made:
        agent.CREW.end(token)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another cache, such as that of another machine."""
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(transfer, "_present", set())
    return tmp_path / "elsewhere"


def test_data_that_is_not_there_is_asked_for_and_then_kept(plan, request_of, elsewhere):
    (panel,) = plan.panels.values()
    request = request_of()
    assert agent.compute_request(request).missing == panel.fingerprint
    copy = pickle.loads(pickle.dumps(PanelCopy.of(panel)))
    transfer.keep(copy)
    found = cache.find_panel(panel.fingerprint)
    assert found is not None
    assert (found.close.to_numpy() == panel.close.to_numpy()).all()
    assert found.index.equals(panel.index)


def test_what_runs_are_compared_with_travels_too(planned, working_dir, request_of, elsewhere):
    days = pd.bdate_range("2000-01-03", periods=2_000).rename("date")
    prices = pd.DataFrame({"index": np.linspace(90.0, 110.0, 2_000)}, index=days)
    prices.to_csv("index.csv")
    prices.pct_change().rename(columns={"index": "market"}).to_csv("factors.csv")
    plan = planned(*SMALL[:3], "benchmark=index.csv", "factors=factors.csv")
    (run,) = plan.runs
    wanted = (run.data_fingerprint, run.benchmark.content, run.factors.content)
    request = request_of(plan.runs)
    assert request.fingerprints == wanted
    shipped = {name: PanelCopy.of(cache.open_panel(name)) for name in wanted}
    shutil.rmtree(elsewhere)
    for name in wanted:
        assert agent.compute_request(request).missing == name
        transfer.keep(pickle.loads(pickle.dumps(shipped[name])))


def test_members_features_and_further_fields_travel_too(elsewhere):
    days = pd.bdate_range("2020-01-01", periods=4)
    close = pd.DataFrame({"A": [1.0, 2, 3, 4], "B": [4.0, 3, 2, 1]}, index=days)
    panel = panel_from_frames(
        close,
        fields={"cap": close * 2},
        members=pd.DataFrame({"A": [True], "B": [False]}, index=days[:1]),
        features={"vix": close["A"], "score": close},
    )
    transfer.keep(pickle.loads(pickle.dumps(PanelCopy.of(panel))))
    found = cache.find_panel(panel.fingerprint)
    assert found is not None
    assert found.members is not None
    assert found.members[:, 0].all()
    assert found.features["score"].equals(panel.features["score"])
    assert list(found.fields) == ["close", "cap"]


def test_data_that_changed_on_its_way_is_refused(plan, elsewhere):
    (panel,) = plan.panels.values()
    copy = PanelCopy.of(panel)
    copy.fields["close"][7, 1] += 0.001
    with pytest.raises(DataError, match="changed on its way"):
        transfer.keep(copy)
    assert not transfer.has_data(panel.fingerprint)


def test_an_entry_of_the_cache_that_was_damaged_is_not_there(plan, elsewhere):
    (panel,) = plan.panels.values()
    transfer.keep(PanelCopy.of(panel))
    file = elsewhere / "panels" / panel.fingerprint / "close.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert cache.find_panel(panel.fingerprint) is None


def test_modules_of_the_working_directory_travel_as_they_are(working_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(working_dir))
    package = working_dir / "travelling"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        "import json\nfrom travelling_help import x\nclass Mine: ...\n"
    )
    (working_dir / "travelling_help.py").write_text("x = 1\n")
    (working_dir / "travelling_not.py").write_text("x = 1\n")
    sources = sources_of("travelling.mine.Mine")
    assert set(sources.files) == {
        "travelling/__init__.py",
        "travelling/mine.py",
        "travelling_help.py",
    }
    assert sources.stand_in(working_dir)
    folder = sources.unpacked()
    assert sources.stand_in(folder)
    (package / "mine.py").write_text("changed = True\n")
    assert not sources.stand_in(working_dir)
    (folder / "travelling_help.py").write_text("damaged")
    assert sources.stand_in(sources.unpacked())


def test_a_shipped_strategy_needs_no_modules():
    assert sources_of("backtest_batch.strategies.EqualWeight") == Sources({})


def test_a_folder_is_that_of_the_command_only_with_its_token(tmp_path):
    origin = CommandOrigin.here(tmp_path)
    assert origin.shares_files(tmp_path)
    assert not replace(origin, host="another machine").shares_files(tmp_path)
    assert not replace(origin, token="other").shares_files(tmp_path)
    (tmp_path / TOKEN).unlink()
    assert not origin.shares_files(tmp_path)


@pytest.mark.slow
def test_results_come_home_from_where_the_folder_is_not_seen(plan, request_of, tmp_path):
    here = request_of()
    seen = agent.compute_request(here)
    assert seen.error is None
    assert seen.rows is None
    apart = replace(here, origin=replace(here.origin, host="another machine"))
    answer = pickle.loads(pickle.dumps(agent.compute_request(apart)))
    assert answer.error is None
    assert "computing 2 runs" in answer.log
    origin = tmp_path / "origin"
    task = replace(here.task, scratch=replace(here.task.scratch, folder=origin))
    reply = unpack(answer, task)
    first, second = (
        open_rows(array_file(place, RETURNS), 3, here.task.scratch.row_bars)
        for place in (here.task.scratch.folder, origin)
    )
    np.testing.assert_array_equal(first, second)
    assert all(is_whole(second[run.index], run.run_key) for run in plan.runs)
    for result, run in zip(reply.results, plan.runs, strict=True):
        assert result.artifacts == origin / "runs" / run.run_id
        for file in (here.task.scratch.folder / "runs" / run.run_id).rglob("*.parquet"):
            assert (result.artifacts / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_sources_that_differ_on_the_worker_are_refused(plan, request_of):
    others = [replace(run, code_fingerprint="0" * 64) for run in plan.runs]
    reply = agent.compute_request(request_of(others)).reply
    assert reply is not None
    assert reply.permanent
    assert reply.failure.error_type == ConfigurationError.__name__
    assert "are not the same on the worker" in reply.failure.error_message


@pytest.mark.slow
def test_a_limit_and_an_end_are_answers_too(planned, request_of, working_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(working_dir))
    (working_dir / "restless.py").write_text(
        "import os, time\nclass Restless:\n"
        "    def __init__(self, mode: str = 'sleep'): self.mode = mode\n"
        "    def target_weights(self, panel, decisions):\n"
        "        os._exit(7) if self.mode == 'leave' else time.sleep(1000)\n"
    )
    target = ("strategy=custom", "strategy._target_=restless.Restless")
    runs = planned("-m", *SMALL[:3], *target, "strategy.mode=sleep,leave").runs
    slow = agent.compute_request(request_of(runs[:1], Limits(timeout_seconds=1)))
    assert isinstance(slow.error, RunTimeout)
    gone = agent.compute_request(request_of(runs[1:]))
    assert isinstance(gone.error, WorkerDied)
    assert str(gone.error) == "the worker process exited with code 7"


@pytest.mark.slow
def test_what_ends_with_its_command_starts_nothing_more(request_of):
    request = request_of()
    assert agent.compute_request(request).error is None
    agent.end(request.origin.token)
    assert isinstance(agent.compute_request(request).error, StartError)
