"""What may be chosen, and what is said about anything else."""

import os
import socket
import subprocess
import sys

import pytest

SMALL = ("data=synthetic", "data.n_bars=300", "data.n_assets=4", "n_jobs=1")


def test_an_unknown_backend_is_named_with_what_is_allowed(invoke, working_dir):
    ended = invoke(*SMALL, "hydra.launcher.backend=slurm")
    assert ended.code == 2
    assert ended.err == "hydra.launcher.backend=slurm: must be one of: loky, dask, ray\n"
    assert list(working_dir.iterdir()) == []


def test_processes_of_this_machine_have_no_address(invoke, working_dir):
    ended = invoke(*SMALL, "hydra.launcher.address=tcp://here:1")
    assert ended.code == 2
    assert ended.err == (
        "hydra.launcher.address=tcp://here:1: needs hydra.launcher.backend=dask or ray\n"
    )


def test_backend_and_address_are_the_only_options(invoke, working_dir):
    ended = invoke(*SMALL, "hydra.launcher.n_jobs=2")
    assert ended.code == 2
    assert "n_jobs" in ended.err
    assert list(working_dir.iterdir()) == []


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_each_backend_has_a_file(requested, working_dir, needs, backend):
    needs(backend)
    request = requested(*SMALL, f"hydra/launcher={backend}")
    assert request.arguments[-1] == f"hydra/launcher={backend}"


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(working_dir, backend, module):
    # None in sys.modules is what Python itself takes for a module that is not there.
    hidden = f"import sys; sys.modules[{module!r}] = None\n"
    code = hidden + "from backtest_batch.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, f"hydra.launcher.backend={backend}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"hydra.launcher.backend={backend}: is not installed: "
        f"pip install 'backtest-batch[{backend}]'\n"
    )
    assert list(working_dir.iterdir()) == []


def test_no_engine_is_imported_that_is_not_chosen(working_dir):
    code = (
        "import sys\n"
        "from backtest_batch.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(sorted({'dask', 'distributed', 'ray'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, "dry_run=true"],
        capture_output=True,
        text=True,
        env={**os.environ, "HYDRA_FULL_ERROR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "scheme"), [("dask", "tcp://"), ("ray", "ray://")])
def test_an_address_where_nobody_answers_is_refused_before_anything_is_run(
    command, needs, backend, scheme
):
    needs(backend)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        done = command.run(
            *SMALL, f"hydra.launcher.backend={backend}", f"hydra.launcher.address={address}"
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hydra.launcher.address={address}: no {backend.title()} ")
    assert line.endswith("nothing was run")
    assert command.batches == []
