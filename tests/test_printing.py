import logging
import re
import sys
from pathlib import Path

import pytest

import backtest_batch
from backtest_batch.batch.log import end_log, log_to
from backtest_batch.cli.main import exit_code_of
from backtest_batch.errors import SelectionError
from backtest_batch.streams import printable, say, tell

HOSTILE = "x\x1b]0;PWNED\x07\x9b2J\r\u202e\u2066\ud800"


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("Größe\t5 €\nnext\n") == "Größe\t5 €\nnext\n"
    assert printable(HOSTILE) == "x\\x1b]0;PWNED\\x07\\x9b2J\\r\\u202e\\u2066\\ud800"


@pytest.mark.parametrize("write", [say, lambda text: tell(text, sys.stdout)])
def test_what_is_printed_holds_no_control_characters_and_no_secrets(write, capsys):
    write(f"{HOSTILE} https://me:s3cr3t@host/\n")

    out = "".join(capsys.readouterr())
    assert "PWNED" in out
    assert "s3cr3t" not in out
    assert all(char.isprintable() for char in out.removesuffix("\n"))


def test_an_error_may_name_what_others_have_written(capsys):
    def work() -> int:
        raise SelectionError(f"There is no batch. Similar ones: {HOSTILE}.")

    assert exit_code_of(work) == 2
    err = capsys.readouterr().err
    assert "PWNED" in err
    assert all(char.isprintable() for char in err.removesuffix("\n"))


def test_logs_hold_no_control_characters_and_no_secrets(tmp_path, capsys):
    log_to(tmp_path / "batch.log")
    logging.getLogger("backtest_batch").warning("%s https://me:s3cr3t@host/", HOSTILE)
    end_log()

    for text in ((tmp_path / "batch.log").read_text(), capsys.readouterr().err):
        assert "PWNED" in text
        assert "s3cr3t" not in text
        assert all(char.isprintable() for char in text.removesuffix("\n"))


def test_nothing_is_printed_past_the_one_way_out():
    """Texts without names in them are few; whoever adds one sees this."""
    package = Path(backtest_batch.__file__).parent
    prints = re.compile(r"sys\.std(out|err)\.write\(|(?<!\.)\bprint\(")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if prints.search(path.read_text(encoding="utf-8"))
    }
    # Words of their own only: help, the version, how it ended. A worker prints into its log.
    allowed = {"streams.py", "cli/main.py", "cli/compare.py", "cli/monitor.py", "cli/verdict.py"}
    assert found - allowed <= {"workers/start.py"}
