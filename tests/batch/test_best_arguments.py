import json
import shlex

import pytest

from backtest_batch.batch.rerun import RecordedCommand, read_winner, with_winner
from backtest_batch.compose.arguments import expand_arguments, read_arguments, readable
from backtest_batch.config.arguments import argument_value, configuration_sources
from backtest_batch.errors import ConfigurationError

COMMAND = (
    "python -m backtest_batch data=synthetic strategy.fast=5 'strategy.name='\"'\"'a b'\"'\"''"
)
AGAIN = "batch_name='sweep (rerun)'"
CONFIG = {
    "data": {"_target_": "backtest_batch.market.sources.Synthetic", "n_bars": 300},
    "strategy": {
        "_target_": "backtest_batch.strategies.TrendBaseline",
        "fast": 5,
        "name": "a b",
    },
    "rebalance": "M",
    "start_date": None,
    "commission_bps": 0.5,
}


def rerun(texts):
    """Return what runs the winner again that the arguments name, as text."""
    given = expand_arguments(read_arguments(readable(texts)))
    winner = read_winner(given.value("best"))
    return list(with_winner(winner, read_arguments(winner.arguments), given).texts)


@pytest.fixture
def best(tmp_path):
    """Write a best_params.json, and return its path."""

    def write(**changes):
        entry = {"run_id": "run_5", "command": COMMAND, "config": CONFIG, **changes}
        path = tmp_path / "best_params.json"
        path.write_text(json.dumps({"top": [entry, {"run_id": "second"}]}), encoding="utf-8")
        return path

    return write


def test_the_winner_is_the_first_entry(best):
    winner = read_winner(best())

    assert winner.run_id == "run_5"
    assert winner.arguments == ("data=synthetic", "strategy.fast=5", "strategy.name='a b'")


def test_the_arguments_of_the_winner_take_the_place_of_best(best):
    path = best()

    expanded = rerun(["--config-dir", "conf", "n_jobs=1", f"best={path}", "tags.a=b"])

    assert expanded == [
        *("--config-dir", "conf", "n_jobs=1", f"best={path}"),
        *("data=synthetic", "strategy.fast=5", "strategy.name='a b'", AGAIN, "tags.a=b"),
    ]


def test_where_the_configuration_was_found_comes_first(best):
    path = best(command="python -m backtest_batch --config-dir 'my conf' strategy=mine")

    assert rerun([f"best={path}", "n_jobs=1"]) == [
        *("--config-dir", "my conf", f"best={path}", "strategy=mine", AGAIN, "n_jobs=1"),
    ]


def test_what_says_where_configuration_is_found():
    given = ["-m", "--config-dir", "a b", "x=1", "--config-dir=c", "--cfg", "job"]

    assert configuration_sources([*given, "hydra.searchpath=[d]", "hydra/launcher=e"]) == [
        *("--config-dir", "a b", "--config-dir=c", "hydra.searchpath=[d]"),
    ]


def test_a_given_argument_replaces_the_recorded_one(best):
    path = best(command="python -m backtest_batch n_jobs=4 output_dir=old rebalance=W resume=x")

    expanded = rerun([f"best={path}", "n_jobs=1"])

    assert expanded == [f"best={path}", "rebalance=W", AGAIN, "n_jobs=1"]


def test_one_run_is_not_judged_as_its_batch_was(best):
    path = best(command="python -m backtest_batch rebalance=W 'fail_on_verdict=[luck]'")

    assert rerun([f"best={path}"]) == [f"best={path}", "rebalance=W", AGAIN]
    given = "fail_on_verdict=[luck]"
    assert rerun([f"best={path}", given]) == [f"best={path}", "rebalance=W", AGAIN, given]


@pytest.mark.parametrize(
    ("recorded", "config", "name"),
    [
        ("", {}, "sweep (rerun)"),
        ("batch_name=averages", {}, "averages (rerun)"),
        ("batch_name='my first'", {"batch_name": "my first"}, "my first (rerun)"),
        # The name may come from a file, and a winner may be run again from the files of its rerun.
        ("", {"batch_name": "averages"}, "averages (rerun)"),
        ("batch_name='a (rerun)'", {"batch_name": "a (rerun)"}, "a (rerun)"),
    ],
)
def test_a_rerun_has_a_name_of_its_own(best, recorded, config, name):
    path = best(command=f"{COMMAND} {shlex.quote(recorded) if recorded else ''}", config=config)

    expanded = rerun([f"best={path}"])

    assert argument_value(expanded, "batch_name") == name
    assert sum(item.startswith("batch_name=") for item in expanded) == 1
    own = rerun([f"best={path}", "batch_name=mine"])
    assert [item for item in own if item.startswith("batch_name=")] == ["batch_name=mine"]


def test_a_path_with_a_space_needs_no_quotes(tmp_path, best):
    folder = tmp_path / "a b"
    folder.mkdir()
    path = best().rename(folder / "best's.json")

    expanded = rerun([f"best={path}"])

    quoted = str(path).replace("'", "\\'")
    assert expanded[0] == f"best='{quoted}'"
    assert rerun([expanded[0]]) == expanded


