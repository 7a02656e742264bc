"""The commands against a team's server: MLflow's on PostgreSQL, which serves the artifacts too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backtest_batch.cli.compare import main as compare
from backtest_batch.store import recorder
from backtest_batch.store.mlflow_run import run_entry
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import list_batches, read_artifact, read_runs
from backtest_batch.store.store import open_store
from tests.support.servers import PASSWORD, Proxy, basic

pytestmark = pytest.mark.server

MARKET = ("data=synthetic", "data.n_assets=3", "data.n_bars=300", "n_jobs=1")
GRID = ("-m", *MARKET, "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0")
SLOW = '''
import time
import numpy as np

class Slow:
    """Equal weights, after some time; the file says how often it was asked."""

    def __init__(self, number: int = 0, seconds: float = 0.0):
        self.number, self.seconds = number, seconds

    def target_weights(self, panel, decisions):
        with open("calls.txt", "a") as calls:
            calls.write(f"{self.number}\\n")
        if self.number < 0:
            raise ValueError("negative")
        time.sleep(self.seconds)
        n_assets = panel.close.shape[1]
        return np.full((len(decisions), n_assets), (1 + self.number / 100) / n_assets)
'''


def slow_sweep(folder, *arguments):
    """Return the arguments of a sweep over a strategy that takes its time."""
    (folder / "slow.py").write_text(SLOW)
    custom = ("strategy=custom", "strategy._target_=slow.Slow")
    usual = ("adaptive_workers=false", "audit.enabled=false")  # an audit would ask again
    return ("-m", *MARKET, *usual, *custom, *arguments)


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "backtest_batch", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, err = process.communicate(timeout=500)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def new_folder(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return folder


def ranked(folder):
    """Return the newest rankings.csv of a comparison."""
    return sorted(folder.glob("mlruns/comparisons/*/rankings.csv"))[-1].read_bytes()


def runs_of_newest(uri):
    """Return batch and runs, those in MLflow's trash not among them, as another client sees."""
    store = open_store(uri, "backtest_batch", create=False)
    batch = list_batches(store)[0]
    runs = read_runs(store, batches=[batch.batch_id])
    return store, batch, runs


def assert_each_once(uri, n_runs):
    """Every run of the newest batch is there once, is complete and has its files."""
    store, batch, runs = runs_of_newest(uri)
    assert runs["status"].tolist() == ["FINISHED"] * n_runs
    assert set(Counter(runs["tags.run_key"]).values()) == {1}
    assert batch.status == "FINISHED"
    assert batch.tags["n_finished"] == str(n_runs)
    assert len([handle for handle in list_batches(store) if handle.batch_id == batch.batch_id]) == 1
    for run in runs["mlflow_run_id"]:
        assert json.loads(read_artifact(store, run, "run.json"))["config"]
        assert len(read_artifact(store, run, "equity.parquet")) > 1_000
    assert read_artifact(store, batch.mlflow_run_id, "rankings.csv")
    return store, batch, runs


def test_sweep_compare_resume_and_verify(team_server, tmp_path, monkeypatch, invoke, capsys):
    served, local = new_folder(tmp_path, "served"), new_folder(tmp_path, "local")
    elsewhere = new_folder(tmp_path, "elsewhere")
    monkeypatch.chdir(local)
    assert invoke(*GRID, "tags.suite=core").code == 0
    assert compare(["batch=latest", "rank_by=calmar", "top_n=3"]) == 0

    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_server.uri)
    monkeypatch.chdir(served)
    done = invoke(*GRID, "tags.suite=core")
    assert done.code == 0, done.err
    assert f"Browse:  {team_server.uri}\n" in done.out
    assert [path.name for path in served.iterdir()] == ["mlruns"]
    assert [path.name for path in (served / "mlruns").iterdir()] == ["batches"]
    store, batch, runs = assert_each_once(team_server.uri, 9)
    assert store.artifact_location.startswith("mlflow-artifacts:")
    assert set(runs["tags.suite"]) == {"core"}
    rankings = read_artifact(store, batch.mlflow_run_id, "rankings.csv")
    assert rankings == next(local.glob("mlruns/batches/*/rankings.csv")).read_bytes()

    # Another machine knows no more than the address.
    monkeypatch.chdir(elsewhere)
    done = invoke("resume=latest")
    assert (done.code, "9 runs are recorded, nothing is left to run" in done.out) == (0, True)
    assert compare(["batch=latest", "rank_by=calmar", "top_n=3"]) == 0
    assert ranked(elsewhere) == ranked(local)
    assert compare(["filter_tags={suite: core}", "filter='metrics.sharpe > -9'"]) == 0
    best = next(elsewhere.glob("mlruns/comparisons/*/best_params.json"))
    done = invoke(f"best={best}", "verify=true")
    assert done.code == 0, done.err
    assert "Verified: all" in done.out

    # Straight from its database the runs read the same; the files come from the server.
    straight = f"tracking.uri={team_server.backend_uri}"
    assert compare([f"batch={batch.batch_id}", straight, "rank_by=calmar", "top_n=3"]) == 0
    assert ranked(elsewhere) == ranked(local)
    capsys.readouterr()


