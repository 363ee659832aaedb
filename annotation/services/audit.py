"""The audit trail: who did what to what, added and never changed."""

from typing import Any

from annotation.models import AuditEntry, Campaign, User


def record_audit(
    *,
    user: User | None,
    verb: str,
    object: str,
    campaign: Campaign | None = None,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """One line for good. No user is the platform itself. The caller is in the transaction of what was done."""
    return AuditEntry.objects.create(
        campaign=campaign, user=user, verb=verb, object=object[:200], details=details or {}
    )
