"""What docstrings refer to exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
REFERENCE = re.compile(r":(class|func|mod|meth|data|attr|exc):`~?([^`]+)`")


def statements(node: ast.AST, prefix: str) -> Iterator[str]:
    """Names that a module or class defines, with those that lead to them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield f"{prefix}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from statements(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.Assign):
            yield from (
                f"{prefix}.{name.id}" for name in child.targets if isinstance(name, ast.Name)
            )
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield f"{prefix}.{child.target.id}"
        elif isinstance(child, ast.If):
            yield from statements(child, prefix)


def test_references_of_docstrings_lead_somewhere():
    texts, defined = {}, set()
    for path in sorted(SRC.rglob("*.py")):
        module = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        texts[path] = path.read_text("utf-8")
        defined |= {module, *statements(ast.parse(texts[path]), module)}
    endings = {
        ".".join(name.split(".")[at:]) for name in defined for at in range(name.count(".") + 1)
    }
    lost = [
        f"{path.relative_to(SRC)}: {role} {name}"
        for path, text in texts.items()
        for role, name in REFERENCE.findall(text)
        if name.strip().lstrip(".") not in endings
    ]
    assert not lost, "\n".join(lost)
    assert len(REFERENCE.findall("".join(texts.values()))) > 100
