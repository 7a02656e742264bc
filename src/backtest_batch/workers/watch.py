"""Notice what a strategy reads besides the panel.

The files that a strategy reads are known only after it has run, so they cannot be part of the run
key. They are recorded with a hash of their content instead, and a recorded run counts as done only
while they are unchanged.

An audit hook sees every file that Python opens, every connection and every process that it starts.
Files are recorded; other sources cannot be. Files that native code reads by itself are noticed by
the number of bytes, if the system counts them (Linux). Modules that Python imports, and the files
of its installation, belong to the code and its environment.

A strategy's module may remember a file that it has read, so the file counts for every later run of
the process as well.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import resource
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from backtest_batch.core.code import user_modules
from backtest_batch.core.data.cache import cache_dir
from backtest_batch.core.kernel_cache import VARIABLE as KERNELS
from backtest_batch.workers import start

INPUTS = "strategy_inputs"
"""Tag with the files that a run has read, as JSON: sha256 (shortened) by path; null for a missing
file. Paths inside the working directory are relative to it; those of folders that were listed end
in a slash."""
UNKNOWN = "inputs_unknown"
"""Tag of a run with inputs that cannot be recorded that way, with the reason."""

LARGEST_BYTES = 256 * 1024 * 1024
"""A larger file is not hashed: that would take longer than most runs."""
LONGEST_TEXT = 5_000
"""Most characters of the tag; stores silently cut longer ones."""
_DIGITS = 16
_PASSING = ("mlruns", "__pycache__")
"""Names in a folder that come and go with batches."""


class UnreadableError(Exception):
    """An input cannot be read; the message says why."""


def content_digest(path: str) -> str | None:
    """Return a hash of a file's content, or of the names in a folder; None if it does not exist.

    Raises
    ------
    UnreadableError
        When it cannot be read.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - paths here are text, as they were opened
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be read") from error
    try:
        if stat.S_ISDIR(found.st_mode):
            names = sorted(item for item in os.listdir(path) if not _is_passing(item))  # noqa: PTH208
            return hashlib.sha256(os.fsencode("\0".join(names))).hexdigest()[:_DIGITS]
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError(f"{path} is no file")
        if found.st_size > LARGEST_BYTES:
            raise UnreadableError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB")
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read") from error


def _is_passing(name: str) -> bool:
    return name.startswith(".") or name in _PASSING


def as_tag(files: Mapping[str, str | None], working_dir: str) -> str:
    """Return the tag for some files.

    Parameters
    ----------
    files
        Digests by absolute path.
    working_dir
        The folder in which the strategy ran.

    Raises
    ------
    UnreadableError
        When there are more than a tag can hold.
    """
    inside = os.path.join(working_dir, "")  # noqa: PTH118
    named = {path.removeprefix(inside) or "./": digest for path, digest in sorted(files.items())}
    text = json.dumps(named, separators=(",", ":"))
    if len(text) > LONGEST_TEXT:
        raise UnreadableError(f"{len(files)} files were read, more than can be recorded")
    return text


class Checked:
    """Checks whether recorded inputs are unchanged; each file is read once."""

    def __init__(self) -> None:
        self._now: dict[str, str | None] = {}

    def fault(self, tags: Mapping[str, str]) -> str | None:
        """Return why a run with these tags does not count as done, or None."""
        if tags.get(UNKNOWN):
            return tags[UNKNOWN]
        text = tags.get(INPUTS)
        if not text:
            return None
        try:
            recorded = json.loads(text)
            items = [(str(path), digest) for path, digest in recorded.items()]
        except (ValueError, AttributeError):
            return "what it has read is not recorded in full"
        for path, digest in items:
            try:
                now = self._digest(os.path.abspath(path))  # noqa: PTH100
            except UnreadableError as error:
                return str(error)
            if now != digest:
                return f"{path} has changed"
        return None

    def _digest(self, path: str) -> str | None:
        if path not in self._now:
            self._now[path] = content_digest(path)
        return self._now[path]


Signature = tuple[int, ...] | None
"""What changes with the content of a file; None if there is no file."""

_IMPORTLIB = str(Path(importlib.__file__).parent)
"""Where Python looks for modules and packages."""

SLACK_BYTES = 512
"""Bytes that are read anyway, such as the number of processors."""
HEAD_BYTES = 1024
"""Bytes that the system reads to load a library, or to find out what a file is."""
HELPERS = frozenset(
    ("uname", "lscpu", "nproc", "getconf", "ldconfig", "gcc", "cc", "ld", "objdump", "sysctl")
)
"""Programs that Python and its libraries call to learn about the machine."""
SYSTEM = (
    "/proc", "/sys", "/dev", "/usr/share", "/usr/lib", "/usr/lib64", "/lib", "/lib64",
    "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/os-release", "/etc/passwd",
    "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/fonts",
)  # fmt: skip
COMPILED = (".pyc", ".nbi", ".nbc")


@dataclass
class _Window:
    """What happens while a strategy is at work."""

    opened: dict[str, Signature] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    explained_bytes: int = SLACK_BYTES
    asked_helper: bool = False
    loaded_libraries: bool = False


