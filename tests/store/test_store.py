import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.store import StoreNotFoundError, open_store

OPEN = """
    import sys
    from pathlib import Path
    from backtest_batch.store.store import open_store, resolve_uri
    store = open_store(resolve_uri(None, Path(sys.argv[1])), "backtest_batch")
    print(store.experiment_id)
"""


def run_python(code: str, *arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def query(database: Path, statement: str) -> list[tuple]:
    connection = sqlite3.connect(database)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def database_of(folder: Path) -> Path:
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture
def copied(migrated_database, tmp_path) -> Path:
    database = database_of(tmp_path)
    database.parent.mkdir()
    shutil.copyfile(migrated_database, database)
    return database


def test_a_fresh_store_is_whole_tuned_and_quiet(tmp_path):
    folder, home = tmp_path / "Zürich a b", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    process = run_python(OPEN, folder, cwd=folder, env=environment)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "1\n", "")
    assert sorted(path.name for path in folder.rglob("*")) == ["mlflow.db", "mlruns"]
    assert list(home.rglob("*")) == []
    assert query(database_of(folder), "PRAGMA journal_mode") == [("wal",)]
    (location,) = query(
        database_of(folder), "SELECT artifact_location FROM experiments WHERE experiment_id = 1"
    )[0]
    assert Path(unquote(urlparse(location).path)) == folder / "mlruns" / "artifacts"


@pytest.mark.slow
def test_many_processes_open_one_fresh_store_at_once(tmp_path):
    processes = [run_python(OPEN, tmp_path) for _ in range(6)]
    results = [(process.communicate(), process.returncode) for process in processes]
    assert [(out, code) for (out, _), code in results] == [("1\n", 0)] * 6, results
    assert query(database_of(tmp_path), "SELECT name FROM experiments ORDER BY 1") == [
        ("Default",),
        ("backtest_batch",),
    ]
    assert [path.name for path in database_of(tmp_path).parent.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3, 0.5, 0.8])
