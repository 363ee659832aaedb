"""The front door: settings, URLs, Celery and the embedded start."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