@pytest.mark.parametrize(
    "given",
    [
        "strategy.fast=5",
        "strategy.name='a b'",
        'strategy.name="a b"',
        "data=synthetic",
        # As they are by default.
        "strategy=trend_baseline",
        "rebalance=M",
        "commission_bps=0.5",
        "data.n_bars=300",
        # However they are written.
        "commission_bps=5e-1",
        "strategy={fast: 5, name: a b}",
        # How it is computed, recorded and called.
        "n_jobs=3",
        "tags.suite=again",
        "tracking.uri=sqlite:///other.db",
        "verify=true",
        "rank_by=calmar",
    ],
)
def test_what_changes_no_result_may_be_given(best, given):
    assert given in rerun([f"best={best()}", given])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("strategy.fast=6", "strategy.fast (given 6, recorded 5)"),
        ("strategy.fast=5,6", "strategy.fast (given 5,6, recorded 5)"),
        ("commission_bps=1.0", "commission_bps (given 1.0, recorded 0.5)"),
        ("strategy=equal_weight", "strategy (given equal_weight, recorded trend_baseline)"),
        ("start_date=2005-01-03", "start_date (given 2005-01-03, recorded null)"),
        ("+strategy.further=1", "strategy.further (given 1, recorded nothing)"),
        ("param_grid={rebalance: [M, W]}", "param_grid (given {rebalance: [M, W]}, recorded n"),
        ("experiment=costs", "experiment (given costs, recorded nothing)"),
    ],
)
def test_what_changes_the_result_is_refused(best, given, said):
    with pytest.raises(ConfigurationError) as caught:
        rerun([f"best={best()}", given, "seed=7"])

    assert said in str(caught.value)
    assert "seed (given 7, recorded nothing)" in str(caught.value)
    assert "run_5" in str(caught.value)


def test_changes_where_no_configuration_was_recorded():
    def changes(given, recorded):
        command = RecordedCommand(named="best=x", arguments=read_arguments(recorded), config={})
        return command.changes(read_arguments(given))

    assert changes(["rebalance=W"], []) == ["rebalance (given W, recorded nothing)"]
    assert changes(["rebalance=null", "n_jobs=2"], ["rebalance=W"]) == [
        "rebalance (given null, recorded W)"
    ]


def test_a_batch_file_may_hold_how_it_is_computed(best, tmp_path):
    (tmp_path / "mine.yaml").write_text("n_jobs: 1\n")
    (tmp_path / "other.yaml").write_text("rebalance: W\n")

    expanded = rerun([f"best={best()}", f"batch_file={tmp_path / 'mine.yaml'}"])
    assert "n_jobs=1" in expanded
    assert "strategy.fast=5" in expanded
    with pytest.raises(ConfigurationError, match=r"rebalance \(given W, recorded M\)"):
        rerun([f"best={best()}", f"batch_file={tmp_path / 'other.yaml'}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has no list `top`"),
        ('{"top": {}}', "has no list `top`"),
        ('{"top": []}', "holds no run"),
        ('{"top": ["x"]}', "was not recorded"),
        ('{"top": [{"run_id": "a"}]}', "the command of a was not recorded"),
        ('{"top": [{"run_id": "a", "command": ""}]}', "the command of a was not recorded"),
        ('{"top": [{"run_id": "a", "command": "rm -r x"}]}', "the command of a was not recorded"),
        ('{"top": [{"run_id": "a", "command": "python \'"}]}', "the command of a was not recorded"),
    ],
)
def test_a_file_that_is_no_best_params_is_refused(tmp_path, content, message):
    path = tmp_path / "best_params.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=message) as caught:
        rerun([f"best={path}"])
    assert str(caught.value).startswith(f"best={path}:")


def test_a_file_that_is_not_there_is_refused(tmp_path, best):
    with pytest.raises(ConfigurationError, match=r"nix\.json: cannot be read \(No such file"):
        rerun(["best=nix.json"])
    path = best()
    with pytest.raises(ConfigurationError, match="is a folder; did you mean") as caught:
        rerun([f"best={tmp_path}"])
    assert str(path) in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"is a folder$"):
        rerun([f"best={tmp_path / 'empty'}"])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not valid JSON"):
        rerun([f"best={tmp_path / 'bytes.json'}"])


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_value_with_a_secret_is_given_again_in_other_quotes(best, quote):
    command = (
        "python -m backtest_batch strategy=custom "
        "'strategy.url='\"'\"'postgresql://***@prices.team/db?sslmode=require'\"'\"''"
    )
    path = best(command=command)
    url = f"strategy.url={quote}postgresql://ann:s3cr3t@prices.team/db?sslmode=require{quote}"

    assert url in rerun([f"best={path}", url])
    with pytest.raises(ConfigurationError, match=r"strategy\.url \(given .*other\.team"):
        rerun([f"best={path}", url.replace("prices.team", "other.team")])
