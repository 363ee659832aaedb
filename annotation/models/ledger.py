"""Pay, by double entry: every movement is two entries that add up to nothing."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.campaigns import Campaign
from annotation.models.offers import Label
from annotation.models.people import Teacher


class LedgerEntry(models.Model):
    """One side of a movement. Entries are added, never changed: a correction is another movement."""

    class Account(models.TextChoices):
        CAMPAIGN = "campaign", _("Campaign's budget")
        TEACHER = "teacher", _("Owed to the teacher")
        PAID = "paid", _("Paid out")

    movement = models.UUIDField()
    account = models.CharField(max_length=16, choices=Account)
    campaign = models.ForeignKey(Campaign, on_delete=models.SET_NULL, null=True, related_name="ledger")
    """Null once the campaign was deleted: money that moved stays on the books."""
    teacher = models.ForeignKey(Teacher, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger")
    label = models.ForeignKey(Label, on_delete=models.SET_NULL, null=True, blank=True, related_name="ledger")
    amount = models.DecimalField(max_digits=12, decimal_places=4)
    """Positive into the account, negative out of it."""
    currency = models.CharField(max_length=3, default="EUR")
    memo = models.CharField(max_length=255, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["movement", "account"], name="ledger_two_sides"),
            models.CheckConstraint(condition=~Q(amount=0), name="ledger_moves_something"),
        ]
        indexes = [models.Index(fields=["campaign", "id"]), models.Index(fields=["teacher", "id"])]
