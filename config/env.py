"""The settings' environment, read here: typed, and a bad value stops the start with a sentence."""

import hashlib
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parent.parent
_env = environ.Env()


@dataclass(frozen=True)
class Environment:
    """Everything that a deployment may set. `docs/operations.md` has the table."""

    data: Path
    """DATA_FOLDER: where the embedded database, uploads, features and policies lie."""
    debug: bool
    """DEBUG: never on a server that others reach."""
    secret_key: str
    """SECRET_KEY: made once and kept in the data folder when nothing is given and the database is embedded."""
    hosts: list[str]
    """ALLOWED_HOSTS: comma-separated names under which the site is reached."""
    origins: list[str]
    """TRUSTED_ORIGINS: comma-separated origins such as https://labels.example.org, for forms behind a proxy."""
    database: dict[str, Any]
    """DATABASE_URL: postgres://user:password@host/name; SQLite in the data folder by default."""
    redis: str
    """REDIS_URL: redis://host:port/0; a socket in the data folder by default, which no other machine can reach."""
    email: dict[str, Any]
    """EMAIL_URL: smtp://user:password@host:port; printed on the console by default."""
    second_factor: bool
    """REQUIRE_SECOND_FACTOR: whoever runs campaigns or pools needs one; on where DATABASE_URL is, off for a demo."""
    secure: bool
    """HTTPS: cookies and redirects for a site served over TLS."""
    embedded: bool
    """TUTELAGE_EMBEDDED: set by the embedded start for its children, which then never outlive it."""
    models: Path
    """MODEL_FOLDER: models that pages may name by their folder; anything else on the server they may not."""
    largest_upload: int
    """LARGEST_UPLOAD: bytes that an admin may upload at once; others send forms only."""
    proxies: int
    """TRUSTED_PROXIES: how many proxies stand before the site and write X-Forwarded-For; sign-in counts by address."""
    private_hosts: list[str]
    """OUTBOUND_PRIVATE_HOSTS: host:port,… inside the network that webhooks and model teachers may reach."""
    model_keys: dict[str, str]
    """MODEL_KEY_NAME: keys of model teachers' endpoints, by NAME."""
    model_hosts: dict[str, str]
    """MODEL_HOST_NAME: host:port, the only one that is ever sent MODEL_KEY_NAME; port 443 where none is given."""
    oidc: dict[str, str]
    """OIDC_SERVER_URL, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_NAME: sign-in through an identity provider."""


def read_environment() -> Environment:
    """Read and check every variable.

    Raises ImproperlyConfigured, whose sentence says which variable and what it should be.
    """
    data = Path(_text("DATA_FOLDER", default=str(ROOT / "data"))).resolve()
    embedded = "DATABASE_URL" not in _env.ENVIRON
    database = _read("DATABASE_URL", lambda: _env.db_url(default=f"sqlite:///{data / 'tutelage.sqlite3'}"))
    if database["ENGINE"] not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        raise ImproperlyConfigured("DATABASE_URL must begin with postgres:// or sqlite:///.")
    supervised = _read("TUTELAGE_EMBEDDED", lambda: _env.bool("TUTELAGE_EMBEDDED", default=False))
    is_server = not embedded and not supervised
    return Environment(
        data=data,
        debug=_read("DEBUG", lambda: _env.bool("DEBUG", default=False)),
        secret_key=_secret_key(data, embedded=embedded),
        hosts=_names("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"]),
        origins=_names("TRUSTED_ORIGINS"),
        database=database,
        redis=_redis_url(data),
        email=_read("EMAIL_URL", lambda: _env.email_url(default="consolemail://")),
        second_factor=_read("REQUIRE_SECOND_FACTOR", lambda: _env.bool("REQUIRE_SECOND_FACTOR", default=is_server)),
        secure=_read("HTTPS", lambda: _env.bool("HTTPS", default=False)),
        embedded=supervised,
        models=Path(_text("MODEL_FOLDER", default=str(data / "models"))).resolve(),
        largest_upload=_read("LARGEST_UPLOAD", lambda: _env.int("LARGEST_UPLOAD", default=2 * 2**30)),
        proxies=_read("TRUSTED_PROXIES", lambda: _env.int("TRUSTED_PROXIES", default=0)),
        private_hosts=_names("OUTBOUND_PRIVATE_HOSTS"),
        model_keys={
            name.removeprefix("MODEL_KEY_"): value
            for name, value in _env.ENVIRON.items()
            if name.startswith("MODEL_KEY_")
        },
        model_hosts={
            name.removeprefix("MODEL_HOST_"): value if ":" in value else f"{value}:443"
            for name, value in _env.ENVIRON.items()
            if name.startswith("MODEL_HOST_")
        },
        oidc={key: _text(f"OIDC_{key.upper()}") for key in ("server_url", "client_id", "client_secret", "name")},
    )


def _read(name: str, reader: Any) -> Any:
    try:
        return reader()
    except Exception as error:  # django-environ raises many kinds; all mean the same to whoever starts the site
        raise ImproperlyConfigured(f"The environment variable {name} cannot be read: {error}.") from error


def _text(variable: str, *, default: str = "") -> str:
    """As it is written. django-environ takes a value that begins with a $, as a secret may, for another's name."""
    return str(_env.ENVIRON.get(variable, default))


def _names(variable: str, *, default: Sequence[str] = ()) -> list[str]:
    """Comma-separated, with or without blanks."""
    return [name.strip() for name in _env.list(variable, default=list(default)) if name.strip()]


def redis_socket(data: Path) -> Path:
    """Where the embedded server listens. The kernel allows 107 bytes, so a deep data folder gets a short name."""
    path = data / "redis.sock"
    if len(str(path).encode()) <= 100:
        return path
    return Path(tempfile.gettempdir()) / f"tutelage-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.sock"


def _redis_url(data: Path) -> str:
    url = _text("REDIS_URL", default=f"redis+socket://{redis_socket(data)}")
    if not url.startswith(("redis://", "rediss://", "redis+socket://")):
        raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or redis+socket://.")
    return url


def _secret_key(data: Path, *, embedded: bool) -> str:
    """The given key; or, embedded only, one made on the first start. A server without a key does not start."""
    if key := _text("SECRET_KEY"):
        if len(key) < 32:
            raise ImproperlyConfigured("SECRET_KEY is too short: give at least 32 random characters.")
        return key
    if not embedded:
        raise ImproperlyConfigured("Set SECRET_KEY (at least 32 random characters) when DATABASE_URL is set.")
    path = data / "secret_key"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret_key.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(draft)  # atomic: the first of two starts wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
