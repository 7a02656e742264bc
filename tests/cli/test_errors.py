"""What cannot be run ends with exit code 2, one readable message, and nothing left behind."""

import re
from pathlib import Path

import pytest

FILES = {
    "empty.csv": "",
    "header.csv": "timestamp,A,B\n",
    "zero.csv": "timestamp,A,B\n2020-01-01,1,2\n2020-01-02,1,0\n2020-01-03,1,2\n",
    "negative.csv": "timestamp,A,B\n2020-01-01,1,2\n2020-01-02,-1,2\n2020-01-03,1,2\n",
    "twice.csv": "timestamp,A,B\n2020-01-01,1,2\n2020-01-02,1,2\n2020-01-02,1,2\n",
    "unsorted.csv": "timestamp,A,B\n2020-01-03,1,2\n2020-01-02,1,2\n2020-01-04,1,2\n",
    "gap.csv": "timestamp,A,B\n2020-01-01,1,2\n2020-01-02,1,\n2020-01-03,1,2\n",
    "words.csv": "timestamp,A,B\n2020-01-01,1,2\n2020-01-02,1,high\n2020-01-03,1,2\n",
    "broken.parquet": "no parquet",
}

KEYS = [
    ("comission_bps=1", "comission_bps: is not a known key; did you mean commission_bps?"),
    ("+foo=1", "foo=1: is not a known key"),
    ("++comission_bps=1", "comission_bps=1: is not a known key; did you mean commission_bps?"),
    ("+profiling.run=1", "profiling.run=1: is not a known key; did you mean profiling.runs?"),
    ("~commission_bps", "commission_bps=(deleted): cannot be left out"),
    ("tracking.urj=x", "tracking.urj: is not a known key; did you mean tracking.uri"),
    ("strategy.fats=3", "strategy.fats=3: is not an argument of TrendBaseline; did you mean"),
    (
        "strategy=nope",
        "strategy=nope: there is no such choice; choose one of: custom, equal_weight",
    ),
    ("data=nope", "data=nope: there is no such choice; choose one of: csv, excel"),
    ("experiment=nope", "experiment=nope: there is no such choice; choose one of: costs"),
    ("hydra/launcher=nope", "hydra/launcher=nope: there is no such choice; choose one of: basic"),
    ("strategy=3", "strategy=3: must be one of: custom, equal_weight"),
    ("experiment=null", "experiment=null: must be one of: costs"),
    ("-m experiment=null,costs", "experiment=null: must be one of: costs"),
    ("strategy=[custom,equal_weight]", "must be one of: custom, equal_weight"),
    ("word", "word: is not key=value"),
    ("=3", "'=3': is not key=value"),
    ("constraints={sharpe:>1", "constraints={sharpe:>1: { is not closed"),
    ("seed=1 seed=2", "seed is given twice, as 1 and as 2: leave one out; seed=1,2 runs both"),
    ("strategy=custom strategy=equal_weight", "strategy is given twice, as custom and as equal_w"),
    ("strategy={fast:5} strategy.fast=7", "strategy.fast is given twice, as 5 and as 7"),
    ("seed=1,2 seed=3", "seed is given twice, as 1,2 and as 3"),
    ("+strategy=custom", "strategy: has a choice already; to choose another, leave out the +"),
    ("+seed=3", "seed: is a known key; leave out the +"),
    ("~foo", "~foo: is not a known key"),
    ("strategy=", "strategy=: there is no such choice; choose one of: custom, equal_weight"),
    ("strategy=it's/mine", "strategy=it's/mine: there is no such choice; choose one of: custom"),
    ("hydra.sweeper.params.seed=1", "a grid is written param_grid: {strategy.fast: [10, 20]}"),
    ("+hydra.sweeper.params={seed:1}", "a grid is written param_grid: {strategy.fast: [10, 20]}"),
    ("description=a,b", "description cannot be swept, since it belongs to the whole batch"),
    ("description=a,b", "one text is written 'description=\"a,b\"'"),
    ("description=(50%),b", "one text is written 'description=\"...\"'"),
    ("tags={2024:x}", "tags: its keys must be text; a number in quotes is text"),
    ("--package x", "--package: says what --cfg shows, and needs --cfg job"),
    ("--config-dir", "--config-dir: needs a value"),
    ("--n-jobs 4", "--n-jobs: is not an option; keys are written without dashes: n_jobs=..."),
]
TYPES = [
    ("commission_bps=abc", "commission_bps=abc: must be a number"),
    ("commission_bps=null", "commission_bps=null: must be a number"),
    ("commission_bps=[1,2]", "must be a number; several values are a sweep: commission_bps=1,2"),
    ("n_jobs=2.5", "n_jobs=2.5: must be a whole number"),
    ("dry_run=perhaps", "dry_run=perhaps: must be true or false"),
    ("tags=3", "tags=3: must be a mapping"),
    ("tag_names=core", "tag_names=core: must be a list"),
    ("profiling.runs=x", "profiling.runs=x: must be a whole number or null"),
    ("strategy.fast=2.5", "strategy.fast=2.5: "),
    ("strategy.average=wma", "strategy.average=wma: input should be 'ema' or 'sma'"),
    ("commission_bps=${nothing}", "commission_bps: Interpolation key 'nothing' not found"),
]
RANGES = [
    ("commission_bps=-1", "commission_bps=-1.0: must be >= 0 and <= 10,000"),
    ("commission_bps=inf", "commission_bps=inf: must be >= 0"),
    ("commission_bps=nan", "commission_bps=nan: must be >= 0"),
    ("max_gross_exposure=0", "max_gross_exposure=0.0: must be > 0"),
    ("max_weight=0", "max_weight=0.0: must be > 0"),
    ("initial_capital=0", "initial_capital=0.0: must be > 0"),
    ("rebalance=X", "rebalance=X: must be one of bar, D, W, M, Q"),
    ("execution_lag=-1", "execution_lag=-1: must be >= 0"),
    ("execution_price=mid", "execution_price=mid: must be one of close, open"),
    ("strategy.fast=99", "`fast < slow` must hold, but got fast=99, slow=60."),
    ("start_date=yesterdayish", "start_date=yesterdayish: must be a date such as 2005-01-31"),
    ("start_date=03/02/2006", "start_date=03/02/2006: must be a date such as 2005-01-31 (year,"),
    ("execution_lag=0 execution_price=open", "execution_lag=0: must be >= 1 with execution_price"),
    ("start_date=today", "start_date=today: must be a date such as 2005-01-31"),
    ("end_date=200501", "end_date=200501: must be a date such as 2005-01-31"),
    ("start_date=2010-01-01 end_date=2005-01-01", "`start_date < end_date` must hold"),
    ("start_date=2010 end_date=2009", "`start_date < end_date` must hold"),
    ("start_date=2050-01-01", "start_date=2050-01-01: "),
    ("n_jobs=0", "n_jobs=0: must be >= 1"),
    ("top_n=0", "top_n=0: must be >= 1"),
    ("seed=-1", "seed=-1: must be >= 0"),
    ("on_failure=explode", "on_failure=explode: must be one of continue, stop"),
    ("tags.batch_id=3", "tags.batch_id: this name is taken"),
    ("tags.mlflow.user=me", "tags.mlflow.user: this name is taken"),
    ("tag_names=['']", "a tag must have a name"),
    ("batch_name=", "batch_name=: must be text that is not empty"),
    ("tracking.experiment=", "tracking.experiment=: must be text that is not empty"),
    ("rank_by=shape", "rank_by=shape: there is no metric 'shape'"),
    ("constraints={sharpe:abc}", "constraints.sharpe"),
    ("max_runs=2 seed=1,2,3", "the batch has 3 runs, more than max_runs=2"),
    ("resume=latest", "resume=latest: nothing to resume"),
]
DATA = [
    ("data.symbols=[AAPL,NOPE]", "unknown symbol NOPE"),
    ("data=csv", "data.path=???: must be given"),
    ("data=csv data.path=none.csv", "none.csv: no such file or folder"),
    ("data=csv data.path=empty.csv", "empty.csv is empty"),
    ("data=csv data.path=header.csv", "header.csv"),
    ("data=csv data.path=zero.csv", "B has a close of 0 at 2020-01-02 (1 bar)"),
    ("data=csv data.path=negative.csv", "A has a close of -1 at 2020-01-02"),
    ("data=csv data.path=twice.csv", "A has a duplicate bar at 2020-01-02"),
    ("data=csv data.path=unsorted.csv", "unsorted index"),
    ("data=csv data.path=gap.csv", "B has no close inside its series at 2020-01-02"),
    ("data=csv data.path=words.csv", "high"),
    ("data=parquet data.path=broken.parquet", "broken.parquet"),
    ("data=synthetic data.n_bars=1", "`n_bars >= 2` must hold, but got n_bars=1."),
]


