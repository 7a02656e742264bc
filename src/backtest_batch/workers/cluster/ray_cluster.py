"""Chunks on Ray: a local cluster, or a running one.

This uses Ray's own tasks, not joblib's Ray backend, which does not return results in the order in
which they end; but a batch is recorded as it goes. Ray runs a task again elsewhere when its worker
or its node is lost, at most ``max_retries`` times.
"""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions

from backtest_batch.errors import ClusterLostError, ConfigurationError, WorkerDied
from backtest_batch.workers.cluster import agent
from backtest_batch.workers.cluster.agent import check_probe, probe
from backtest_batch.workers.cluster.seat import children, end_children, started
from backtest_batch.workers.cluster.transfer import Answer, PanelCopy, Request
from backtest_batch.workers.start import Guard

log = logging.getLogger("backtest_batch.batch")

MOST_LOSSES = 3
"""How often a chunk is run again because its worker was lost; Dask's default."""
CONNECT_SECONDS = 10
MOST_STARTS = 3
PROBE_SECONDS = 60
LONGEST_FOLDER = 40
"""Most characters of a temporary folder: Ray puts sockets below it, whose paths may have 107."""

LOST_WORKER = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.OwnerDiedError,
    exceptions.ObjectLostError,
)


def compute_on_ray(request: Request, stored: Mapping[str, Any]) -> Answer:
    """Compute a chunk on a worker, with data from Ray's object store if the cache has none."""

    def fetch(fingerprint: str) -> PanelCopy | None:
        reference = stored.get(fingerprint)
        return None if reference is None else ray.get(reference)

    return agent.compute_request(request, fetch)


@dataclass
class RayCluster:
    """A Ray cluster.

    Parameters
    ----------
    address
        ``auto``, ``host:port`` of a head node, or ``ray://host:port``; None starts a cluster on
        this machine.
    """

    address: str | None
    _compute: Any = field(default=None, init=False)
    _folder: str | None = field(default=None, init=False)
    _stored: dict[str, Any] = field(default_factory=dict, init=False)
    _under_way: "dict[Future[Answer], Any]" = field(default_factory=dict, init=False)
    _guard: Guard = field(default_factory=Guard, init=False)

    def open(self, n_seats: int) -> None:
        """Connect, or start a cluster that computes ``n_seats`` chunks at once."""
        # Ray warns about devices that nothing here uses.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with _own_signals():
            if self.address is None:
                self._start(n_seats)
            else:
                self._connect(self.address, n_seats)
        self._compute = ray.remote(num_cpus=1, max_retries=MOST_LOSSES)(compute_on_ray)

    def submit(self, request: Request) -> "Future[Answer]":
        """Send a chunk."""
        if not ray.is_initialized():
            raise self._lost()
        answer: Future[Answer] = Future()
        sent = self._compute.remote(request, dict(self._stored))
        self._under_way[answer] = sent
        sent.future().add_done_callback(lambda done: self._done(done, answer))
        return answer

    def ship(self, copy: PanelCopy) -> None:
        """Put data into the object store, from which each node that needs it gets it once."""
        if copy.fingerprint not in self._stored:
            self._stored[copy.fingerprint] = ray.put(copy)

    def cancel(self, future: "Future[Answer]") -> None:
        """End a chunk."""
        sent = self._under_way.pop(future, None)
        if sent is not None:
            with contextlib.suppress(Exception):
                ray.cancel(sent, force=True)

    def close(self, token: str) -> None:  # noqa: ARG002 - Ray ends the workers of a job with it
        """Disconnect; Ray then ends the workers of this job, and their processes."""
        self._stored.clear()
        with contextlib.suppress(Exception), _own_signals():
            ray.shutdown()
        self._guard.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self, n_workers: int) -> None:
        # Ray would write a token into the home folder, where others may read it. Versions without
        # tokens need none: see docs/scaling.md.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        folder = tempfile.mkdtemp(prefix="ray-")
        if len(folder) > LONGEST_FOLDER:
            shutil.rmtree(folder)
        else:
            self._folder = folder
        before = children()
        for attempt in range(1, MOST_STARTS + 1):
            try:
                ray.init(
                    address="local",
                    num_cpus=n_workers,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    _temp_dir=self._folder,
                )
            except Exception as error:
                # Ray gives its own processes half a minute, which is too short on a busy machine,
                # and leaves those that did start behind.
                ray.shutdown()
                end_children("ray", besides=before)
                if attempt == MOST_STARTS:
                    raise ConfigurationError(
                        f"hydra.launcher.backend=ray: Ray does not start on this machine "
                        f"({_first_line(error)}); nothing was run"
                    ) from error
            else:
                break
        # If this command is killed, Ray's agents would wait a minute for an answer of its server,
        # which ends before them.
        self._guard.start()
        for process in started("ray", besides=before):
            self._guard.watch_process(process.pid)

    def _connect(self, address: str, n_seats: int) -> None:
        self._knock(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:
            raise self._no_answer(address, error) from error
        try:
            answer: object = ray.get(ray.remote(num_cpus=0)(probe).remote(), timeout=PROBE_SECONDS)
        except exceptions.GetTimeoutError:
            log.warning("the Ray cluster at %s has no workers yet; runs wait for them", address)
            return
        except Exception as error:  # noqa: BLE001 - what went wrong is told in one message
            answer = error
        check_probe(answer, address)
        processors = int(ray.cluster_resources().get("CPU", 0))
        if processors > n_seats:
            log.warning(
                "the Ray cluster at %s can compute %d chunks at once, but this batch asks for %d: "
                "raise n_jobs to use all of it",
                address,
                processors,
                n_seats,
            )

    def _knock(self, address: str) -> None:
        """Check that something listens: Ray itself would try for minutes."""
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host:  # auto
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise self._no_answer(address, error) from error

    def _no_answer(self, address: str, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"hydra.launcher.address={address}: no Ray cluster answers there "
            f"({_first_line(error)}); nothing was run"
        )

    def _done(self, sent: "Future[Answer]", answer: "Future[Answer]") -> None:
        """Pass on the result of a chunk; called in a thread of Ray's."""
        if self._under_way.pop(answer, None) is None:
            return
        try:
            answer.set_result(sent.result())
        except LOST_WORKER:
            answer.set_exception(
                WorkerDied(
                    f"every worker of the cluster that computed it died ({MOST_LOSSES + 1} times)"
                )
            )
        except exceptions.RaySystemError:
            answer.set_exception(self._lost())
        except Exception as error:  # noqa: BLE001 - whatever came back, the batch must know
            first_line = (str(error).strip().splitlines() or [""])[-1]
            answer.set_exception(
                WorkerDied(f"the cluster did not answer: {type(error).__name__}: {first_line}")
            )

    def _lost(self) -> ClusterLostError:
        where = "on this machine" if self.address is None else f"at {self.address}"
        return ClusterLostError(f"the Ray cluster {where} is gone")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this command's signal handlers: Ray sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where none were set
            for number, handler in before.items():
                signal.signal(number, handler)