@dataclass
class _Known:
    """What strategies have read in this process so far."""

    files: dict[str, str | None] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)
    made_here: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    n_libraries: int = 0
    unknown: str = ""
    tags: dict[str, str] = field(default_factory=dict)


_window: _Window | None = None
_known = _Known()
_passed_over: tuple[str, ...] = ()
_is_installed = False


def install() -> None:
    """Begin to listen; an audit hook lasts as long as its process."""
    global _is_installed, _passed_over  # noqa: PLW0603 - one worker per process
    if _is_installed:
        return
    TypeAdapter(int)  # pydantic searches for plugins at its first use
    _passed_over = _environment_folders()
    _known.children, _known.n_libraries = _children(), _libraries()
    sys.addaudithook(_heard)
    _is_installed = True


@contextlib.contextmanager
def strategy_at_work(target: str) -> Iterator[None]:
    """Notice what is read during the block, unless the strategy belongs to this package."""
    global _window  # noqa: PLW0603 - one worker per process
    if not _is_installed or target.startswith("backtest_batch."):
        yield
        return
    window, ended, before = _Window(), _ended_children(), _bytes_read()
    _window = window
    try:
        yield
    finally:
        _window = None
        read = _bytes_read() - before
        _take(window, read, ended != _ended_children(), target)


def input_tags(target: str) -> dict[str, str]:
    """Return the tags of a run that was just computed here."""
    return {} if target.startswith("backtest_batch.") else dict(_known.tags)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    window = _window
    if window is None:
        return
    listener = _LISTENERS.get(event)
    if listener is not None:
        # An error here would be raised in the strategy.
        with contextlib.suppress(Exception):
            listener(window, event, args)


