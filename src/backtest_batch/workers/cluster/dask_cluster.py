"""Chunks on Dask: a local cluster, or a running one.

This uses Dask's own futures, not joblib's Dask backend, which returns a group of calls when the
last of them is done and raises when any of them fails; a batch needs each chunk as it ends, and
must learn of a lost worker. With futures, the scheduler runs a chunk again elsewhere when its
worker is lost, at most ``distributed.scheduler.allowed-failures`` times.
"""

import contextlib
import logging
import signal
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
from distributed.scheduler import KilledWorker

from backtest_batch.errors import ClusterLostError, ConfigurationError, WorkerDied
from backtest_batch.interrupt import signals_blocked
from backtest_batch.workers import start
from backtest_batch.workers.cluster import agent
from backtest_batch.workers.cluster.agent import check_probe, probe
from backtest_batch.workers.cluster.seat import children, end_children, within
from backtest_batch.workers.cluster.transfer import Answer, PanelCopy, Request, keep

log = logging.getLogger("backtest_batch.batch")

CONNECT_SECONDS = 10
CLOSE_SECONDS = 5
OUTSPOKEN = ("distributed", "distributed.client", "tornado.application")
"""Loggers whose level Dask's configuration sets; the batch itself reports what matters."""
LOCAL_LOSSES = 1
"""How often a local cluster reruns a chunk because its worker died; then it is sent again."""


class Delivery(distributed.WorkerPlugin):  # type: ignore[misc]
    """Brings data once to every worker, including those that join later."""

    def __init__(self, copy: PanelCopy) -> None:
        self.name = f"backtest_batch-{copy.fingerprint}"
        self._copy: PanelCopy | None = copy

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask passes it
        """Store the data on this worker; if it cannot, it will report the data as missing."""
        copy, self._copy = self._copy, None
        if copy is not None:
            with contextlib.suppress(Exception):
                keep(copy)


class Silence(distributed.WorkerPlugin):  # type: ignore[misc]
    """Keeps the output of a local worker away from the user's terminal."""

    def __init__(self, file: str | None) -> None:
        self.name = "backtest_batch-silence"
        self._file = file

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask passes it
        """Send standard output and error of this worker to a file."""
        start.redirect(self._file)


