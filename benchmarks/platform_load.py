"""How many times a second can teachers submit and get the next one, here and on Label Studio?

Both from their packages, on a PostgreSQL of their own, behind the same production server (granian, as many workers
and threads), on the same machine and in the same run, with the same conversations and the same twenty teachers who
answer as fast as they are served. One turn is what a teacher waits for: the answer stored and the next comparison
there. Here that is one request, for HTML that is ready to be shown; there it is a POST of the annotation and a GET of
the next task, both JSON. The two are measured in alternation, a few seconds each, so that whatever else the machine
does hits both. Label Studio is installed into a folder of its own, outside this repository, where it is not there yet.

    python -m benchmarks.platform_load --teachers 20 --seconds 30
"""

import argparse
import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port, postgres, redis

ROOT = Path(__file__).resolve().parent.parent
PEER = "label-studio==1.23.2"
SERVER = "granian==2.8.7"
WORKERS, THREADS = 2, 4
ROUNDS = 5
WARM_UP = 3.0
OFFER = re.compile(rb'name="offer" value="([0-9a-f-]{36})"')
KEY = "only-for-the-benchmark-of-platforms-0000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--conversations", type=int, default=8000)
    parser.add_argument("--peer-folder", type=Path, default=Path(tempfile.gettempdir()) / "label-studio-1.23.2")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever stops it gets the servers stopped too

    python = install_peer(options.peer_folder)
    conversations = make_conversations(options.conversations)
    with (
        serve_peer(python, conversations, teachers=options.teachers) as theirs,
        serve_ours(conversations, teachers=options.teachers) as turns,
    ):
        drive(theirs, seconds=WARM_UP)
        drive(turns, seconds=WARM_UP)
        ours, peer = Load(), Load()
        for _round in range(ROUNDS):
            peer += drive(theirs, seconds=options.seconds / ROUNDS)
            ours += drive(turns, seconds=options.seconds / ROUNDS)
    print(f"{options.teachers} teachers, {options.conversations} conversations, {options.seconds:g} s each, "
          f"{WORKERS} workers of {THREADS} threads, {os.cpu_count()} cores")  # fmt: skip
    print(f"{'':24}{'turns/s':>10}{'median ms':>12}{'p95 ms':>10}{'refused':>10}")
    for name, load in (("Tutelage", ours), (PEER, peer)):
        print(f"{name:24}{load.throughput:>10.1f}{load.at(0.5):>12.1f}{load.at(0.95):>10.1f}{load.refused:>10}")
    print(json.dumps({
        "throughput_ratio": round(ours.throughput / peer.throughput, 2),
        "p95_ms": round(ours.at(0.95), 1),
        "peer_p95_ms": round(peer.at(0.95), 1),
        "turns_per_second": round(ours.throughput, 1),
        "peer_turns_per_second": round(peer.throughput, 1),
        "teachers": options.teachers,
    }))  # fmt: skip


@dataclass(frozen=True)
class Load:
    """What the teachers saw: seconds of each turn, and turns that were not served."""

    times: tuple[float, ...] = ()
    refused: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.times + other.times, self.refused + other.refused, self.seconds + other.seconds)

    @property
    def throughput(self) -> float:
        return len(self.times) / self.seconds

    def at(self, share: float) -> float:
        """A quantile, in milliseconds."""
        if not self.times:
            return float("nan")
        return 1000 * statistics.quantiles(self.times, n=1000, method="inclusive")[round(share * 1000) - 1]


Turn = Callable[[], bool]
"""One teacher's next turn; False where it was not served."""


def drive(turns: list[Turn], *, seconds: float) -> Load:
    """Every teacher in a thread, one turn after the other, until the time is over; turns begun by then are finished."""
    times: list[float] = []
    refused = 0
    begins = time.perf_counter()
    ends = begins + seconds
    lock = threading.Lock()

    def teach(turn: Turn) -> None:
        nonlocal refused
        while (begun := time.perf_counter()) < ends:
            is_served = turn()
            done = time.perf_counter()
            with lock:
                if is_served:
                    times.append(done - begun)
                else:
                    refused += 1

    threads = [threading.Thread(target=teach, args=(turn,), daemon=True) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 120)
    return Load(tuple(times), refused, time.perf_counter() - begins)


def make_conversations(count: int) -> list[dict[str, str]]:
    """The project's sample, as often as needed, each copy with its number."""
    lines = (ROOT / "annotation" / "sample" / "conversations.jsonl").read_text().splitlines()
    sample = [json.loads(line) for line in lines]
    return [_read(sample[number % len(sample)], number) for number in range(count)]


