"""What a result came from, beyond its configuration: machine, packages and version control."""

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from backtest_batch.workers.process import hash_seed

PACKAGES = (
    "backtest-batch",
    "numpy",
    "pandas",
    "numba",
    "scipy",
    "pyarrow",
    "mlflow",
    "hydra-core",
    "joblib",
)
LONGEST_DIFF = 1_000_000
"""Characters of the uncommitted changes that are kept."""


def provenance(command: Sequence[str], seed: int) -> dict[str, Any]:
    """Return facts of this process, its packages and the working directory's repository."""
    return {
        "command": list(command),
        "seed": seed,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": sys.version.split()[0],
        "hash_seed": hash_seed(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        **git_state(Path.cwd()),
    }


def process_started(pid: int) -> str:
    """Return when a process started, so that a later one with the same number is told apart."""
    return f"{psutil.Process(pid).create_time():.2f}"


def git_state(folder: Path) -> dict[str, Any]:
    """Return commit and dirty flag of the repository that holds ``folder``; None without one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": bool(status)}


def git_diff(folder: Path) -> str:
    """Return the uncommitted changes of the repository that holds ``folder``."""
    return (_git(folder, "diff", "HEAD") or "")[:LONGEST_DIFF]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip("\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
