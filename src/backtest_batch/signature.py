"""What this user has recorded is told from what others have: by a signature under it.

The key lies in the user's home: ``$XDG_STATE_HOME/backtest_batch/signing_key`` or
``~/.local/state/backtest_batch/signing_key``, on macOS ``~/Library/Application Support``, on
Windows ``%LOCALAPPDATA%``. It is made when something is signed for the first time, and never
leaves the machine. Without a home nothing is signed, and nothing passes for signed.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import sys
from enum import Enum
from pathlib import Path

from backtest_batch.ownership import HAS_OWNERS, is_mine, is_own_file, make_own_folder

_KEY_BYTES = 32


class Origin(Enum):
    """Who recorded something, as far as its signature says."""

    OWN = "own"
    """This user: the signature fits."""
    CHANGED = "changed"
    """This user signed something, but not this."""
    UNKNOWN = "unknown"
    """It is not signed, or with another key."""


def sign(kind: str, text: str) -> str:
    """Return the signature of a text; empty where this user has no place for a key.

    Parameters
    ----------
    kind
        What the text is for: a signature of one kind is none of another.
    text
        What is signed.
    """
    key = _key(create=True)
    return "" if key is None else f"{_name(key)}:{_digest(key, kind, text)}"


def origin(kind: str, text: str, signature: object) -> Origin:
    """Return who recorded a text that stands with a signature."""
    key = _key(create=False)
    if key is None or not isinstance(signature, str):
        return Origin.UNKNOWN
    name, _, digest = signature.partition(":")
    if name != _name(key):
        return Origin.UNKNOWN
    fits = hmac.compare_digest(digest.encode(), _digest(key, kind, text).encode())
    return Origin.OWN if fits else Origin.CHANGED


def _digest(key: bytes, kind: str, text: str) -> str:
    signed = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def _name(key: bytes) -> str:
    """Return what tells keys apart without telling them."""
    return hashlib.sha256(b"name of the key\0" + key).hexdigest()[:12]


def _key(*, create: bool) -> bytes | None:
    file = _key_file()
    return None if file is None else _read(file, create)


def _key_file() -> Path | None:
    """Return the file of the key; None for an account without a home of its own."""
    try:
        home = Path.home()
        # With the rights of another user in this one's home, the key would be made as that user.
        if not is_mine(home.stat()):
            return None
    except (OSError, RuntimeError):
        return None
    if sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
        base = base if base.is_absolute() else home / ".local" / "state"
    return base / "backtest_batch" / "signing_key"


_held: dict[Path, bytes] = {}
"""The keys that this process has read."""


def _read(file: Path, create: bool) -> bytes | None:
    if file in _held:
        return _held[file]
    with contextlib.suppress(OSError, ValueError):
        if create and not file.exists():
            _make(file)
        if is_own_file(file) and _is_secret(file):
            key = bytes.fromhex(file.read_text(encoding="ascii"))
            if len(key) == _KEY_BYTES:
                _held[file] = key
                return key
    return None


def _is_secret(file: Path) -> bool:
    return not HAS_OWNERS or not file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _make(file: Path) -> None:
    """Make the key; of several processes that do at once, the first counts."""
    make_own_folder(file.parent)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(_KEY_BYTES))
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)
