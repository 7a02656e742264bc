"""Real servers for the tests of tracking: PostgreSQL, MLflow's, and a proxy that misbehaves."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PASSWORD = "s3cr3t-word"
INITDB = ["-U", "me", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C"]
POSTGRESQL = Path("/usr/lib/postgresql")
"""Where Debian puts what belongs to no path."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def postgres_program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, the newest where there are several."""
    found = [str(path) for path in sorted(POSTGRESQL.glob(f"*/bin/{name}"))]
    return shutil.which(name) or (found[-1] if found else None)


def missing_for_postgres() -> str:
    """Return what a test with PostgreSQL lacks on this machine; empty when nothing."""
    if os.name != "posix":
        return "the tests start PostgreSQL on POSIX systems only"
    try:
        import psycopg2  # noqa: F401
    except ModuleNotFoundError:
        return "psycopg2 is not installed"
    if postgres_program("initdb") is None or postgres_program("pg_ctl") is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0 and _other_user() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
    return ""


def _other_user() -> str | None:
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


class PostgreSQL:
    """A PostgreSQL server of its own; as root it runs as another user, because it refuses root."""

    def __init__(self) -> None:
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://me:{PASSWORD}@127.0.0.1:{self.port}"
        # Not below the tests' own folder, which other users may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            import pwd

            user = _other_user()
            assert user is not None
            self._as = {"user": user, "cwd": "/"}
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, -1)

    def start(self) -> "PostgreSQL":
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", *INITDB, "--pwfile", str(password))
        flags = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
            f"-c unix_socket_directories={self._folder}"
        )
        log = str(self._folder / "log")
        self._run("pg_ctl", "-w", "-t", "300", "-o", flags, "-l", log, "start")
        return self

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int:
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def new_database(self, name: str) -> str:
        """Make a database, and return its address."""
        from sqlalchemy import create_engine, text

        engine = create_engine(f"{self.uri}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return f"{self.uri}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        path = postgres_program(program)
        assert path is not None
        # A server that is started keeps a pipe open.
        subprocess.run(
            [path, "-D", str(self._folder / "data"), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )


class MlflowServer:
    """An MLflow server that can be killed and started again at the same address.

    Parameters
    ----------
    backend_uri
        Its database.
    folder
        Where its log and the artifacts that it serves are.
    workers
        Its processes.
    """

    def __init__(self, backend_uri: str, folder: Path, workers: int = 1) -> None:
        self.backend_uri = backend_uri
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.artifacts = folder / "served"
        self._arguments = [
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers)),
            *("--backend-store-uri", backend_uri),
            *("--artifacts-destination", self.artifacts.as_uri()),
        ]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "MlflowServer":
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # starts twice as fast without
        }
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *self._arguments],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                cwd=self._log.parent,
            )
        for _ in range(3_000):
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                self.ask("health")
                return self
            time.sleep(0.1)
            assert self._process.poll() is None, self._log.read_text()
        raise AssertionError(self._log.read_text())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ask(self, path: str, body: Any = None) -> bytes:
        """Call what the UI calls."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.uri}/{path}", data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def ask_json(self, path: str, body: Any = None) -> Any:
        return json.loads(self.ask(f"ajax-api/2.0/mlflow/{path}", body))


@dataclass(frozen=True)
class Asked:
    """One request as a proxy sees it: the how-manieth of its kind, from 1."""

    method: str
    path: str
    number: int

    @property
    def creates_a_run(self) -> bool:
        return self.path.endswith("/mlflow/runs/create")


Behaviour = Callable[[Asked], str | int | bytes]
"""What a proxy does with a request: ``pass``, ``lose`` its answer, or answer a status, or 200 and
some bytes, itself."""


@dataclass
class Proxy:
    """A reverse proxy before a server, with faults, a login and TLS as they are wanted.

    Attributes
    ----------
    target
        Port of the server behind it.
    behaviour
        What becomes of a request.
    credentials
        The only Authorization header that is let through; None for all.
    certificate
        File with a key and a certificate; None without TLS.
    seen
        What became of each request.
    """

    target: int
    behaviour: Behaviour = field(default=lambda _: "pass")
    credentials: str | None = None
    certificate: Path | None = None
    seen: list[tuple[Asked, str | int | bytes]] = field(default_factory=list)

    def __enter__(self) -> "Proxy":
        proxy = self
        lock = threading.Lock()
        counts: dict[tuple[str, bool], int] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                with lock:
                    kind = (self.command, self.path.endswith("/mlflow/runs/create"))
                    counts[kind] = counts.get(kind, 0) + 1
                    asked = Asked(self.command, self.path, counts[kind])
                    does = proxy.behaviour(asked)
                    proxy.seen.append((asked, does))
                if proxy.credentials not in (None, self.headers.get("Authorization")):
                    self.answer(401, b"who are you?")
                elif isinstance(does, int):
                    self.answer(does, b"not now", {"Retry-After": "0"})
                elif isinstance(does, bytes):
                    self.answer(200, does)
                else:
                    self.forward(body, does)

            def forward(self, body: bytes, does: str) -> None:
                behind = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=120)
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "connection", "authorization")
                }
                try:
                    behind.request(self.command, self.path, body, headers)
                    answer = behind.getresponse()
                    content = answer.read()
                except OSError:
                    self.answer(502, b"nobody there")
                    return
                finally:
                    behind.close()
                if does == "lose":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                kept = {
                    name: value
                    for name, value in answer.getheaders()
                    if name.lower() not in ("content-length", "transfer-encoding", "connection")
                }
                self.answer(answer.status, content, kept)

            def answer(
                self, status: int, content: bytes, headers: dict[str, str] | None = None
            ) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                """Clients that go away are no error."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def uri(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_port}"


def basic(user: str, password: str) -> str:
    """Return the Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextlib.contextmanager
def started(server: MlflowServer) -> Iterator[MlflowServer]:
    """Start a server, and kill it at the end."""
    try:
        yield server.start()
    finally:
        server.kill()
