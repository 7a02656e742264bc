import os
import sys

import pytest

from backtest_batch.cli.compare import main as compare
from backtest_batch.cli.main import main
from backtest_batch.config.checks import as_text, require_texts
from backtest_batch.errors import ConfigurationError


def test_all_values_that_cannot_be_written_are_named():
    values = [
        ("a", "fine: é 漢"),
        ("b", "caf\udce9"),
        ("c", {"d": [1, None, "x\udc80"]}),
        ("e\udc80", 1),
    ]
    with pytest.raises(ConfigurationError) as caught:
        require_texts(values)
    assert [(fault.key, fault.value) for fault in caught.value.faults] == [
        ("b", "caf\\udce9"),
        ("c", "x\\udc80"),
        ("e\\udc80", "1"),
    ]
    assert as_text("é\udce9") == "é\\udce9"


@pytest.mark.parametrize("item", ["data.path='caf\udce9.csv'", "tags.a=\udc80"])
def test_arguments_that_cannot_be_written_are_refused(item, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (main, compare):
        assert command([item]) == 2
        err = capsys.readouterr().err
        assert "is not UTF-8 text" in err
        assert as_text(item.partition("=")[2].strip("'")) in err
    assert not list(tmp_path.iterdir())


def test_a_batch_file_with_half_a_character_is_refused_before_the_first_run(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text(
        '{"data": "synthetic", "param_grid": {"strategy.average": ["ema", "x\\udc80y"]}}'
    )
    assert main(["batch_file=b.json"]) == 2
    assert "strategy.average=x\\udc80y: is not UTF-8 text" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_working_directory_whose_name_is_no_text(capsys, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["data=synthetic"]) == 2
    assert "the working directory=" in capsys.readouterr().err
    assert not list(folder.iterdir())
