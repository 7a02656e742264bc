"""Start processes from a process that Python calls a daemon, and forbids to have any.

Workers of ``multiprocessing.Pool``, Celery and clusters are daemons: Python ends them without
asking, and their children would stay behind. Ours do not, since each ends with the process that
started it.
"""

import multiprocessing


def allow_children() -> bool:
    """Let this process have children; return whether that was forbidden."""
    this = multiprocessing.current_process()
    forbidden = this.daemon
    if forbidden:
        this.daemon = False
    return forbidden


def forbid_children() -> None:
    """Take back what :func:`allow_children` has allowed."""
    multiprocessing.current_process().daemon = True
