"""`make test`: the checks that take seconds first, then every test on PostgreSQL, then the web's tests on SQLite.

python -m tests.run [--checks-only] [PYTEST ARGUMENTS …]
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
ROOMS = ["config", "annotation", "activelearning", "training", "benchmarks", "manage.py"]
ON_SQLITE = ["tests/annotation", "tests/activelearning", "tests/training", "tests/flows", "tests/test_cast.py"]


def main() -> int:
    arguments = sys.argv[1:]
    started = time.monotonic()
    for name, command in checks():
        if not step(name, command):
            return 1
    if "--checks-only" in arguments:
        return 0
    if not find_chromium():
        return 1
    workers = ["-n", "2", "--dist", "loadgroup"]
    servers = [PYTHON, "-m", "tests.servers", PYTHON, "-m", "pytest", "-q"]
    passed = step("every test, on PostgreSQL and Redis", [*servers, *workers, *arguments])
    if passed and not arguments:
        without = ["-m", "not browser and not kill and not slow", "--ignore-glob", "*/algorithms/*"]
        passed = step("the web's tests, on SQLite", [PYTHON, "-m", "pytest", "-q", *workers, *without, *ON_SQLITE])
    print(f"\n{'Passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s")
    return 0 if passed else 1


def checks() -> list[tuple[str, list[str]]]:
    return [
        ("lint", [PYTHON, "-m", "ruff", "check", "--quiet", "."]),
        ("format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."]),
        ("types", [PYTHON, "-m", "mypy", *ROOMS]),
        ("migrations", [PYTHON, "manage.py", "makemigrations", "--check", "--dry-run", "--verbosity", "0"]),
        ("the import law", [PYTHON, "-m", "pytest", "-q", "-x", "tests/test_architecture.py"]),
    ]


def step(name: str, command: list[str]) -> bool:
    started = time.monotonic()
    print(f"— {name}", flush=True)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, check=False)
    print(f"  {'ok' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - started:.1f} s", flush=True)
    return done.returncode == 0


def find_chromium() -> bool:
    """A Chromium for the browser tests: found, or installed; else one sentence says what to install."""
    if chromium():
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("— installing Chromium from the system's packages", flush=True)
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            subprocess.run(
                command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL, check=False
            )
    else:
        print("— installing Playwright's own Chromium", flush=True)
        subprocess.run([PYTHON, "-m", "playwright", "install", "chromium"], check=False)
    if chromium():
        return True
    print("The browser tests need Chromium: install it by your system's packages, or set CHROMIUM to its path.")
    return False


def chromium() -> str | None:
    """The path of a Chromium: the environment's, the system's, or Playwright's own."""
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    return next((str(path) for path in sorted(cache.glob("chromium-*/chrome-linux*/chrome"))), None)


if __name__ == "__main__":
    raise SystemExit(main())
