"""docs/configuration.md says of every key what the schema says of it."""

import re
import sys
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from backtest_batch.config.key import Role
from backtest_batch.config.schema import (
    BatchConfig,
    CompareConfig,
    MonitorConfig,
    VerdictConfig,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")

TYPES = {float: "number", int: "whole number", bool: "true or false", str: "text"}
OPEN_TYPES = {
    "filter_tags": "mapping or list",
    "param_grid": "mapping of lists",
    "runs": "list of mappings",
    "constraint": "text or list",
    "zip": "list of lists",
    "rank_by": "text or mapping",
    "constraints": "mapping",
    "metric_directions": "mapping",
    "benchmark": "text or mapping",
    "factors": "text, list or mapping",
    "batch": "text or list",
    "options": "mapping",
    "statistics.mean_block": "number or auto",
}
DEFAULTS = {"n_jobs": "processors, at most 4", "data": "sp500", "strategy": "trend_baseline"}
DEFAULTS |= {"walk_forward": "none", "tracking": "local", "batch": "latest"}


def type_text(key, hint):
    if key in OPEN_TYPES:
        return OPEN_TYPES[key]
    if isinstance(hint, types.UnionType):
        (kind,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        return f"{TYPES[kind]} or null"
    return {list: "list", dict: "mapping"}.get(typing.get_origin(hint)) or TYPES[hint]


def default_text(item):
    if item.name in DEFAULTS:
        return DEFAULTS[item.name]
    value = item.default if item.default is not MISSING else item.default_factory()
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value in ([], {}, ""):
        return "empty"
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    return f"`{value:,}`".replace(",", "_") if isinstance(value, int | float) else f"`{value}`"


def rows(schema, prefix=""):
    """Yield key, role and row of the table for every key of a schema."""
    hints = typing.get_type_hints(schema)
    for item in fields(schema):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from rows(hint, prefix=f"{item.name}.")
            continue
        bounds = item.metadata["bounds"]
        allowed = "" if bounds is None else str(bounds).removeprefix("must be ")
        cells = (
            f"`{prefix}{item.name}`",
            type_text(f"{prefix}{item.name}", hint),
            default_text(item),
            allowed,
            item.metadata["meaning"],
        )
        yield f"{prefix}{item.name}", item.metadata["role"], f"| {' | '.join(cells)} |"


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


TITLES = {
    Role.SCENARIO: "Scenario keys",
    Role.DECISION: "Decision keys",
    Role.EXECUTION: "Execution keys",
    Role.REPORT: "Report keys",
    Role.TRACKING: "Tracking keys",
    Role.LABEL: "Labels",
}


@pytest.mark.parametrize("role", TITLES)
def test_the_table_of_a_role_has_exactly_its_keys(role):
    expected = [row for _, its_role, row in rows(BatchConfig) if its_role is role]
    found = [line for line in section(TITLES[role]).splitlines() if line.startswith("| `")]
    assert sorted(found) == sorted(expected)


def test_the_keys_of_the_comparison_are_there():
    expected = [row for key, _, row in rows(CompareConfig) if not key.startswith("tracking.")]
    found = [
        line for line in section("Keys of the comparison").splitlines() if line.startswith("| `")
    ]
    assert sorted(found) == sorted(expected)


def test_the_keys_of_the_verdict_are_there():
    expected = [row for _, _, row in rows(VerdictConfig)]
    found = [line for line in section("Keys of the verdict").splitlines() if line.startswith("| `")]
    assert sorted(found) == sorted(expected)


def test_the_keys_of_the_monitor_are_there():
    expected = [row for _, _, row in rows(MonitorConfig)]
    found = [line for line in section("Keys of the monitor").splitlines() if line.startswith("| `")]
    assert sorted(found) == sorted(expected)


def test_the_arguments_of_every_shipped_strategy_are_there():
    table = section("Strategies")
    for file in sorted((ROOT / "conf" / "strategy").glob("*.yaml")):
        line = next((at for at in table.splitlines() if at.startswith(f"| `{file.stem}`")), None)
        assert line is not None, f"docs/configuration.md, Strategies: no row for {file.stem}"
        node = yaml.safe_load(file.read_text("utf-8"))
        assert set(re.findall(r"`(\w+)=", line)) == set(node) - {"_target_"}


def test_every_shipped_strategy_is_in_the_experiment_of_all():
    listed = yaml.safe_load((ROOT / "conf" / "experiment" / "strategies.yaml").read_text("utf-8"))
    shipped = {file.stem for file in (ROOT / "conf" / "strategy").glob("*.yaml")} - {"custom"}
    assert {run["strategy"] for run in listed["runs"]} == shipped


def test_every_shipped_source_has_a_row():
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    # `stored` is what run_sweep uses for prices in memory.
    shipped = {file.stem for file in (ROOT / "conf" / "data").glob("*.yaml")} - {"stored"}
    assert not [name for name in sorted(shipped) if f"\n| `{name}`" not in page]


def write() -> str:
    """Return the tables, to be put into the page when the schema has changed."""
    head = "| key | type | default | allowed | meaning |\n|---|---|---|---|---|"
    parts = []
    for role, title in TITLES.items():
        lines = [row for _, its_role, row in rows(BatchConfig) if its_role is role]
        parts.append("\n".join([f"## {title}", "", head, *lines]))
    lines = [row for key, _, row in rows(CompareConfig) if not key.startswith("tracking.")]
    parts.append("\n".join(["## Keys of the comparison", "", head, *lines]))
    lines = [row for _, _, row in rows(VerdictConfig)]
    parts.append("\n".join(["## Keys of the verdict", "", head, *lines]))
    lines = [row for _, _, row in rows(MonitorConfig)]
    parts.append("\n".join(["## Keys of the monitor", "", head, *lines]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(write())