def test_failed_runs_and_earlier_trials(team_server, tmp_path, monkeypatch, invoke):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_server.uri)
    first, second = new_folder(tmp_path, "first"), new_folder(tmp_path, "second")
    monkeypatch.chdir(first)
    lines = (
        "-m",
        *MARKET[:2],
        "n_jobs=1",
        "data.n_bars=800",
        "strategy.slow=40",
        "tracking.experiment=trials",
    )
    assert invoke(*lines, "strategy.fast=5,10,20").code == 0
    monkeypatch.chdir(second)
    done = invoke(*lines, "strategy.fast=20,30")
    assert done.code == 0, done.err
    document = json.loads(next(second.glob("mlruns/batches/*/overfitting.json")).read_text())
    assert (document["n_trials"], document["n_trials_experiment"]) == (2, 4)

    monkeypatch.syspath_prepend(str(second))
    done = invoke(*slow_sweep(second, "strategy.number=-1,1", "tracking.experiment=failing"))
    assert done.code == 1, done.err
    store = open_store(team_server.uri, "failing", create=False)
    runs = read_runs(store).set_index("run_id")
    assert runs["status"].to_dict() == {"run_-1": "FAILED", "run_1": "FINISHED"}
    assert runs.loc["run_-1", "tags.error_type"] == "ValueError"
    failed = runs.loc["run_-1", "mlflow_run_id"]
    assert b"negative" in read_artifact(store, failed, "traceback.txt")


def test_two_clients_at_once(team_server, tmp_path):
    folders = [new_folder(tmp_path, name) for name in ("one", "two")]
    both = [
        start(folder, *GRID, f"batch_name={folder.name}", MLFLOW_TRACKING_URI=team_server.uri)
        for folder in folders
    ]
    for code, _, err in map(end, both):
        assert code == 0, err
    store = open_store(team_server.uri, "backtest_batch", create=False)
    handles = list_batches(store)[:2]
    assert {handle.batch_name for handle in handles} == {"one", "two"}
    for handle in handles:
        runs = read_runs(store, batches=[handle.batch_id])
        assert runs["status"].tolist() == ["FINISHED"] * 9
        assert runs["tags.run_key"].nunique() == 9


def test_runs_straight_into_its_database_with_files_through_the_server(
    team_server, tmp_path, monkeypatch, invoke
):
    monkeypatch.chdir(tmp_path)
    sweep = (*GRID, "batch_name=straight", f"tracking.uri={team_server.backend_uri}")
    open_store(team_server.uri, "backtest_batch")  # the server made the experiment
    done = invoke(*sweep)
    assert (done.code, "MLFLOW_TRACKING_URI" in done.err) == (2, True), done.err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_server.uri)
    done = invoke(*sweep)
    assert done.code == 0, done.err
    assert PASSWORD not in done.out + done.err
    _, batch, _ = assert_each_once(team_server.uri, 9)
    assert batch.batch_name == "straight"