def _read(row: dict[str, Any], number: int) -> dict[str, str]:
    a, b = row["responses"][:2]
    return {"prompt": f"{row['prompt']}\n\n(Number {number})", "a": str(a), "b": str(b)}


@contextlib.contextmanager
def served(command: list[str], *, port: int, environment: dict[str, str], folder: Path, path: str) -> Iterator[None]:
    """The server, until it answers; stopped afterwards. Raises RuntimeError with the end of its log."""
    log = Path(tempfile.mkstemp(prefix="tutelage-web-")[1])
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        for _try in range(480):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", path)
                if connection.getresponse().status < 500:
                    break
            if process.poll() is not None:
                break
            time.sleep(0.25)
        else:
            process.kill()
        if process.poll() is not None:
            raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        log.unlink()


def granian(python: Path, application: str, port: int) -> list[str]:
    return [
        str(python), "-m", "granian", application, "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", str(WORKERS), "--blocking-threads", str(THREADS), "--backpressure", "256",
    ]  # fmt: skip


# Label Studio ---------------------------------------------------------------------------------------------------------


def install_peer(folder: Path) -> Path:
    """Label Studio and the server in an environment of their own; left there for the next run."""
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"Installing {PEER} into {folder} …", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER, SERVER], check=True)
        ready.touch()
    return python


