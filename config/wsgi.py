"""The WSGI door."""

import os

from django.core.wsgi import get_wsgi_application

from config.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

from django.conf import settings  # noqa: E402  the settings exist once the application does

if settings.ENV.embedded:
    die_with_parent()