def _on_open(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    name, _, flags = args
    if isinstance(name, int):
        return
    path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100
    access = flags & (os.O_WRONLY | os.O_RDWR)
    if access and flags & (os.O_TRUNC | os.O_EXCL):
        _known.made_here.add(path)
        return
    signature = _signature(path)
    if access and signature is None:
        _known.made_here.add(path)
    if access == os.O_WRONLY:
        return
    size = 0 if signature is None else signature[2]
    # The frames of the listener and of the hook come first.
    if sys._getframe(2).f_code.co_filename.startswith("<frozen importlib"):
        window.explained_bytes += size
        window.imported.add(path)
        return
    # It may be read once more to determine its kind.
    window.explained_bytes += 0 if signature is None else 2 * size + HEAD_BYTES
    if not _is_passed_over(path):
        window.opened.setdefault(path, signature)


def _on_listing(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    name = args[0]
    caller = sys._getframe(2).f_code.co_filename
    if isinstance(name, int) or caller.startswith(("<frozen importlib", _IMPORTLIB)):
        return
    path = os.path.abspath(os.fsdecode(name or "."))  # noqa: PTH100
    if not _is_passed_over(path):
        window.opened.setdefault(os.path.join(path, ""), None)  # noqa: PTH118


def _on_database(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    name = os.fsdecode(args[0])
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("?")[0]
        name = f"/{name.lstrip('/')}" if name.startswith("/") else name
    if name in ("", ":memory:"):
        return
    path = os.path.abspath(name)  # noqa: PTH100
    for part in (path, f"{path}-wal"):
        signature = _signature(part)
        window.opened.setdefault(part, signature)
        window.explained_bytes += 0 if signature is None else 2 * signature[2] + HEAD_BYTES


def _on_library(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    window.loaded_libraries = True
    if isinstance(args[0], str) and os.path.isabs(args[0]):  # noqa: PTH117
        path = os.path.abspath(args[0])  # noqa: PTH100
        if not _is_passed_over(path):
            window.imported.add(path)


def _on_import(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    if args[1]:  # the file of a compiled module
        window.loaded_libraries = True


def _on_network(window: _Window, _: str, args: tuple[Any, ...]) -> None:
    address = args[1]
    shown = ":".join(map(str, address[:2])) if isinstance(address, tuple) else str(address)
    window.reasons.append(f"it asked {shown} over the network")


def _on_process(window: _Window, event: str, args: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        program = args[0] or (args[1] if isinstance(args[1], str) else args[1][0])
        name = Path(os.fsdecode(program)).name
        if name in HELPERS:
            window.asked_helper = True
            window.explained_bytes += HEAD_BYTES
            return
        window.reasons.append(f"it started another process ({name})")
        return
    window.reasons.append(f"it started another process ({event})")


_LISTENERS: dict[str, Callable[[_Window, str, tuple[Any, ...]], None]] = {
    "open": _on_open,
    "os.listdir": _on_listing,
    "os.scandir": _on_listing,
    "sqlite3.connect": _on_database,
    "ctypes.dlopen": _on_library,
    "import": _on_import,
    "socket.connect": _on_network,
    "socket.sendto": _on_network,
    **dict.fromkeys(
        (
            "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
            "os.forkpty",
        ),
        _on_process,
    ),
}  # fmt: skip


def _take(window: _Window, read: int, children_ended: bool, target: str) -> None:
    """Add what a strategy has just read to what its process has read so far."""
    if window.loaded_libraries:
        # One library loads others.
        before, _known.n_libraries = _known.n_libraries, _libraries()
        window.explained_bytes += HEAD_BYTES * max(0, _known.n_libraries - before)
    if (children_ended and not window.asked_helper) or _has_new_children():
        window.reasons.append("it started other processes")
    elif read > window.explained_bytes:
        window.reasons.append("a library read files by itself, not through Python")
    if window.imported:
        _add_imported(window, target)
    for path, signature in window.opened.items():
        # A module is read to show a traceback, or by a compiler.
        if path not in _known.made_here and not (path.endswith(".py") and _is_module(path)):
            _add(window, path, signature)
    if window.reasons and not _known.unknown:
        _known.unknown = window.reasons[0]
    if window.opened or window.imported or window.reasons:
        _known.tags = _tags()


def _add_imported(window: _Window, target: str) -> None:
    """Add modules of the working directory that the code fingerprint does not cover."""
    here = os.path.join(_working_dir(), "")  # noqa: PTH118
    local = {
        source
        for path in window.imported
        if path.startswith(here) and not _is_below(path, _passed_over)
        if (source := _source_of(path)) is not None
    }
    if local:
        known = {str(path) for _, path in user_modules(target)}
        for path in local - known:
            _add(window, path, _signature(path))


def _source_of(path: str) -> str | None:
    if not path.endswith(".pyc"):
        return path
    try:
        source = importlib.util.source_from_cache(path)
    except ValueError:
        return path
    return source if os.path.exists(source) else path  # noqa: PTH110


def _add(window: _Window, path: str, signature: Signature) -> None:
    if path in _known.files and _known.signatures.get(path) == signature is not None:
        return
    try:
        digest = content_digest(path)
    except UnreadableError as error:
        window.reasons.append(str(error))
        return
    if not path.endswith(os.sep) and _signature(path) != signature:
        window.reasons.append(f"{path} changed while it was read")
    elif _known.files.get(path, digest) != digest:
        window.reasons.append(f"{path} changed while the batch ran")
    _known.files[path], _known.signatures[path] = digest, signature


def _is_module(path: str) -> bool:
    return any(getattr(module, "__file__", None) == path for module in [*sys.modules.values()])


def _tags() -> dict[str, str]:
    tags = {}
    try:
        if _known.files:
            tags[INPUTS] = as_tag(_known.files, _working_dir())
    except UnreadableError as error:
        _known.unknown = _known.unknown or str(error)
    if _known.unknown:
        tags[UNKNOWN] = _known.unknown
    return tags


def _working_dir() -> str:
    return os.getcwd() if start.worker_setup is None else start.worker_setup.working_dir  # noqa: PTH109


def _signature(path: str) -> Signature:
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_passed_over(path: str) -> bool:
    """Return whether a file belongs to Python, the system or a cache rather than to a strategy."""
    if path.endswith(COMPILED):
        return True
    if f"{os.sep}site-packages{os.sep}" in path:
        return True
    below = [folder for folder in _passed_over if _is_below(path, (folder,))]
    if not below:
        return False
    here = _working_dir()
    # If the working directory lies inside such a folder, its files are the user's.
    return not (_is_below(path, (here,)) and len(here) > max(map(len, below)))


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(os.path.join(folder, "")) for folder in folders)  # noqa: PTH118


def _environment_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        folders |= {os.path.join(prefix, name) for name in ("lib", "lib64", "share", "pyvenv.cfg")}  # noqa: PTH118
    folders |= {
        folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))
    }
    folders |= {str(Path(__file__).parents[1]), str(cache_dir()), os.environ.get(KERNELS, "")}
    home = os.path.expanduser("~")  # noqa: PTH111
    folders |= {
        os.path.join(home, *name.split("/"))  # noqa: PTH118
        for name in (".matplotlib", ".config/matplotlib", ".cache/matplotlib", ".cache/fontconfig")
    }
    folders |= set(SYSTEM)
    return tuple(sorted(os.path.abspath(folder) for folder in folders if folder))  # noqa: PTH100


def _bytes_read() -> int:
    """Return how many bytes this process has read from files; 0 if the system does not count."""
    try:
        with open("/proc/self/io", "rb") as file:  # noqa: PTH123 - cheaper than a path
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _libraries() -> int:
    """Return how many compiled libraries this process has loaded."""
    try:
        with open("/proc/self/maps", "rb") as file:  # noqa: PTH123
            paths = {line.split(None, 5)[-1] for line in file}
    except OSError:
        return 0
    return sum(b".so" in path for path in paths)


def _ended_children() -> tuple[float, ...]:
    """Return the resources used by the ended children of this process; grows when one ends."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime, used.ru_stime, used.ru_minflt


def _children() -> set[str]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:  # noqa: PTH123
            return set(file.read().decode().split())
    except OSError:
        return set()


def _has_new_children() -> bool:
    new = _children() - _known.children
    if not new:
        return False
    _known.children |= new
    return any(not _is_tracker(pid) for pid in new)


def _is_tracker(pid: str) -> bool:
    """Return whether a process is Python's own, which cleans up shared memory."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