@dataclass
class DaskCluster:
    """A Dask cluster.

    Parameters
    ----------
    address
        Its scheduler; None starts a cluster on this machine.
    log_file
        File for the output of workers of a local cluster.
    """

    address: str | None
    log_file: Path | None = None
    _client: Any = field(default=None, init=False)
    _local: Any = field(default=None, init=False)
    _folder: Any = field(default=None, init=False)
    _others: set[int] = field(default_factory=set, init=False)
    _shipped: dict[str, str] = field(default_factory=dict, init=False)
    _under_way: "dict[Future[Answer], Any]" = field(default_factory=dict, init=False)

    def open(self, n_seats: int) -> None:
        """Connect, or start ``n_seats`` workers of one thread each."""
        for name in OUTSPOKEN:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.address is None:
            self._start(n_seats)
        else:
            self._connect(self.address, n_seats)

    def submit(self, request: Request) -> "Future[Answer]":
        """Send a chunk."""
        if self._client is None or self._client.status != "running":
            raise self._lost()
        answer: Future[Answer] = Future()
        self._send(request, answer, may_repeat=True)
        return answer

    def _send(self, request: Request, answer: "Future[Answer]", *, may_repeat: bool) -> None:
        sent = self._client.submit(agent.compute_request, request, pure=False, retries=0)
        self._under_way[answer] = sent

        def done(future: Any) -> None:
            # Dask blames every chunk that waits on a worker for its death. A chunk that only waited
            # behind the culprit succeeds when it is sent again.
            if may_repeat and future.status == "error" and self._killed(future):
                if answer in self._under_way:
                    self._send(request, answer, may_repeat=False)
                return
            self._done(future, answer)

        sent.add_done_callback(done)

    @staticmethod
    def _killed(future: Any) -> bool:
        return isinstance(future.exception(), KilledWorker)

    def ship(self, copy: PanelCopy) -> None:
        """Send the data to every worker, once each."""
        if copy.fingerprint not in self._shipped:
            delivery = Delivery(copy)
            self._shipped[copy.fingerprint] = delivery.name
            self._client.register_plugin(delivery)

    def cancel(self, future: "Future[Answer]") -> None:
        """Forget a chunk; if it is being computed it ends with its command, in ``close``."""
        sent = self._under_way.pop(future, None)
        if sent is not None and self._client is not None:
            with contextlib.suppress(Exception):
                sent.cancel()

    def close(self, token: str) -> None:
        """End the processes of the command on the workers, and disconnect."""
        client, self._client = self._client, None
        local, self._local = self._local, None
        if client is not None and client.status == "running":
            within(CLOSE_SECONDS, lambda: client.run(agent.end, token, on_error="ignore"))
            for name in self._shipped.values() if local is None else ():
                within(CLOSE_SECONDS, partial(client.unregister_worker_plugin, name))
        if client is not None:
            within(CLOSE_SECONDS, lambda: client.close(timeout=CLOSE_SECONDS))
        if local is not None:
            within(CLOSE_SECONDS, lambda: local.close(timeout=CLOSE_SECONDS))
            # A worker that was just restarting may have missed that.
            end_children("spawn_main", besides=self._others)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self, n_workers: int) -> None:
        self._others = children()
        self._folder = tempfile.TemporaryDirectory(
            prefix="backtest_batch-dask-", ignore_cleanup_errors=True
        )
        # A worker on this machine is lost by chance less often than one of many machines.
        losses = {"distributed.scheduler.allowed-failures": LOCAL_LOSSES}
        # Ctrl-C on a terminal reaches the whole group; only this command decides what it means.
        with dask.config.set(losses), signals_blocked(signal.SIGINT):
            self._local = self._local_cluster(n_workers)
        self._client = distributed.Client(self._local, set_as_default=False)
        self._client.register_plugin(
            Silence(None if self.log_file is None else str(self.log_file.absolute()))
        )

    def _local_cluster(self, n_workers: int) -> Any:
        return distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            # memory_limit_mb limits the process that computes instead.
            memory_limit=0,
            # Whoever can talk to a scheduler can run code as its user: nobody else on this machine
            # has the certificate of this command, and other machines cannot reach it.
            host="127.0.0.1",
            protocol="tls://",
            security=_own_security(),
            dashboard_address=None,
            # Its web server listens in any case; with a fixed port two batches would collide.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            local_directory=self._folder.name,
            silence_logs=logging.CRITICAL,
        )

    def _connect(self, address: str, n_seats: int) -> None:
        try:
            self._client = distributed.Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"hydra.launcher.address={address}: no Dask scheduler answers there ({error}); "
                "nothing was run"
            ) from error
        answers = self._client.run(probe, on_error="return")
        for answer in answers.values():
            check_probe(answer, address)
        threads = sum(self._client.nthreads().values())
        if not answers:
            log.warning("the Dask cluster at %s has no workers yet; runs wait for them", address)
        elif threads > n_seats:
            log.warning(
                "the Dask cluster at %s can compute %d chunks at once, but this batch asks for "
                "%d: raise n_jobs to use all of it",
                address,
                threads,
                n_seats,
            )

    def _done(self, sent: Any, answer: "Future[Answer]") -> None:
        """Pass on the result of a chunk; called in a thread of Dask's."""
        if self._under_way.pop(answer, None) is None:
            return
        try:
            answer.set_result(sent.result())
        except KilledWorker as error:
            answer.set_exception(
                WorkerDied(
                    f"every worker of the cluster that computed it died, the last was "
                    f"{error.last_worker.address}"
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever came back, the batch must know
            gone = sent.status in ("cancelled", "lost")
            answer.set_exception(self._lost() if gone else WorkerDied(_told(error)))
        except BaseException as error:  # noqa: BLE001 - Dask's cancellation is no Exception
            answer.set_exception(self._lost() if not isinstance(error, SystemExit) else error)

    def _lost(self) -> ClusterLostError:
        where = "on this machine" if self.address is None else f"at {self.address}"
        return ClusterLostError(f"the Dask cluster {where} is gone")


def _own_security() -> Any:
    """Return keys and certificates that exist as long as this command, and only in its memory."""
    try:
        return distributed.Security.temporary()
    except ImportError as error:
        raise ConfigurationError(
            "hydra.launcher.backend=dask: a cluster on this machine needs the package "
            "cryptography, so that nobody else can use it: "
            "`pip install 'backtest-batch[dask]'` installs it"
        ) from error


def _told(error: BaseException) -> str:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"the cluster did not answer: {type(error).__name__}: {first_line}"
