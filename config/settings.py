"""Django's settings, in one file: what a deployment may change comes from config/env.py, the rest is the product's."""

from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import structlog
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from config.env import ROOT, read_environment

ENV = read_environment()

DEBUG = ENV.debug
SECRET_KEY = ENV.secret_key
ALLOWED_HOSTS = ENV.hosts
CSRF_TRUSTED_ORIGINS = ENV.origins

INSTALLED_APPS = [
    "annotation",
    "activelearning",
    "training",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
]

MIDDLEWARE = [
    "config.health.Health",  # before the check of hosts and the redirect to TLS
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "annotation.compression.Compression",  # after WhiteNoise, whose files are compressed already
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "annotation.guards.Guard",
    "annotation.zones.LocalTime",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Database -------------------------------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {"default": ENV.database}
if ENV.database["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # A writer takes the lock when it begins, so that two never deadlock on upgrading a read lock.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728;"
        " PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-20000;",
    }
else:
    DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
    DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
    # Statements that come again are planned once a connection: a third of a desk's turn went into planning them anew.
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        "server_side_binding": True,
        "prepare_threshold": 3,
    }

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Caches ---------------------------------------------------------------------------------------------------------------

CACHES = {
    "default": {  # shared by all processes: limits on sign-ins, what was asked of the workers, pictures
        "BACKEND": "config.cache.SharedCache",
        "LOCATION": ENV.redis.replace("redis+socket://", "unix://", 1),  # the client's word for a socket
        "KEY_PREFIX": "tutelage",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    },
    "near": {  # in each process: rendered texts, which every turn of a desk asks for
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "near",
        "OPTIONS": {"MAX_ENTRIES": 2000},
    },
}

# Files ----------------------------------------------------------------------------------------------------------------

MEDIA_ROOT = ENV.data / "files"
MEDIA_URL = "/files/"  # never served as such: downloads pass through views that ask access.py
MODEL_FOLDER = ENV.models
STATIC_URL = "static/"
STATIC_ROOT = ENV.data / "static"
STATICFILES_DIRS = [ROOT / "templates" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
LARGEST_UPLOAD = ENV.largest_upload
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# People ---------------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "annotation.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "annotation.accounts.AccountAdapter"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {
    # A hall of teachers behind one address signs in within a minute; guesses stay as slow as allauth makes them.
    "login": "300/m/ip",
    "panel": "120/m/ip",  # each new participant is an account
}
REQUIRE_SECOND_FACTOR = ENV.second_factor
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
ALLAUTH_TRUSTED_PROXY_COUNT = ENV.proxies


def sign_in_through(oidc: dict[str, str]) -> dict[str, Any]:
    """allauth's words for one identity provider; none without its address."""
    if not oidc["server_url"]:
        return {}
    app = {
        "provider_id": "oidc",
        "name": oidc["name"] or "Single sign-on",
        "client_id": oidc["client_id"],
        "secret": oidc["client_secret"],
        "settings": {"server_url": oidc["server_url"]},
    }
    return {"openid_connect": {"APPS": [app]}}


SOCIALACCOUNT_PROVIDERS = sign_in_through(ENV.oidc)

# Language and time ----------------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German")), ("es", _("Spanish"))]
LOCALE_PATHS = [ROOT / "templates" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# Safety ---------------------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        # A browser holds the redirect to the identity provider, too, against where a form may lead.
        "form-action": [SELF, *([urljoin(ENV.oidc["server_url"], "/")] if ENV.oidc["server_url"] else [])],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_AGE = int(timedelta(days=14).total_seconds())
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.secure
SESSION_COOKIE_SAMESITE = "Lax"
if ENV.secure:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = int(timedelta(days=30).total_seconds())
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# E-mail ---------------------------------------------------------------------------------------------------------------

EMAIL_CONFIG = ENV.email
EMAIL_BACKEND = EMAIL_CONFIG["EMAIL_BACKEND"]
EMAIL_HOST = EMAIL_CONFIG.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = EMAIL_CONFIG.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = EMAIL_CONFIG.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = EMAIL_CONFIG.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = EMAIL_CONFIG.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = EMAIL_CONFIG.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 20
"""Seconds: a mail server that says nothing holds no worker for longer."""

# Work -----------------------------------------------------------------------------------------------------------------

REPLAN_TASK = "activelearning.replan"
"""What a view sends after a label: a name, so that annotation imports nothing upward."""
IMPORT_TASK = "annotation.run_import"
IMPORTS_AT_ONCE = 1 if ENV.embedded else 2
MODELS_AT_ONCE = 1 if ENV.embedded else 2
"""Both together fewer than the processes of a worker of `default`: what is owed by the clock needs one of them."""

CELERY_BROKER_URL = ENV.redis
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A killed worker's message comes back after this many seconds; tasks are idempotent and the beat asks again anyway.
    "visibility_timeout": 60,
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    # A web request must not wait for a broker that is down: the beat heals what the request could not send.
    "retry_policy": {"max_retries": 0, "timeout": 1.0},
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_ROUTES = {
    "activelearning.embed": {"queue": "default"},  # minutes long: it must not stand before a plan
    "activelearning.weigh_withdrawal": {"queue": "default"},
    "activelearning.sweep": {"queue": "default"},
    "activelearning.*": {"queue": "plan"},
    "training.run": {"queue": "gpu"},
    "training.answer": {"queue": "default"},  # whose worker embeds, and has the encoder in memory
}
CELERY_BEAT_SCHEDULE = {
    "what is stale": {"task": "activelearning.reconcile", "schedule": 3.0, "options": {"expires": 3}},
    "what no page reads": {"task": "activelearning.sweep", "schedule": 60.0, "options": {"expires": 60}},
    "which runs wait": {"task": "training.reconcile", "schedule": 5.0, "options": {"expires": 5}},
    "what annotation owes": {"task": "annotation.reconcile", "schedule": 10.0, "options": {"expires": 10}},
}

# Requests to other machines ------------------------------------------------------------------------------------------

OUTBOUND_PRIVATE_HOSTS = ENV.private_hosts
MODEL_KEYS = ENV.model_keys
MODEL_HOSTS = ENV.model_hosts

# Logs -----------------------------------------------------------------------------------------------------------------

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=False)
        if DEBUG
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
    ],
    logger_factory=structlog.WriteLoggerFactory(),
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django.db.backends": {"level": "INFO"}, "httpx": {"level": "WARNING"}},
}