def test_a_kill_while_the_store_is_made_leaves_no_broken_one(tmp_path, make_store, delay):
    process = run_python(
        """
        import sys
        from pathlib import Path
        from backtest_batch.store import sqlite_file
        from backtest_batch.store.mlflow_calls import import_mlflow
        import_mlflow()
        print("ready", flush=True)
        sqlite_file.create_if_missing(Path(sys.argv[1]))
        """,
        database_of(tmp_path),
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.kill()
    process.communicate()
    again = run_python(OPEN, tmp_path)
    out, err = again.communicate()
    assert (again.returncode, out) == (0, "1\n"), err
    assert [path.name for path in database_of(tmp_path).parent.iterdir()] == ["mlflow.db"]


def test_an_empty_file_becomes_a_store(tmp_path):
    database_of(tmp_path).parent.mkdir()
    database_of(tmp_path).touch()
    store = open_store(resolve_uri(None, tmp_path), "backtest_batch")
    store.close()
    assert store.experiment_id == "1"


def test_every_connection_syncs_less_and_waits(store):
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 20_000


def test_an_existing_experiment_is_used_again(make_store, tmp_path):
    assert make_store(tmp_path).experiment_id == make_store(tmp_path).experiment_id
    other = open_store(make_store(tmp_path).uri, "other")
    assert other.experiment_id != make_store(tmp_path).experiment_id


def test_closing_leaves_one_file_and_the_store_can_be_used_again(store, tmp_path):
    store.client.create_run(store.experiment_id)
    store.close()
    assert [path.name for path in database_of(tmp_path).parent.iterdir()] == ["mlflow.db"]
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_opening_a_store_takes_no_locks_from_other_connections_of_the_process(store, tmp_path):
    database = database_of(tmp_path)
    notebook = sqlite3.connect(database)  # in WAL mode, it holds a lock as long as it is open
    notebook.execute("CREATE TABLE notes (text)")
    for create in (True, False):
        open_store(store.uri, "backtest_batch", create=create)
    store.close()
    # Whoever believes that it closes the last connection removes the log.
    terminal = run_python(
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM notes').close()",
        database,
    )
    assert terminal.communicate() == ("", "")
    notebook.execute("INSERT INTO notes VALUES ('kept')")
    notebook.commit()
    assert database.with_name("mlflow.db-wal").exists()
    assert query(database, "SELECT * FROM notes") == [("kept",)]
    notebook.close()


def test_a_folder_whose_name_an_address_must_quote(tmp_path):
    folder = tmp_path / "c#50% ä ü"
    folder.mkdir()
    store = open_store(resolve_uri(None, folder), "backtest_batch")
    run_id = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_text(run_id, "text", "note.txt")
    copy = store.client.download_artifacts(run_id, "note.txt", str(tmp_path))
    assert Path(copy).read_text() == "text"
    assert local_folder(store.artifact_location) == folder / "mlruns" / "artifacts"
    assert [info.path for info in store.client.list_artifacts(run_id)] == ["note.txt"]
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c#50% ä ü", "note.txt"]


def with_a_note(store) -> str:
    """Record a run with a file, and return its id."""
    run_id = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_text(run_id, run_id, "note.txt")
    return run_id


def note_of(store, run_id, copies: Path) -> str:
    copies.mkdir(exist_ok=True)
    return Path(store.client.download_artifacts(run_id, "note.txt", str(copies))).read_text()


def test_artifacts_lie_beside_the_database_of_a_project_that_was_copied_and_renamed(
    make_store, tmp_path, caplog
):
    first = make_store(tmp_path / "one")
    old = with_a_note(first)
    first.close()
    caplog.clear()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    (tmp_path / "one").rename(tmp_path / "new # name")
    shutil.copytree(tmp_path / "copy", tmp_path / "one")  # the original is there still, too
    for name in ("copy", "new # name"):
        artifacts = tmp_path / name / "mlruns" / "artifacts"
        store = make_store(tmp_path / name)
        assert f"was made in {tmp_path / 'one' / 'mlruns'}" in caplog.text
        caplog.clear()
        assert local_folder(store.artifact_location) == artifacts
        new = with_a_note(store)
        assert sorted(path.name for path in artifacts.iterdir()) == sorted([old, new])
        (artifacts / old / "artifacts" / "note.txt").write_text(name)
        assert note_of(store, old, tmp_path / "copies") == name
        assert note_of(store, new, tmp_path / "copies") == new
        make_store(tmp_path / name).close()
        assert caplog.text == ""
    assert [path.name for path in (tmp_path / "one/mlruns/artifacts").iterdir()] == [old]


def test_a_store_of_an_earlier_version_that_was_renamed(tmp_path):
    first = open_store(resolve_uri(None, tmp_path / "one"), "backtest_batch")
    old = with_a_note(first)
    first.close()
    query(database_of(tmp_path / "one"), "DELETE FROM experiment_tags")
    (tmp_path / "one").rename(tmp_path / "two")
    store = open_store(resolve_uri(None, tmp_path / "two"), "backtest_batch", create=False)
    assert note_of(store, old, tmp_path / "copies") == old
    root = (tmp_path / "two/mlruns/artifacts").as_uri()
    addresses = [item.artifact_location for item in store.client.search_experiments()]
    assert sorted(addresses) == [root, f"{root}/0"]
    store.close()


def test_a_database_that_was_moved_alone_leaves_files_where_they_are(make_store, tmp_path):
    first = make_store(tmp_path / "one")
    old = with_a_note(first)
    first.close()
    (tmp_path / "two" / "mlruns").mkdir(parents=True)
    database_of(tmp_path / "one").rename(database_of(tmp_path / "two"))
    store = make_store(tmp_path / "two")
    new = with_a_note(store)
    assert note_of(store, old, tmp_path / "copies") == old
    assert (tmp_path / "two/mlruns/artifacts" / new / "artifacts/note.txt").exists()
    assert not (tmp_path / "one/mlruns/artifacts" / new).exists()


def test_an_experiment_with_a_place_of_its_own_keeps_it_and_that_is_said(
    make_store, tmp_path, caplog
):
    store = make_store(tmp_path)
    place = (tmp_path / "large disk" / "artifacts").as_uri()
    store.client.create_experiment("own", place)
    assert open_store(store.uri, "own").artifact_location == place
    assert f"go to {tmp_path / 'large disk' / 'artifacts'}" in caplog.text


def test_an_experiment_in_a_store_that_mlflow_made_moves_as_well(tmp_path):
    from mlflow.tracking import MlflowClient

    database_of(tmp_path / "one").parent.mkdir(parents=True)
    MlflowClient(tracking_uri=resolve_uri(None, tmp_path / "one")).search_experiments()
    first = open_store(resolve_uri(None, tmp_path / "one"), "backtest_batch")
    old = with_a_note(first)
    first.close()
    (tmp_path / "one").rename(tmp_path / "two")
    store = open_store(resolve_uri(None, tmp_path / "two"), "backtest_batch", create=False)
    assert local_folder(store.artifact_location) == tmp_path / "two" / "mlruns" / "artifacts"
    assert note_of(store, old, tmp_path / "copies") == old
    store.close()


def test_a_store_that_was_deleted_and_made_again_in_one_process(make_store, tmp_path):
    first = make_store(tmp_path)
    first.client.create_run(first.experiment_id)
    database_of(tmp_path).unlink()
    second = open_store(first.uri, "backtest_batch")
    assert second.client.search_runs([second.experiment_id]) == []
    second.close()


def test_the_command_to_browse_the_store(make_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_store(tmp_path).ui_command == (
        "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"
    )
    spaced = tmp_path / "a b"
    spaced.mkdir()
    assert make_store(spaced).ui_command == (
        "mlflow ui --backend-store-uri 'sqlite:///a b/mlruns/mlflow.db'"
    )


def test_without_create_nothing_is_made(tmp_path, store):
    with pytest.raises(StoreNotFoundError, match="There is no tracking store at"):
        open_store(resolve_uri(None, tmp_path / "other"), "backtest_batch", create=False)
    assert not (tmp_path / "other").exists()
    with pytest.raises(StoreNotFoundError, match="There is no experiment 'other'"):
        open_store(store.uri, "other", create=False)
    assert store.client.get_experiment_by_name("other") is None


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(store):
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(StoreError, match=r"was deleted\. Restore it \(mlflow experiments restore"):
        open_store(store.uri, "backtest_batch")


def test_a_file_that_is_no_database(tmp_path):
    database_of(tmp_path).parent.mkdir()
    database_of(tmp_path).write_text("not a database at all, but long enough to look like one")
    with pytest.raises(StoreError, match="is damaged: file is not a database") as caught:
        open_store(resolve_uri(None, tmp_path), "backtest_batch")
    assert f"mv {database_of(tmp_path)} {database_of(tmp_path)}.old" in str(caught.value)


@pytest.mark.parametrize("where", ["cut", "schema", "inside"])
def test_a_corrupt_database(copied, where):
    content = bytearray(copied.read_bytes())
    if where == "cut":
        content = content[: len(content) // 2]
    elif where == "schema":
        content[100:4_096] = b"\xff" * 3_996
    else:
        content[8_192:-4_096] = b"\xa5" * (len(content) - 12_288)
    copied.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged: .*malformed"):
        open_store(resolve_uri(None, copied.parent.parent), "backtest_batch")


def test_a_store_of_an_older_mlflow_is_refused_with_mlflows_own_command(copied):
    query(copied, "UPDATE alembic_version SET version_num = '451aebb31d03'")
    query(copied, "INSERT INTO runs (run_uuid, experiment_id) VALUES ('a', 0)")
    with pytest.raises(StoreError, match="of an older MLflow") as caught:
        open_store(resolve_uri(None, copied.parent.parent), "backtest_batch")
    assert f"mlflow db upgrade sqlite:///{copied}" in str(caught.value)
    assert query(copied, "SELECT * FROM alembic_version") == [("451aebb31d03",)]


def test_an_unfinished_store_without_runs_can_be_moved_away(copied):
    query(copied, "UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(StoreError, match=r"holds no runs\. Move it away .*: mv "):
        open_store(resolve_uri(None, copied.parent.parent), "backtest_batch")


def test_a_store_of_a_newer_mlflow(copied):
    query(copied, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(StoreError, match=r"newer MLflow than the installed .*pip install -U"):
        open_store(resolve_uri(None, copied.parent.parent), "backtest_batch")


def test_a_database_of_something_else(tmp_path):
    database_of(tmp_path).parent.mkdir()
    query(database_of(tmp_path), "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="is not an MLflow store: it has other tables"):
        open_store(resolve_uri(None, tmp_path), "backtest_batch")
    assert query(database_of(tmp_path), "SELECT name FROM sqlite_master") == [("recipes",)]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "mlruns").write_text("")
    with pytest.raises(StoreError, match=r"cannot be created: (file exists|not a directory)"):
        open_store(resolve_uri(None, tmp_path), "backtest_batch")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_cannot_be_written(migrated_database, exists):
    # Below the temporary folder itself: pytest's own folders are closed to other users.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    try:
        database = database_of(folder)
        database.parent.mkdir()
        if exists:
            shutil.copyfile(migrated_database, database)
            database.chmod(0o444)
        database.parent.chmod(0o555)
        folder.chmod(0o755)
        process = run_python(
            """
            import os, sys
            from pathlib import Path
            import filelock  # while the folder of the packages may be read
            from backtest_batch.errors import StoreError
            from backtest_batch.store import sqlite_file
            from backtest_batch.store.mlflow_calls import import_mlflow
            import_mlflow()
            sqlite_file.head_revision()
            if os.geteuid() == 0:  # whom no permission stops
                os.setuid(65_534)
            try:
                sqlite_file.create_if_missing(Path(sys.argv[1]))
                sqlite_file.check_file(Path(sys.argv[1]))
            except StoreError as error:
                print(error)
            """,
            database,
        )
        out, err = process.communicate()
    finally:
        database.parent.chmod(0o755)
        shutil.rmtree(folder)
    expected = "cannot be opened for writing" if exists else "cannot be created: permission denied"
    assert expected in out, (out, err)
    assert "give tracking.uri another place" in out


def test_a_server_that_cannot_be_reached_fails_soon_and_without_noise(tmp_path, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = dict(os.environ)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"failed to open: connection refused\. Check that") as e:
        open_store(f"http://me:s3cr3t@127.0.0.1:{port}", "backtest_batch")
    assert time.monotonic() - started < 60
    assert "s3cr3t" not in str(e.value)
    assert f"http://***@127.0.0.1:{port}" in str(e.value)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0.2"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many"),
        ("MLFLOW_TRACKING_INSECURE_TLS", "perhaps"),
    ],
)
def test_a_variable_that_mlflow_refuses(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=f"refuses the environment variable {name}={value}: "):
        open_store("http://127.0.0.1:9", "backtest_batch")


def test_an_address_of_no_known_kind(tmp_path):
    with pytest.raises(StoreError, match="ftp://h/x failed to open"):
        open_store(resolve_uri("ftp://h/x", tmp_path), "backtest_batch")


def test_a_database_server_without_its_driver_or_itself(tmp_path):
    with pytest.raises(StoreError, match=r"postgresql\+psycopg2://\*\*\*@127.0.0.1:1/db failed"):
        open_store("postgresql+psycopg2://me:s3cr3t@127.0.0.1:1/db", "backtest_batch")


def test_an_experiment_name_that_mlflow_refuses(make_store, tmp_path):
    uri = make_store(tmp_path).uri
    with pytest.raises(StoreError, match="failed to open: "):
        open_store(uri, "x" * 501)


def test_a_store_that_another_process_holds(copied, monkeypatch):
    monkeypatch.setattr("backtest_batch.store.sqlite_file._BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(copied, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another process for 0 seconds"):
        open_store(resolve_uri(None, copied.parent.parent), "backtest_batch")
    holder.close()