def test_a_server_that_is_killed_and_started_again(team_server, tmp_path):
    arguments = slow_sweep(tmp_path, "strategy.number=range(0,24)", "strategy.seconds=0.4")
    process = start(tmp_path, *arguments, MLFLOW_TRACKING_URI=team_server.uri)

    def n_recorded():
        found = sorted(tmp_path.glob("mlruns/batches/*"))
        place = team_server.artifacts
        new = [path for path in place.glob("*/*/artifacts/equity.parquet") if path not in before]
        return len(new) if found else 0

    before = set(team_server.artifacts.glob("*/*/artifacts/equity.parquet"))
    deadline = time.monotonic() + 400
    while n_recorded() < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    team_server.kill()
    team_server.start()
    code, _, err = end(process)
    # The server was away for as long as it takes to start it, or longer than the client waits.
    if code == 3:
        words = err.rpartition("python -m backtest_batch ")[2].split()
        code, _, err = end(start(tmp_path, *words, MLFLOW_TRACKING_URI=team_server.uri))
    assert code == 0, err
    assert_each_once(team_server.uri, 24)
    asked = Counter((tmp_path / "calls.txt").read_text().split())
    assert asked == Counter({str(number): 1 for number in range(24)})


def flaky(asked):
    """Lose, refuse and pass, in an order that each kind of request meets all of."""
    if asked.creates_a_run:
        return {1: "lose", 2: 503, 3: "lose", 5: 429, 7: "lose", 8: "lose"}.get(
            asked.number, "pass"
        )
    return {3: 429, 5: 503, 8: "lose", 13: 500, 21: "lose"}.get(asked.number % 24, "pass")


