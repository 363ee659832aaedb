"""What lies in the storage without a row that names it."""

from django.db import models
from django.utils import timezone


class Leftover(models.Model):
    """A file that is about to get its row, or has lost it; see `annotation.leftovers`."""

    name = models.CharField(max_length=512, unique=True)
    since = models.DateTimeField(default=timezone.now, db_index=True)
