"""docs/architecture.md is a map of the code: what it names is there, and its counts are right."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGE = ROOT / "src" / "backtest_batch"
COUNT = re.compile(r"(\d+) functions in (\d+) files\.")
STEP = re.compile(r"^(\d+)\. `([\w.]+)` \(`([\w/]+\.py)`\): ", re.MULTILINE)


def at(path: str) -> Path:
    """Where something lies: in the package, beside it, or from the top of the repository."""
    places = (PACKAGE / path, PACKAGE.parent / path, ROOT / path)
    return next((place for place in places if place.exists()), places[0])


def functions(node: ast.AST, prefix: str = "") -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")


def journeys() -> list[tuple[tuple[str, str], list[tuple[str, str, str]]]]:
    """The counts that the page states, each with the steps that follow it."""
    starts = list(COUNT.finditer(PAGE))
    ends = [start.start() for start in starts[1:]] + [len(PAGE)]
    return [
        (start.groups(), STEP.findall(PAGE, start.end(), end))
        for start, end in zip(starts, ends, strict=True)
    ]


def test_paths_exist():
    named = set(re.findall(r"`([\w./]+(?:\.py|/))`", PAGE))
    assert len(named) > 60
    assert not [name for name in sorted(named) if not at(name).exists()]


def test_every_room_of_the_package_is_named():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms
    assert not [room for room in sorted(rooms) if f"| `{room}/` |" not in PAGE]


@pytest.mark.parametrize(("counts", "steps"), journeys())
def test_functions_of_a_journey_exist_and_are_counted(counts, steps):
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    lost = [
        f"{path}: {name}"
        for _, name, path in steps
        if name not in set(functions(ast.parse(at(path).read_text("utf-8"))))
    ]
    assert not lost
    assert counts == (str(len(steps)), str(len({path for _, _, path in steps})))


def test_there_are_three_journeys():
    assert len(journeys()) == 4  # the first has a way to the kernel, and one back
