"""Who owns a file or folder: what others may write is not trusted, and not written into.

The key lies in the user's home folder: ``$XDG_STATE_HOME/backtest_batch/signing_key`` or
``~/.local/state/backtest_batch/signing_key``, on macOS ``~/Library/Application Support``. It is
made when something is signed for the first time, and never leaves the machine. Without a home
folder nothing is signed, and nothing counts as signed.
"""

import contextlib
import errno
import hashlib
import hmac
import os
import secrets
import stat
import sys
import tempfile
from enum import Enum
from pathlib import Path


def user_mark() -> str:
    """Return a mark that tells this user's folders from those of others in a shared folder."""
    return str(os.geteuid())


def temporary_folder_name() -> Path:
    """Return the path of this user's folder in the temporary folder, whoever made it."""
    return Path(tempfile.gettempdir(), f"backtest_batch-{user_mark()}")


def is_mine(found: os.stat_result) -> bool:
    """Return whether this user owns a file or folder."""
    return found.st_uid == os.geteuid()


def is_guarded(found: os.stat_result) -> bool:
    """Return whether this user owns a file or folder and nobody else may change it."""
    if not is_mine(found) or found.st_mode & stat.S_IWOTH:
        return False
    return not found.st_mode & stat.S_IWGRP or _is_group_of_one(found.st_gid)


def is_own_file(path: Path) -> bool:
    """Return whether ``path`` is a file, not a link, that only this user can have written.

    Its folder must be the user's, too: in a folder that others may write, they could replace it by
    another file of the user's.
    """
    try:
        found, folder = path.lstat(), path.parent.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and is_guarded(found) and is_guarded(folder)


def is_own_folder(folder: Path) -> bool:
    """Return whether ``folder`` is a folder, not a link, that only this user may change."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and is_guarded(found)


def make_own_folder(folder: Path, *, above: int = 0) -> None:
    """Make a folder that only this user may enter; an existing one must be the user's own.

    Missing parent folders are made likewise.

    Parameters
    ----------
    folder
        The folder.
    above
        How many folders above it must be the user's own, too: whoever may write to one of them
        could replace the folder.

    Raises
    ------
    PermissionError
        When somebody else made it, when others may write to it, or when it is a link.
    OSError
        When it cannot be made.
    """
    if above or not folder.parent.exists():
        make_own_folder(folder.parent, above=max(0, above - 1))
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_own_folder(folder):
        raise PermissionError(
            errno.EPERM, "it is not a folder that you alone may change; remove it", str(folder)
        )


def is_free_or_own(folder: Path, *, above: int = 0) -> bool:
    """Return whether a folder can be made, or is the user's own; likewise ``above`` parents."""
    there = (part for part in (folder, *folder.parents[:above]) if os.path.lexists(part))
    return all(is_own_folder(part) for part in there)


def make_private(folder: Path) -> None:
    """Make a folder of this user private; folders of others stay as they are."""
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if is_mine(found) and stat.S_ISDIR(found.st_mode):
            folder.chmod(0o700)


def remove_links(folder: Path) -> None:
    """Remove symbolic links from a folder of this user, so that nothing is written through them."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            item = Path(parent, name)
            if item.is_symlink():
                item.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write a file completely or not at all; an existing link is replaced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:  # x: never through a link
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def own_temporary_folder(*, create: bool = False) -> Path | None:
    """Return the user's own folder in the temporary folder, which is open to all.

    Parameters
    ----------
    create
        Whether to make it if it does not exist.

    Returns
    -------
    Path or None
        None if it does not exist, cannot be made, or was made by somebody else.
    """
    folder = temporary_folder_name()
    if create:
        try:
            make_own_folder(folder)
        except OSError:
            return None
    return folder if is_own_folder(folder) else None


def _is_group_of_one(group_id: int) -> bool:
    """Return whether a group is the private one that many systems give each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


_KEY_BYTES = 32


class Origin(Enum):
    """Who recorded something, according to its signature."""

    OWN = "own"
    """This user: the signature is valid."""
    CHANGED = "changed"
    """This user signed something, but not this."""
    UNKNOWN = "unknown"
    """It is unsigned, or signed with another key."""


def sign(kind: str, text: str) -> str:
    """Return the signature of a text; empty if this user cannot have a key.

    Parameters
    ----------
    kind
        The purpose of the text: a signature for one purpose is not valid for another.
    text
        The text to sign.
    """
    key = _key(create=True)
    return "" if key is None else f"{_name(key)}:{_digest(key, kind, text)}"


def origin(kind: str, text: str, signature: object) -> Origin:
    """Return who recorded a text with a signature."""
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
    """Return a name of a key that does not reveal it."""
    return hashlib.sha256(b"name of the key\0" + key).hexdigest()[:12]


def _key(*, create: bool) -> bytes | None:
    file = _key_file()
    return None if file is None else _read(file, create)


def _key_file() -> Path | None:
    """Return the file of the key; None for an account without its own home folder."""
    try:
        home = Path.home()
        # With the rights of another user in this home folder, the key would belong to that user.
        if not is_mine(home.stat()):
            return None
    except (OSError, RuntimeError):
        return None
    if sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
        base = base if base.is_absolute() else home / ".local" / "state"
    return base / "backtest_batch" / "signing_key"


_keys: dict[Path, bytes] = {}
"""The keys that this process has read."""


def _read(file: Path, create: bool) -> bytes | None:
    if file in _keys:
        return _keys[file]
    with contextlib.suppress(OSError, ValueError):
        if create and not file.exists():
            _make(file)
        if is_own_file(file) and _is_secret(file):
            key = bytes.fromhex(file.read_text(encoding="ascii"))
            if len(key) == _KEY_BYTES:
                _keys[file] = key
                return key
    return None


def _is_secret(file: Path) -> bool:
    return not file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _make(file: Path) -> None:
    """Make the key; if several processes do so at once, the first one counts."""
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
