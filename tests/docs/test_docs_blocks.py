"""Every code block and command of README and docs runs, in the order of its page.

Each page gets an empty directory. Its ```python blocks run in one namespace; a block that begins
with ``# name.py`` or ``# name.yaml`` is also written to that file. Of ```bash and ```console
blocks, and of indented lines, every command ``python -m backtest_batch`` runs, in this process.
Output that a page shows (below ``$`` in a console block, or in a ```text block that follows at
once) must be what is printed, but for lines that hold a batch_id, a path or a time.

A page that begins with ``<!-- needs: name -->`` is skipped where that package is missing.

A comment above a block changes that::

    <!-- test: skip, why -->            the block does not run
    <!-- test: with key=value ... -->   with these arguments too: less data, say
    <!-- test: after python -m ... -->  that command runs first
    <!-- test: exit 2 -->               the commands end with this code
"""

import contextlib
import importlib.util
import io
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from backtest_batch.cli.compare import main as compare
from backtest_batch.cli.main import main
from backtest_batch.cli.monitor import main as monitor
from backtest_batch.cli.verdict import main as verdict

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- test: (?P<note>[^\n]*?) -->\n)?"
    r"```(?P<kind>\w+)\n(?P<text>.*?)^```$(?P<output>\n+```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
INDENTED = re.compile(r"^ {4}(?P<line>python -m backtest_batch.*)$", re.MULTILINE)
VARYING = re.compile(
    r"\d{8}T\d{6}Z|mlruns/(?:batches|comparisons|monitors|verdicts)|^Reports?: |^Tables: "
)
PROGRAMS = {
    "backtest_batch": main,
    "backtest_batch.compare": compare,
    "backtest_batch.monitor": monitor,
    "backtest_batch.verdict": verdict,
}


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    position: int
    kind: str
    text: str
    note: str = ""
    shown: str = ""


def blocks_of(page):
    text = page.read_text("utf-8")
    found = [
        Block(
            match.start(), match["kind"], match["text"], match["note"] or "", match["shown"] or ""
        )
        for match in FENCE.finditer(text)
    ]
    outside = FENCE.sub(lambda match: "\n" * len(match[0]), text)
    found += [Block(match.start(), "bash", match["line"]) for match in INDENTED.finditer(outside)]
    return sorted(found, key=lambda block: block.position)


def commands_of(block):
    """Yield the arguments of each command in a block, and the output that stands below it."""
    joined = block.text.replace("\\\n", " ")
    shown, command = [], None
    for line in joined.splitlines():
        prompt = block.kind == "console"
        if not prompt or line.startswith("$ "):
            if command is not None:
                yield command, shown
            parts = line.removeprefix("$ ").split("&&")
            words = [shlex.split(part, comments=True) for part in parts]
            command = next(
                (w for w in words if w[:2] == ["python", "-m"] and w[2] in PROGRAMS), None
            )
            shown = []
        else:
            shown.append(line)
    if command is not None:
        yield command, shown or block.shown.splitlines()


def extra_arguments(note):
    return shlex.split(note.removeprefix("with ")) if note.startswith("with ") else []


def printed(run):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run()
    return code, out.getvalue(), err.getvalue()


def run_commands(block):
    expected = int(block.note.removeprefix("exit ")) if block.note.startswith("exit ") else 0
    for words, shown in commands_of(block):
        arguments = [*words[3:], *extra_arguments(block.note)]
        code, out, err = printed(
            lambda arguments=arguments, words=words: PROGRAMS[words[2]](arguments)
        )
        assert code == expected, f"{shlex.join(words)}\n{out}\n{err}"
        lines = {line.rstrip() for line in (out + err).splitlines()}
        for line in shown:
            if line.strip() and not VARYING.search(line):
                assert line.rstrip() in lines, (
                    f"{line}\nis not in the output of {words}:\n{out}{err}"
                )


def run_python(block, namespace, page):
    name = re.match(r"# (\w+\.py)\n", block.text)
    if name:
        Path(name[1]).write_text(block.text, encoding="utf-8")
    code = compile(block.text, f"{page.name}, at {block.position}", "exec", dont_inherit=True)
    _, out, _ = printed(lambda: exec(code, namespace))
    for line in block.shown.splitlines():
        assert line.rstrip() in {item.rstrip() for item in out.splitlines()}, out


@pytest.fixture
def importable(with_store, monkeypatch):
    """A working directory whose modules are forgotten afterwards: pages use the same names."""
    monkeypatch.syspath_prepend(str(with_store))
    yield with_store
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(with_store)):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page, require):
    needed = re.match(r"<!-- needs: (\w+) -->\n", page.read_text("utf-8"))
    if needed:
        found = importlib.util.find_spec(needed[1])
        require(found, f"{needed[1]} is not installed: pip install -e '.[oracles]'")
    namespace = {"__name__": "page"}
    for block in blocks_of(page):
        if block.note.startswith("skip"):
            assert block.note.startswith("skip, "), "say why the block does not run"
            continue
        if block.note.startswith("after "):
            run_commands(Block(block.position, "bash", block.note.removeprefix("after ")))
        if block.kind == "python":
            run_python(block, namespace, page)
        elif block.kind in ("bash", "console"):
            run_commands(block)
        elif block.kind == "yaml":
            name = re.match(r"# ([\w/]+\.ya?ml)\n", block.text)
            if name:
                Path(name[1]).parent.mkdir(parents=True, exist_ok=True)
                Path(name[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
            assert anchor in slugs, target
