"""The import law of docs/architecture.md, read from the source: arrows only down, each file knows what it may."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("annotation", "activelearning", "training", "config")  # from the ground floor up
OURS = set(APPS)

SOURCES = sorted(
    path
    for app in APPS
    for path in (ROOT / app).rglob("*.py")
    if "migrations" not in path.parts and "__pycache__" not in path.parts
)
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]


def imports_of(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Every module that a file imports, as a dotted name; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(path: Path) -> str:
    """Which line of the law a file stands under: the first part below its app that names a room."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return parts[0] if parts else ""


def ours(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in OURS}


def is_in(name: str, *rooms: str) -> bool:
    """Whether a dotted name of ours stands in one of these rooms of its app, whichever app that is."""
    return any(name.split(".")[1:2] == [room] for room in rooms)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    above = set(APPS[APPS.index(own) + 1 :])
    if own == "config":
        return
    upward = {name for name in imports_of(path) if name.split(".")[0] in above}
    assert not upward, f"{path.relative_to(ROOT)} imports upward: {sorted(upward)}"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if room_of(path) == "algorithms"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_algorithms_know_no_framework(path: Path) -> None:
    forbidden = {"django", "celery", "redis", "kombu"}
    used = set(imports_of(path))
    assert not {name for name in used if name.split(".")[0] in forbidden}
    assert not {name for name in ours(iter(used)) if not is_in(name, "algorithms")}


LAW: dict[str, tuple[str, ...]] = {
    # room: rooms that it must never import, in its own app or below
    "models": ("access", "services", "arrays", "datasets", "pipeline", "tasks", "views", "forms", "algorithms"),
    "access": ("tasks", "views", "forms", "pipeline", "arrays", "datasets", "algorithms"),
    "services": ("tasks", "views", "forms", "pipeline"),
    "arrays": ("tasks", "views", "forms", "pipeline"),
    "datasets": ("tasks", "views", "forms", "pipeline"),
    "pipeline": ("tasks", "views", "forms"),
    "tasks": ("views", "forms"),
    "views": ("pipeline", "arrays"),
    "forms": ("pipeline", "arrays", "views", "tasks"),
}
DOORS = ("admin", "apps", "urls", "management", "child")
ELSEWHERE = ("tasks", "views", "forms")
"""What a module that has no line of its own must never import."""


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "config" and room_of(path) not in DOORS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_each_room_keeps_to_the_law(path: Path) -> None:
    never = LAW.get(room_of(path), ELSEWHERE)
    names = ours(imports_of(path, top_level_only=room_of(path) == "tasks"))
    broken = {name for name in names if is_in(name, *never)}
    assert not broken, f"{path.relative_to(ROOT)} imports {sorted(broken)}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if module.endswith("__main__"):
        pytest.skip("a program, run by its own test")
    importlib.import_module(module)


def test_the_web_process_starts_without_torch() -> None:
    code = (
        "import django, sys; django.setup(); import config.wsgi, config.urls;"
        "from django.urls import get_resolver; get_resolver().url_patterns;"
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "config.settings", "DATA_FOLDER": "/tmp/tutelage-no-torch", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "torch, transformers, sklearn or numba is imported by the web process"


@pytest.mark.parametrize("app", ["annotation", "activelearning", "training"])
def test_the_apps_packages_are_empty(app: str) -> None:
    assert not (ROOT / app / "__init__.py").read_text().strip()


def test_no_room_is_called_utils() -> None:
    vague = {"utils", "helpers", "common", "misc"}
    assert not [path for path in SOURCES if path.stem in vague or path.parent.name in vague]
