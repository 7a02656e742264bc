"""One name, one thing: no public class or function of the package is called like another."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"

ENTRIES = {"main"}
"""What begins a command is called so in each of them."""


def test_no_class_or_public_function_has_the_name_of_another() -> None:
    places = defaultdict(list)
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(SOURCES)))
    assert "simulate_many" in places
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert twice.keys() - ENTRIES == set(), twice
