"""Record in a thread of its own, so that computing never waits for the store."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from backtest_batch.errors import StoreError
from backtest_batch.interrupt import NOTICE_SECONDS, heed
from backtest_batch.records import RUN_FILES, RunRecord, RunResult
from backtest_batch.tracking.recorder import Recorder, RecordingError

LONGEST_QUEUE = 64
"""Groups of records that may wait; a slow store then slows the computing, not fills the memory."""
LARGEST_GROUP = 1_000
WORTH_A_TRANSACTION = 100
"""Runs that are written without waiting for more: a transaction takes as long as thirty runs."""
LONGEST_WAIT_SECONDS = 0.5
"""A run waits so long for others that are written with it."""


@dataclass
class BackgroundRecorder:
    """Opens the store and records what it is given, in order, beside the caller's thread.

    Parameters
    ----------
    open_recorder
        Opens the store and the batch's parent run in it; called in the thread, since importing
        MLflow alone takes seconds.
    lost_files
        Told of each run whose files have been deleted before they could be recorded; the run is
        recorded without them. Called in the thread.
    """

    open_recorder: Callable[[], Recorder]
    lost_files: Callable[[RunRecord], object] = lambda _: None
    recorder: Recorder | None = field(default=None, init=False)
    recorded: dict[str, str] = field(default_factory=dict, init=False)
    """MLflow's id of each recorded run, by run key."""
    unrecorded: list[RunRecord] = field(default_factory=list, init=False)
    """What could not be recorded."""
    error: StoreError | None = field(default=None, init=False)
    """Why recording ended early."""
    _failure: BaseException | None = field(default=None, init=False)
    _queue: "queue.Queue[Sequence[RunRecord] | None]" = field(init=False)
    _opened: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._queue = queue.Queue(maxsize=LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to open the store."""
        self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether opening is over, well or not."""
        return self._opened.is_set()

    def require_open(self) -> Recorder:
        """Wait until the store is open and return the recorder.

        Raises
        ------
        StoreError
            When the store cannot be opened.
        """
        while not self._opened.wait(NOTICE_SECONDS):
            heed()
        if self.recorder is not None:
            return self.recorder
        raise self.error or self._failure or StoreError("the store was not opened")

    def put(self, records: Sequence[RunRecord]) -> None:
        """Hand over records; waits while too many are waiting."""
        self._queue.put(records)

    def close(self) -> None:
        """Wait until everything handed over is recorded, or found not to be recordable.

        May be called again, and when recording never began.

        Raises
        ------
        BaseException
            What went wrong in the thread, other than the store; ``unrecorded`` holds the rest.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._opened.set()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self) -> None:
        try:
            self.recorder = self.open_recorder()
        except StoreError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._failure = error
        finally:
            self._opened.set()
        while (group := self._next_group()) is not None:
            self._record(group)

    def _next_group(self) -> list[RunRecord] | None:
        """Return everything that waits, as one group; None at the end.

        Few runs wait a moment for more: slow runs come one by one, and recording takes processor
        time from the workers.
        """
        first = self._queue.get()
        if first is None:
            return None
        group, deadline = list(first), time.monotonic() + LONGEST_WAIT_SECONDS
        while len(group) < LARGEST_GROUP:
            left = deadline - time.monotonic() if len(group) < WORTH_A_TRANSACTION else 0.0
            try:
                more = self._queue.get(block=left > 0, timeout=max(left, 0.0))
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group += more
        return group

    def _record(self, group: list[RunRecord]) -> None:
        if self.recorder is None or self.error is not None or self._failure is not None:
            self.unrecorded += group
            return
        group = [self._without_lost_files(record) for record in group]
        try:
            ids = self.recorder.record(group)
        except RecordingError as error:
            self.error = error
            self.recorded |= error.recorded
            self.unrecorded += [item for item in group if item.spec.run_key not in self.recorded]
        except StoreError as error:
            self.error = error
            self.unrecorded += group
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._failure = error
            self.unrecorded += group
        else:
            keys = (item.spec.run_key for item in group)
            self.recorded |= dict(zip(keys, ids, strict=True))

    def _without_lost_files(self, record: RunRecord) -> RunRecord:
        """Return a run as it can be recorded: a folder of files may have been deleted meanwhile."""
        outcome = record.outcome
        if outcome is None or outcome.artifacts is None:
            return record
        expected = RUN_FILES if isinstance(outcome, RunResult) else ()
        if outcome.artifacts.is_dir() and all((outcome.artifacts / n).exists() for n in expected):
            return record
        self.lost_files(record)
        # What is left of them would pass for all of them.
        return replace(record, outcome=replace(outcome, artifacts=None))