@contextlib.contextmanager
def serve_peer(python: Path, conversations: list[dict[str, str]], *, teachers: int) -> Iterator[list[Turn]]:
    with tempfile.TemporaryDirectory() as folder, postgres(durable=True) as url:
        data = Path(folder)
        (data / "conversations.json").write_text(json.dumps(conversations))
        host, _, port_and_name = url.removeprefix("postgres://tutelage@").partition(":")
        database_port, _, name = port_and_name.partition("/")
        environment = {
            **os.environ,
            "DJANGO_DB": "default", "POSTGRE_USER": "tutelage", "POSTGRE_PASSWORD": "", "POSTGRE_NAME": name,
            "POSTGRE_HOST": host, "POSTGRE_PORT": database_port, "LABEL_STUDIO_BASE_DATA_DIR": folder,
            "DJANGO_SETTINGS_MODULE": "core.settings.label_studio", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "SECRET_KEY": KEY,
        }  # fmt: skip
        environment.pop("DATABASE_URL", None)
        setup = subprocess.run(
            [python, ROOT / "benchmarks" / "label_studio_setup.py", data / "conversations.json", str(teachers)],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if setup.returncode:
            raise RuntimeError(f"Label Studio was not set up:\n{setup.stderr[-3000:]}")
        made = json.loads(setup.stdout.splitlines()[-1])
        site = subprocess.run(
            [python, "-c", "import label_studio, os; print(os.path.dirname(label_studio.__file__))"],
            capture_output=True, text=True, check=True, cwd=folder,
        ).stdout.strip()  # fmt: skip
        port = free_port()
        environment["PYTHONPATH"] = site
        with served(
            granian(python, "core.wsgi:application", port), port=port, environment=environment, folder=data,
            path="/health",
        ):  # fmt: skip
            yield [_peer_turn(port, made["project"], token) for token in made["tokens"]]


def _peer_turn(port: int, project: int, token: str) -> Turn:
    """POST the annotation, GET the next task: what its page does after Submit."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    annotation = json.dumps({
        "lead_time": 5.0,
        "result": [{"from_name": "choice", "to_name": "a,b", "type": "pairwise", "value": {"selected": "left"}}],
    })  # fmt: skip
    task: int | None = None

    def ask(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def turn() -> bool:
        nonlocal task
        try:
            if task is not None and ask("POST", f"/api/tasks/{task}/annotations/", annotation)[0] != 201:
                task = None
                return False
            is_turn = task is not None
            status, body = ask("GET", f"/api/projects/{project}/next")
            task = json.loads(body)["id"] if status == 200 else None
            return is_turn and task is not None
        except (OSError, http.client.HTTPException):
            connection.close()
            return False

    return turn


# Here -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve_ours(conversations: list[dict[str, str]], *, teachers: int) -> Iterator[list[Turn]]:
    with installed():
        code, sessions = make_campaign(conversations, teachers=teachers)
        with serve_here() as port:
            yield [_our_turn(port, code, session) for session in sessions]


@contextlib.contextmanager
def installed(**options: int) -> Iterator[None]:
    """An empty platform on a PostgreSQL that keeps its writes and a Redis; this process's environment names them.

    options  of the PostgreSQL
    """
    with tempfile.TemporaryDirectory() as folder, postgres(durable=True, **options) as url, redis() as broker:
        os.environ.update({
            "DATABASE_URL": url, "REDIS_URL": broker, "SECRET_KEY": KEY, "DATA_FOLDER": folder,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        })  # fmt: skip
        for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"]):
            subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, check=True)
        yield


@contextlib.contextmanager
def serve_here(application: str = "config.wsgi:application") -> Iterator[int]:
    """An application of the installed platform behind the production server; yields its port."""
    port = free_port()
    command = granian(Path(sys.executable), application, port)
    with served(command, port=port, environment=dict(os.environ), folder=ROOT, path="/account/login/"):
        yield port


def make_campaign(conversations: list[dict[str, str]], *, teachers: int) -> tuple[str, list[str]]:
    """The same conversations, each on one teacher's queue, and a signed-in session for each teacher."""
    import django

    django.setup()
    from decimal import Decimal

    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connections

    from annotation.models import (
        Campaign,
        Comparison,
        Conversation,
        Enrolment,
        GuidelineVersion,
        Membership,
        Pool,
        Response,
        Teacher,
        User,
    )  # fmt: skip
    from annotation.services.queueing import OfferDraft, queue_offers

    campaign = Campaign.objects.create(name="Helpful answers", state="open", budget=100_000)
    guidelines = GuidelineVersion.objects.create(campaign=campaign, version=1, text="Prefer what helps more.")
    pool = Pool.objects.create(name="The pool", pay_per_label="0.10")
    campaign.pools.add(pool)
    rows = Conversation.objects.bulk_create(
        Conversation(campaign=campaign, digest=f"{n:064x}", messages=[{"role": "user", "content": row["prompt"]}])
        for n, row in enumerate(conversations)
    )
    responses = Response.objects.bulk_create(
        Response(conversation=row, digest=side, messages=[{"role": "assistant", "content": texts[side]}])
        for row, texts in zip(rows, conversations, strict=True)
        for side in ("a", "b")
    )
    comparisons = Comparison.objects.bulk_create(
        Comparison(campaign=campaign, conversation=row, a=responses[2 * n], b=responses[2 * n + 1])
        for n, row in enumerate(rows)
    )
    members, sessions = [], []
    for number in range(teachers):
        user = User.objects.create_user(f"teacher{number}", password="a long password")
        teacher = Teacher.objects.create(user=user)
        members.append(Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1))
        Enrolment.objects.create(campaign=campaign, teacher=teacher, stage="working", read_version=guidelines)
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        sessions.append(str(session.session_key))
    drafts = [
        OfferDraft(
            comparison_id=comparison.pk, teacher_id=members[n % teachers].teacher_id,
            membership_id=members[n % teachers].pk, arm="designed", rank=float(n), cost=Decimal("0.10"),
            b_first=n % 2 == 0,
        )
        for n, comparison in enumerate(comparisons)
    ]  # fmt: skip
    for start in range(0, len(drafts), 1000):
        queue_offers(campaign=campaign, drafts=drafts[start : start + 1000])
    connections.close_all()
    return str(campaign.code), sessions


def _our_turn(port: int, code: str, session: str) -> Turn:
    """POST the answer, and read the next offer from what comes back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    token = "a" * 32
    headers = {
        "Cookie": f"sessionid={session}; csrftoken={token}", "X-CSRFToken": token, "HX-Request": "true",
        "Content-Type": "application/x-www-form-urlencoded", "Referer": f"http://127.0.0.1:{port}/",
        "Accept-Encoding": "gzip",
    }  # fmt: skip
    offer = b""

    def ask(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        sent = response.read()
        return response.status, gzip.decompress(sent) if response.getheader("Content-Encoding") == "gzip" else sent

    def turn() -> bool:
        nonlocal offer
        try:
            before = offer
            if before:
                status, body = ask("POST", f"/desk/{code}/answer/", f"offer={before.decode()}&answer=first:2")
            else:
                status, body = ask("GET", f"/desk/{code}/")
            found = OFFER.search(body) if status == 200 else None
            offer = found.group(1) if found else b""
            return bool(before) and bool(offer) and offer != before
        except (OSError, http.client.HTTPException):
            connection.close()
            offer = b""
            return False

    return turn


if __name__ == "__main__":
    main()
