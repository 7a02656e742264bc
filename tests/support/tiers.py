"""The tiers of the tests: what each of them needs, and which of them run by default."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

TIERS: Mapping[str, str] = MappingProxyType(
    {
        "unit": "functions and small objects, in this process",
        "store": "a SQLite store of MLflow",
        "process": "commands, worker processes, kills",
        "server": "an MLflow server, some on PostgreSQL",
        "cluster": "Dask or Ray",
        "browser": "Chromium, which looks at the report",
        "oracle": "another library or a brute force that computes the same",
        "benchmark": "a benchmark in a small size",
    }
)
"""What a test of a tier uses. A test is in one tier."""

DEFAULT = "(unit or store or process) and not slow"
"""Tests that run when nothing is chosen."""

OF_FIXTURE: Mapping[str, str] = MappingProxyType(
    {
        "chrome": "browser",
        "postgres": "server",
        "team_server": "server",
        "needs": "cluster",
    }
)
"""Tier of a test that asks for a fixture."""

OF_FOLDER: Mapping[str, str] = MappingProxyType(
    {
        "api": "process",
        "batch": "process",
        "cli": "process",
        "docs": "process",
        "golden": "process",
        "store": "store",
        "storm": "process",
        "survival": "process",
        "workers": "process",
    }
)
"""Tier of a test by the folder of ``tests`` in which it lies; in all others it is a unit test."""


def tier_of(item: pytest.Item) -> str:
    """Return the tier of a test.

    That is its own marker or the one of its file, else the one of a fixture that it asks for, else
    the one of its folder.

    Parameters
    ----------
    item
        The test.
    """
    for marker in item.iter_markers():
        if marker.name in TIERS:
            return marker.name
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in OF_FIXTURE:
            return OF_FIXTURE[fixture]
    tests = item.config.rootpath / "tests"
    folder = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
    return OF_FOLDER.get(folder, "unit")
