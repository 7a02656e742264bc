"""One batch in the storm: commands under faults until it is complete, then what must be true."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.storm.faults import KINDS, MOMENTS, Kind, Target
from benchmarks.storm.invariants import violations
from benchmarks.storm.sandbox import Command, Grid, Sandbox, wait_until

MOST_COMMANDS = 14
"""A batch that is not complete after as many commands never will be."""

QUIET_COMMANDS = 3
"""How many commands without a fault may be needed at the end."""

ORPHAN_SECONDS = 4.0
"""How long after a command its processes may still be there."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that is planned for a command.

    Attributes
    ----------
    kind
        What is done.
    moment
        When.
    share
        What share of the runs has been computed by then, for the moment ``running``.
    delay
        Seconds after the moment.
    """

    kind: Kind
    moment: str
    share: float
    delay: float


@dataclass(kw_only=True)
class Outcome:
    """How a batch came through.

    Attributes
    ----------
    applied
        How many faults of each kind happened.
    wrong
        What should not be: one sentence each.
    n_commands
        How many commands it took.
    root
        Its folder, kept where something is wrong.
    story
        What was done, for the reader of a fault.
    """

    applied: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    n_commands: int = 0
    root: Path
    story: list[str] = field(default_factory=list)


def plan(rng: random.Random, kinds: Sequence[Kind] = KINDS) -> list[list[Fault]]:
    """Return the faults of each command of a batch, in the order in which they come.

    Results are lost in a third of the batches only: in the others nothing may be computed twice.
    """
    may_spoil = rng.random() < 1 / 3
    kinds = [kind for kind in kinds if may_spoil or not kind.spoils] or list(kinds)
    ending = [kind for kind in kinds if kind.ends]
    passing = [kind for kind in kinds if not kind.ends]
    commands = []
    for _ in range(rng.randint(1, 3)):
        chosen = rng.choices(passing, k=rng.randint(1, 5)) if passing else []
        faults = [_fault(kind, rng) for kind in chosen]
        faults.sort(key=lambda fault: (_order(fault), fault.share))
        if ending and (not faults or rng.random() < 0.6):
            last = _fault(rng.choice(ending), rng)
            faults = [it for it in faults if _order(it) <= _order(last)] + [last]
        commands.append(faults)
    return commands


def _order(fault: Fault) -> int:
    return MOMENTS.index(fault.moment)


def _fault(kind: Kind, rng: random.Random) -> Fault:
    delay = rng.choice((0.0, rng.uniform(0, 0.1), rng.uniform(0, 1.0)))
    return Fault(kind=kind, moment=rng.choice(kind.moments), share=rng.random(), delay=delay)


def run_batch(
    sandbox: Sandbox, grid: Grid, seed: int, reference: bytes, kinds: Sequence[Kind] = KINDS
) -> Outcome:
    """Compute a batch under faults and say what is wrong with it afterwards.

    Parameters
    ----------
    sandbox
        A fresh one.
    grid
        What is computed.
    seed
        Of the faults and their moments.
    reference
        rankings.csv of the same grid without any fault.
    kinds
        The faults there are.
    """
    rng = random.Random(seed)
    outcome = Outcome(root=sandbox.root)
    planned = plan(rng, kinds)
    spoiled, quiet = False, 0
    while outcome.n_commands < MOST_COMMANDS and quiet < QUIET_COMMANDS:
        faults = planned.pop(0) if planned else []
        quiet = 0 if faults else quiet + 1
        code, spoiled = _one_command(sandbox, grid, faults, rng, outcome, spoiled)
        if code == 0 and not planned:
            break
    else:
        outcome.wrong.append("not complete after the last command without a fault")
    outcome.wrong += violations(sandbox, grid, reference, spoiled=spoiled)
    sandbox.end_everything()
    if not outcome.wrong:
        shutil.rmtree(sandbox.root, ignore_errors=True)
    return outcome


def _one_command(
    sandbox: Sandbox,
    grid: Grid,
    faults: Sequence[Fault],
    rng: random.Random,
    outcome: Outcome,
    spoiled: bool,
) -> tuple[int, bool]:
    known = sandbox.batch_ids
    arguments = (f"resume={known[0]}",) if known else grid.arguments
    done, calls = sandbox.finished(), sandbox.calls
    shell = next((fault.kind.shell for fault in faults if fault.kind.shell), "")
    command = sandbox.start(arguments, shell=shell)
    outcome.n_commands += 1
    story = [f"$ {' '.join(arguments)} {shell}"]
    applied = _apply_all(sandbox, grid, command, faults, rng, outcome, story)
    code = command.process.wait(timeout=None if command.has_ended() else 300)
    story.append(f"exit {code}")
    spoiled = spoiled or any(kind.spoils for kind in applied)
    wrong = _judge(sandbox, command, code, applied, known=bool(known))
    if not spoiled:
        wrong += _computed_again(sandbox, grid, applied, done, calls)
    outcome.story += story
    outcome.wrong += [f"command {outcome.n_commands}: {text}" for text in wrong]
    return code, spoiled


def _is_running(sandbox: Sandbox, calls: float) -> bool:
    return sandbox.calls.total() > calls


def _is_due(command: Command, reached: Callable[[], object]) -> bool:
    return command.can_be_signalled() and bool(reached())


def _apply_all(
    sandbox: Sandbox,
    grid: Grid,
    command: Command,
    faults: Sequence[Fault],
    rng: random.Random,
    outcome: Outcome,
    story: list[str],
) -> list[Kind]:
    calls, folders = sandbox.calls.total(), sandbox.n_artifact_folders
    left = max(1, grid.n_choices - len(sandbox.calls))
    target = Target(sandbox=sandbox, command=command, rng=rng)
    applied: list[Kind] = []
    for fault in faults:
        moments: dict[str, Callable[[], object]] = {
            "start": lambda: True,
            "begun": lambda: sandbox.scratches,
            "running": partial(_is_running, sandbox, calls + fault.share * left),
            "recording": lambda: sandbox.n_artifact_folders > folders,
            "reports": lambda: any((s / "reports").is_dir() for s in sandbox.scratches),
            "printed": lambda: "Reports:" in command.printed,
        }
        reached = moments[fault.moment]
        if fault.kind.shell:
            happened = fault.kind.shell == command.shell
        elif wait_until(partial(_is_due, command, reached), command):
            time.sleep(fault.delay)
            happened = not command.has_ended() and fault.kind.apply(target)
        else:
            break
        if happened:
            applied.append(fault.kind)
            outcome.applied[fault.kind.name] += 1
            story.append(f"  {fault.kind.name} at {fault.moment} + {fault.delay:.3f} s")
    return applied


def _judge(
    sandbox: Sandbox, command: Command, code: int, applied: Sequence[Kind], *, known: bool
) -> list[str]:
    """Return what is wrong about how a command ended."""
    wrong = []
    allowed = {0}.union(*(kind.codes for kind in applied))
    if known:
        allowed.add(1)  # runs that a worker took with it earlier are failed runs until they run
    if code not in allowed:
        wrong.append(f"exit {code}, documented {sorted(allowed)}: {command.errors[-300:]!r}")
    for rival, codes in sandbox.rivals:
        if rival.process.returncode not in codes:
            text = rival.errors[-300:]
            wrong.append(f"beside it: exit {rival.process.returncode}, expected {codes}: {text!r}")
    commands = [command, *(rival for rival, _ in sandbox.rivals)]
    sandbox.rivals.clear()
    if not any(kind.shows_tracebacks for kind in applied):
        wrong += [f"traceback: {it.errors[-600:]!r}" for it in commands if "Traceback" in it.errors]
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (alive := sandbox.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    wrong += [f"orphan {pid}: {sandbox.named(pid)}" for pid in alive]
    for pid in alive:
        sandbox.end(pid)
    return wrong


def _computed_again(
    sandbox: Sandbox,
    grid: Grid,
    applied: Sequence[Kind],
    done: frozenset[str],
    calls: Counter[int],
) -> list[str]:
    """Return which choices were computed although they were recorded, or twice by one command.

    A choice is asked for its weights once for all its scenarios that are still to be computed.
    """
    new = sandbox.calls - calls
    finished = Counter(int(name.split("_")[1]) for name in done if name.startswith("run_"))
    again = sorted(number for number in new if finished[number] == grid.n_scenarios)
    wrong = [f"computed again although FINISHED: {again}"] if again else []
    twice = sorted(number for number, times in new.items() if times > 1)
    if twice and not any(kind.kills_workers for kind in applied):
        wrong.append(f"computed twice by one command: {twice}")
    return wrong