@pytest.fixture
def files(working_dir):
    """The working directory with files that cannot be used."""
    for name, text in FILES.items():
        (working_dir / name).write_text(text)
    return working_dir


@pytest.mark.parametrize(("arguments", "message"), KEYS + TYPES + RANGES + DATA)
def test_the_message_names_key_or_symbol_value_and_what_is_allowed(
    invoke, files, arguments, message
):
    ended = invoke(*arguments.split(" "))
    assert ended.code == 2, ended
    assert message in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert "HYDRA_FULL_ERROR" not in ended.err
    assert sorted(entry.name for entry in files.iterdir()) == sorted(FILES)


def test_all_keys_that_do_not_compose_are_listed(invoke, working_dir):
    ended = invoke("-m", "comission_bps=1", "max_gross_exposure=abc,1", "top_n=x", "data=nope")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "The configuration is invalid; nothing was run:",
        "  data=nope: there is no such choice; "
        "choose one of: csv, excel, none, parquet, sp500, sql, stored, synthetic, yahoo",
        "  comission_bps=1: is not a known key; did you mean commission_bps?",
        "  max_gross_exposure=abc: must be a number",
        "  top_n=x: must be a whole number",
    ]


EXPERIMENTS = {
    "unknown": (
        "# @package _global_\nsed: 3\n",
        "experiment/unknown: sed: is not a known key; did",
    ),
    "type": ("# @package _global_\nseed: a\n", "experiment/type: seed: must be a whole number"),
    "twice": ("# @package _global_\nseed: 1\nseed: 2\n", "found duplicate key seed (line 3)"),
    "broken": ("# @package _global_\nseed: [\n", "broken.yaml: is not valid YAML: "),
    "list": ("# @package _global_\n- 1\n", "experiment/list: must hold a mapping of keys"),
    "scalar": ("# @package _global_\ntracking: 5\n", "must hold a mapping of keys, not 5"),
    "package": ("seed: 5\n", "experiment/package: its first line must be `# @package _global_`"),
    "params": (
        "# @package _global_\nhydra:\n  sweeper:\n    params: {seed: '1,2'}\n",
        "hydra.sweeper: has no keys of its own; a grid is written param_grid: {strategy.fast: [10",
    ),
}


