"""The process that wrote a run, and whether it is still alive."""

import functools
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

_TOLERANCE = timedelta(seconds=2)
"""The start of a process is derived from the clock, which may be adjusted a little."""


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """One process of one host; a reused process id is another identity.

    Attributes
    ----------
    host
        Name of the host.
    pid
        Process id.
    process_started
        When the process started, as an ISO 8601 time in UTC.
    """

    host: str
    pid: int
    process_started: str

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which a later command finds what the process left."""
        return {
            "host": self.host,
            "pid": str(self.pid),
            "process_started": self.process_started,
        }


@functools.lru_cache(maxsize=1)
def _identify(pid: int) -> ProcessIdentity:
    started = datetime.fromtimestamp(psutil.Process(pid).create_time(), tz=UTC)
    return ProcessIdentity(
        host=host_name(), pid=pid, process_started=started.isoformat(timespec="milliseconds")
    )


def this_process() -> ProcessIdentity:
    """Return the identity of the running process."""
    return _identify(os.getpid())


def host_name() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def lives(pid: str, process_started: str) -> bool:
    """Return whether the process of this host with these tags still runs.

    An unreadable tag counts as a living process, so that nothing is ended by mistake.
    """
    try:
        process = psutil.Process(int(pid))
        then = datetime.fromisoformat(process_started)
        now = datetime.fromtimestamp(process.create_time(), tz=UTC)
        return process.status() != psutil.STATUS_ZOMBIE and abs(now - then) <= _TOLERANCE
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except (psutil.AccessDenied, ValueError, TypeError, OverflowError):
        return True
