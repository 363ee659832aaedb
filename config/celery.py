"""The Celery application: queues `default` (imports, notices), `plan` (embed, refit, select) and `gpu` (training)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tutelage")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