def test_a_proxy_that_loses_answers_makes_no_run_twice(team_server, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    with Proxy(team_server.port, behaviour=flaky) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        done = invoke(*GRID, "batch_name=flaky")
        assert done.code == 0, done.err
        created = [does for asked, does in proxy.seen if asked.creates_a_run]
    # The parent and nine runs, and each of the requests that came to nothing.
    assert Counter(created)["lose"] == 4
    assert {503, 429} < set(created)
    reached = sum(does in ("pass", "lose") for does in created)
    assert reached == 10
    _, batch, _ = assert_each_once(team_server.uri, 9)
    assert batch.batch_name == "flaky"


def test_a_request_that_arrives_late_leaves_no_second_run(team_server, batch, make_record):
    """The client gives a request up, finds nothing, asks again; then the first one arrives."""

    def behaviour(asked):
        return 504 if asked.creates_a_run and asked.number == 2 else "pass"

    with Proxy(team_server.port, behaviour=behaviour) as proxy:
        store = open_store(proxy.uri, "late")
        recorder = Recorder(store, batch)
        parent = recorder.start_parent()
        record = make_record(0)
        recorder.record([record])
        entry = run_entry(record, batch, parent)
        late = store.client.create_run(store.experiment_id, tags=dict(entry.tags)).info.run_id
        assert len(read_runs(store, batches=[batch.batch_id])) == 2
        recorder.finish_parent("FINISHED")
        runs = read_runs(store, batches=[batch.batch_id])
        assert store.client.get_run(late).info.lifecycle_stage == "deleted"
    assert runs["status"].tolist() == ["FINISHED"]


def test_a_server_that_stays_away(team_server, tmp_path, monkeypatch, invoke):
    """Everything is computed and kept; the printed command records it without computing."""
    away = []

    def behaviour(asked):
        if asked.creates_a_run and asked.number > 3:
            away.append(asked)
        return 503 if away else "pass"

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Proxy(team_server.port, behaviour=behaviour) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        done = invoke(*slow_sweep(tmp_path, "strategy.number=range(0,8)", "batch_name=away"))
        assert done.code == 3, done.err
        assert "8 of 8 runs ranked" in done.out
        words = done.err.rpartition("python -m backtest_batch ")[2].split()
        away.clear()
        proxy.behaviour = lambda _: "pass"
        done = invoke(*words)
        assert done.code == 0, done.err
    assert len((tmp_path / "calls.txt").read_text().split()) == 8
    assert_each_once(team_server.uri, 8)


def test_a_slow_server_slows_the_computing_and_fills_no_memory(
    team_server, batch, make_record, monkeypatch
):
    monkeypatch.setattr(recorder, "LONGEST_QUEUE", 4)
    monkeypatch.setattr(recorder, "LONGEST_WAIT_SECONDS", 0.0)
    goes_on = threading.Event()

    def behaviour(asked):
        if asked.creates_a_run and asked.number > 1:
            goes_on.wait(300)
        return "pass"

    handed_over = []

    def compute():
        for index in range(16):
            time.sleep(0.02)  # else the recorder takes several at once
            recording.put([make_record(index)])
            handed_over.append(index)

    with Proxy(team_server.port, behaviour=behaviour) as proxy:

        def open_recorder():
            recorder = Recorder(open_store(proxy.uri, "slow"), batch)
            recorder.start_parent()
            return recorder

        recording = recorder.BackgroundRecorder(open_recorder)
        recording.start()
        recording.require_open()
        computing = threading.Thread(target=compute)
        computing.start()
        while len(handed_over) < 4:
            time.sleep(0.01)
        computing.join(1)
        assert computing.is_alive()
        # What is being recorded, and what waits.
        assert len(handed_over) <= 4 + 4 + 1
        goes_on.set()
        computing.join()
        recording.close()
    assert recording.error is None
    assert len(recording.recorded) == 16
    assert len(read_runs(open_store(team_server.uri, "slow"))) == 16


@pytest.fixture
def certificate(tmp_path):
    """A key and a certificate for 127.0.0.1 that signs itself."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mlflow.team")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encodings = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(*encodings) + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


def text_below(folder: Path) -> str:
    return "\n".join(
        path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file()
    )


def test_login_and_tls_as_mlflow_defines_them(
    team_server, tmp_path, monkeypatch, invoke, certificate, caplog
):
    folder = new_folder(tmp_path, "work")
    monkeypatch.chdir(folder)
    login = basic("ann", "pa55-word!")
    served = set(team_server.artifacts.rglob("*"))
    with Proxy(team_server.port, credentials=login, certificate=certificate) as proxy:
        sweep = ("-m", *MARKET, "commission_bps=0,1", f"tracking.uri={proxy.uri}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        done = invoke(*sweep)
        assert done.code == 2, done.err
        assert "certificate" in done.err.lower()
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        done = invoke(*sweep)
        assert (done.code, "Check the credentials" in done.err) == (2, True), done.err
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wr0ng-word")
        done = invoke(*sweep)
        assert (done.code, "Check the credentials" in done.err) == (2, True), done.err
        assert "wr0ng-word" not in done.err
        assert list(folder.iterdir()) == []

        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55-word!")
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
        done = invoke(*sweep)
        assert done.code == 0, done.err
        assert compare(["batch=latest", f"tracking.uri={proxy.uri}"]) == 0
        proxy.credentials = "Bearer t0ken-of-ann"
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-of-ann")
        again = invoke(*sweep, "batch_name=token")
        assert again.code == 0, again.err
    said = done.out + done.err + again.out + again.err + caplog.text + text_below(folder)
    new = [path for path in team_server.artifacts.rglob("*") if path not in served]
    said += "".join(path.read_bytes().decode("utf-8", "replace") for path in new if path.is_file())
    _, _, runs = runs_of_newest(team_server.uri)
    said += runs.to_json()
    for secret in ("pa55-word!", "t0ken-of-ann", login.split()[1]):
        assert secret not in said


def test_a_signal_while_the_server_is_away_ends_the_command(team_server, tmp_path):
    """A second one ends it at once; what was not recorded is computed again."""
    gone = []
    with Proxy(team_server.port, behaviour=lambda _: 503 if gone else "pass") as proxy:
        arguments = slow_sweep(tmp_path, "strategy.number=range(0,16)", "strategy.seconds=0.3")
        process = start(tmp_path, *arguments, MLFLOW_TRACKING_URI=proxy.uri)
        deadline = time.monotonic() + 400
        while sum(asked.creates_a_run for asked, _ in proxy.seen) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        gone.append(True)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        code, _, err = end(process)
        assert code == 130, err
        gone.clear()
        code, _, err = end(start(tmp_path, "resume=latest", MLFLOW_TRACKING_URI=proxy.uri))
        assert code == 0, err
    _, batch, runs = runs_of_newest(team_server.uri)
    finished = runs[runs["status"] == "FINISHED"]
    assert len(finished) == finished["tags.run_key"].nunique() == 16
    assert batch.status == "FINISHED"
