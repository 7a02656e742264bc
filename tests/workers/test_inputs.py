"""What a strategy reads besides the panel."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from backtest_batch.workers.watch import (
    INPUTS,
    LARGEST_BYTES,
    UNKNOWN,
    Checked,
    UnreadableError,
    as_tag,
    content_digest,
)

EACH = r"""
import json, os, sys
sys.path.insert(0, os.getcwd())
import numpy, pandas, pyarrow.parquet
from backtest_batch.workers import watch

def append(): open("log.txt", "a").write("x")
def read(): pandas.read_csv("features.csv")
def outside(): open(os.path.join("..", "outside.txt")).read()
def absent():
    try: open("absent.txt")
    except FileNotFoundError: pass
def own():
    pandas.DataFrame({"a": [1]}).to_pickle("own.pkl")
    pandas.read_pickle("own.pkl")
def changing():
    with open("features.csv", "r+") as file:
        file.read()
        file.write("more")
def listing(): os.listdir("folder")
def database():
    import sqlite3
    sqlite3.connect("data.db").execute("select 1")
def dynamic():
    import importlib
    importlib.import_module("plug" + "in")
def native(): pyarrow.parquet.read_table("features.parquet")
def through_python():
    with open("features.parquet", "rb") as file:
        pyarrow.parquet.read_table(file)
def network():
    import socket
    try: socket.create_connection(("127.0.0.1", 9), 1)
    except OSError: pass
def program():
    import subprocess
    subprocess.run(["true"], check=True)
def spawned():
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=abs, args=(1,))
    process.start()
    process.join()
def queue(): os.mkfifo("queue"); os.close(os.open("queue", os.O_RDWR | os.O_NONBLOCK))
def large(): open("large.bin", "rb").read(1)
def ordinary():
    import datetime, platform, tempfile, zoneinfo
    from sklearn.linear_model import Ridge
    values = numpy.random.default_rng(0).random((50, 3))
    Ridge().fit(values, values[:, 0])
    frame = pandas.DataFrame(values, index=pandas.date_range("2000", periods=50, tz="Asia/Tokyo"))
    frame.rolling(5).mean().resample("W").last()
    datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin")); platform.platform(); os.cpu_count()
    with tempfile.TemporaryFile() as file:
        file.write(b"x"); file.seek(0); file.read()

watch.install()
for name in sys.argv[1:]:
    out, into = os.pipe()
    if os.fork() == 0:
        watch._known.children = watch._children()
        with watch.strategy_at_work("strategies.Mine"):
            globals()[name]()
        first = watch.input_tags("strategies.Mine")
        with watch.strategy_at_work("strategies.Mine"):
            pass
        assert watch.input_tags("strategies.Mine") == first, "a module may have kept it"
        assert watch.input_tags("backtest_batch.strategies.EqualWeight") == {}
        os.write(into, json.dumps(first).encode())
        os._exit(0)
    os.close(into)
    os.wait()
    print(name, os.read(out, 100_000).decode(), flush=True)
"""

NAMES = {
    "append": [],
    "read": ["features.csv"],
    "absent": ["absent.txt"],
    "own": [],
    "listing": ["folder/"],
    "database": ["data.db", "data.db-wal"],
    "dynamic": ["plugin.py"],
    "through_python": ["features.parquet"],
    "ordinary": [],
}
REASONS = {
    "changing": "features.csv changed while it was read",
    "native": "a library read files by itself, not through Python",
    "network": "it asked 127.0.0.1:9 over the network",
    "program": "it started another process (true)",
    "spawned": "it started other processes",
    "queue": "queue is no file",
    "large": "large.bin is larger than 256 MiB",
}


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")
def test_each_kind_of_input_is_recorded_or_said_to_be_unknown(tmp_path):
    folder = tmp_path / "work"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("x")
    (folder / "strategies.py").touch()
    (folder / "plugin.py").write_text("x = 1")
    (folder / "features.csv").write_text("a,b\n1,2\n")
    (folder / "data.db").touch()
    pd.DataFrame({"a": range(20_000)}).to_parquet(folder / "features.parquet")
    with (folder / "large.bin").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    names = [*NAMES, "outside", *REASONS]
    done = subprocess.run(
        [sys.executable, "-c", EACH, *names], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, _, text = line.partition(" ")
        assert text, f"{name}: {done.stderr}"
        found[name] = json.loads(text)
    assert list(found) == names, done.stderr
    for name, files in NAMES.items():
        assert UNKNOWN not in found[name], (name, found[name])
        assert list(json.loads(found[name].get(INPUTS, "{}"))) == files, name
    assert list(json.loads(found["outside"][INPUTS])) == [str(tmp_path / "outside.txt")]
    for name, reason in REASONS.items():
        assert found[name].get(UNKNOWN, "").endswith(reason), (name, found[name])


def test_recorded_inputs_are_compared_with_what_is_there_now(working_dir):
    (working_dir / "a.csv").write_text("1")
    (working_dir / "folder").mkdir()
    paths = [str(working_dir / name) for name in ("a.csv", "absent")]
    paths.append(f"{working_dir}/folder/")
    text = as_tag({path: content_digest(path) for path in paths}, str(working_dir))
    assert list(json.loads(text)) == ["a.csv", "absent", "folder/"]
    assert Checked().fault({INPUTS: text}) is None
    assert Checked().fault({}) is None
    (working_dir / "folder" / "new").touch()
    assert Checked().fault({INPUTS: text}) == "folder/ has changed"
    (working_dir / "folder" / "new").unlink()
    (working_dir / "absent").touch()
    assert Checked().fault({INPUTS: text}) == "absent has changed"
    (working_dir / "absent").unlink()
    (working_dir / "a.csv").write_text("2")
    assert Checked().fault({INPUTS: text}) == "a.csv has changed"
    (working_dir / "a.csv").unlink()
    assert Checked().fault({INPUTS: text}) == "a.csv has changed"
    assert Checked().fault({INPUTS: text[:-5]}) == "what it has read is not recorded in full"
    assert Checked().fault({INPUTS: "[1]"}) == "what it has read is not recorded in full"
    assert Checked().fault({UNKNOWN: "the network"}) == "the network"


def test_a_recorded_path_that_is_no_file_is_not_read():
    """A store may come from elsewhere."""
    assert Checked().fault({INPUTS: '{"/dev/zero":"0"}'}) == "/dev/zero is no file"


def test_more_files_than_a_tag_can_hold_are_refused():
    with pytest.raises(UnreadableError, match="1000 files were read"):
        as_tag({f"/folder/{number}": "0" * 16 for number in range(1000)}, "/folder")
