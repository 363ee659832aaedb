"""The Celery application: queues `default` (imports, embedding), `plan` (refit, select) and `gpu` (training)."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from config.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tutelage")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def follow_the_worker(**signal: Any) -> None:
    """A pool's process must not outlive its worker: the supervisor would start a second one beside it."""
    die_with_parent()
