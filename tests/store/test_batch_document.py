import itertools
import shutil

import pytest
import yaml

from backtest_batch.store.batch_document import (
    read_document,
    read_document_file,
    signed_document,
    targets,
)
from backtest_batch.store.folders import is_batch_id

VALUES = {
    "batch_id": "20260101T000000Z-abcdef",
    "batch_name": "ünïcode",
    "arguments": [
        "strategy=custom",
        "strategy._target_=mine.Mine",
        "tracking.uri=http://127.0.0.1:9",
        "output_dir=kept",
        "hydra.launcher.address=tcp://127.0.0.1:9",
        "hydra.searchpath=[file://conf]",
    ],
    "overrides": ["strategy=custom"],
    "config": {"tracking": {"uri": None}, "strategy": {"_target_": "mine.Mine"}},
    "output_dir": "/nowhere",
    "process": {"host": "h", "pid": "1"},
}
SAFE = ("strategy=custom", "strategy._target_=mine.Mine", "hydra.searchpath=[file://conf]")


def test_ones_own_words_are_taken_as_they_are():
    document = read_document(signed_document(VALUES).encode())

    assert document.is_own
    assert document.arguments == tuple(VALUES["arguments"])
    assert document.values == VALUES
    assert yaml.safe_load(signed_document(VALUES)) == VALUES | {
        "signature": yaml.safe_load(signed_document(VALUES))["signature"]
    }


@pytest.mark.parametrize("change", [("mine.Mine", "os.system"), ("- output_dir=kept\n", "")])
def test_words_that_were_changed_are_not_ones_own(change):
    text = signed_document(VALUES).replace(*change)

    document = read_document(text.encode(), in_own_folder=True)

    assert not document.is_own
    assert not any("tracking.uri" in item or "launcher" in item for item in document.arguments)
    assert not any(item.startswith("output_dir") for item in document.arguments)


def test_words_without_a_signature_are_those_of_the_folder_they_lie_in():
    text = yaml.safe_dump(VALUES).encode()

    assert not read_document(text).is_own
    assert read_document(text).arguments == SAFE
    assert read_document(text, in_own_folder=True).is_own
    # A token must not leave the machine on the word of a file that nobody signed.
    here = read_document(text, in_own_folder=True).arguments
    assert set(VALUES["arguments"]) - set(here) == {"tracking.uri=http://127.0.0.1:9"}


def test_a_file_of_ones_own_lies_in_mlruns_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "mlruns" / "batches" / VALUES["batch_id"] / "batch_config.yaml"
    inside.parent.mkdir(parents=True)
    inside.write_text(yaml.safe_dump(VALUES))
    outside = tmp_path / "batch_config.yaml"
    shutil.copyfile(inside, outside)

    assert read_document_file(inside).is_own
    assert not read_document_file(outside).is_own
    inside.chmod(0o666)
    assert not read_document_file(inside).is_own
    inside.unlink()
    inside.symlink_to(outside)
    assert not read_document_file(inside).is_own


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"5",
        b"a: [",
        b"\xff\xfe",
        b"arguments: []",
        yaml.safe_dump(VALUES | {"batch_id": "../../precious"}).encode(),
        yaml.safe_dump(VALUES | {"batch_id": ["x"]}).encode(),
        yaml.safe_dump(VALUES | {"arguments": [5]}).encode(),
        yaml.safe_dump(VALUES | {"arguments": {"a": "b"}}).encode(),
        yaml.safe_dump(VALUES | {"config": 5}).encode(),
        yaml.safe_dump(VALUES | {"config": {"tracking": 5}}).encode(),
        yaml.safe_dump(VALUES | {"output_dir": 5}).encode(),
        yaml.safe_dump(VALUES | {"process": "x"}).encode(),
    ],
)
def test_what_is_no_document_of_a_batch_is_none(content):
    assert read_document(content) is None


def test_its_folder_counts_only_when_it_holds_the_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    values = VALUES | {"output_dir": str(chosen)}
    default = tmp_path / "mlruns" / "batches" / VALUES["batch_id"]

    assert read_document(signed_document(values).encode()).output_dir == default
    other = signed_document(values | {"batch_id": "20260101T000000Z-000000"})
    (chosen / "batch_config.yaml").write_text(other)
    assert read_document(signed_document(values).encode()).output_dir == default
    (chosen / "batch_config.yaml").write_text(signed_document(values))
    assert read_document(signed_document(values).encode()).output_dir == chosen


@pytest.mark.parametrize("own", [None, "out/mine"])
def test_in_a_copy_of_a_project_its_folder_is_that_of_the_copy(tmp_path, monkeypatch, own):
    below = own or f"mlruns/batches/{VALUES['batch_id']}"
    original, copy = tmp_path / "original", tmp_path / "copy"
    values = VALUES | {"output_dir": str(original / below), "config": {"output_dir": own}}
    text = signed_document(values)
    (original / below).mkdir(parents=True)
    (original / below / "batch_config.yaml").write_text(text)
    shutil.copytree(original, copy)
    for project in (original, copy):
        monkeypatch.chdir(project)
        assert read_document(text.encode()).output_dir == project / below
    # A folder that is elsewhere, as one that was chosen when the batch went on, stays.
    monkeypatch.chdir(tmp_path)
    assert read_document(text.encode()).output_dir == original / below


def test_the_code_that_it_names():
    bomb = "a: &a [x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in itertools.pairwise("abcdefghijklmn")
    )
    values = VALUES | {"config": yaml.safe_load(bomb) | VALUES["config"]}

    document = read_document(yaml.safe_dump(values).encode())

    assert targets(document) == ["mine.Mine"]


@pytest.mark.parametrize(
    "text",
    ["../x", "20260101T000000Z-abcdef/..", "20260101T000000Z-abcdef\n", "", None, 5, "latest"],
)
def test_what_can_be_no_batch_id(text):
    assert not is_batch_id(text)