def test_what_is_wrong_in_a_file_of_one_s_own_is_said(invoke, working_dir):
    Path("conf/experiment").mkdir(parents=True)
    for name, (text, said) in EXPERIMENTS.items():
        Path(f"conf/experiment/{name}.yaml").write_text(text)
        ended = invoke("--config-dir", "conf", f"experiment={name}", "data=synthetic")
        assert ended.code == 2
        assert said in ended.err
        assert len(ended.err.splitlines()) == 1
    assert [entry.name for entry in working_dir.iterdir()] == ["conf"]


def test_what_the_shell_leaves_of_a_dialect_reads_it(invoke, working_dir):
    rows = [f"2020-01-{day:02};{day},5;2{day}" for day in range(1, 29)]
    Path("eu.csv").write_text("Date;^AA;B&B\n" + "\n".join(rows) + "\n")
    Path("tab.csv").write_text(Path("eu.csv").read_text().replace(";", "\t"))
    for file, separator in (("eu.csv", ";"), ("tab.csv", "\t"), ("tab.csv", r"\t")):
        ended = invoke(
            *("data=csv", f"data.path={file}", f"data.separator={separator}", "data.decimal=,"),
            *("data.symbols=[^AA,B&B,^CC]", "description=profit & loss!", "batch_name=run#1"),
        )
        assert "unknown symbol ^CC; the data have 2 symbols: B&B, ^AA" in ended.err


def test_a_user_sees_one_message_and_asks_for_the_traceback(command, working_dir):
    quiet = command("max_gross_exposure=0")
    assert (quiet.code, quiet.out) == (2, "")
    assert quiet.err.splitlines() == [
        "The configuration is invalid; nothing was run:",
        "  max_gross_exposure=0.0: must be > 0",
    ]
    loud = command("max_gross_exposure=0", env={"HYDRA_FULL_ERROR": "1"})
    assert loud.code == 2
    assert re.search(r"Traceback .*ConfigurationError", loud.err, re.DOTALL)
    assert loud.err.endswith(quiet.err)
    assert list(working_dir.iterdir()) == []


def test_a_store_that_cannot_be_used_leaves_nothing(invoke, working_dir, tmp_path):
    uri = (tmp_path / "runs").as_uri()
    ended = invoke("data=synthetic", "data.n_bars=100", f"tracking.uri='{uri}'")
    assert ended.code == 2
    assert f"tracking.uri={uri}" in ended.err
    assert "Traceback" not in ended.err
    assert list(working_dir.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(invoke, working_dir):
    Path("taken").write_text("a file")
    ended = invoke("data=synthetic", "data.n_bars=100", "output_dir=taken/reports")
    assert ended.code == 2
    assert "output_dir=" in ended.err
    assert "cannot be written" in ended.err
    assert [entry.name for entry in working_dir.iterdir()] == ["taken"]


def test_options_that_do_not_exist(invoke, working_dir):
    ended = invoke("--forever")
    assert ended.code == 2
    assert ended.err.startswith("--forever: is not an option")
    ended = invoke("--config-dir", "nowhere")
    assert ended.code == 2
    assert "nowhere' not found" in ended.err


def test_without_the_demo_data_the_install_line_is_shown(command, working_dir):
    # A module that cannot be found is what is left of a package that is not installed.
    Path("sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'skfolio' else found(name, *rest)\n"
    )
    ended = command(env={"PYTHONPATH": str(working_dir)})
    assert ended.code == 2
    assert "pip install 'backtest-batch[demo]'" in ended.err
    assert "Traceback" not in ended.err
