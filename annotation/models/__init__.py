"""People, campaigns, conversations, offers, labels and money: the rows of the counter where teachers stand."""

from annotation.models.campaigns import Campaign, GuidelineVersion, Role
from annotation.models.conversations import (
    Adoption,
    Comparison,
    Conversation,
    ImportJob,
    ImportProblem,
    RecordedJudgement,
    Response,
)
from annotation.models.ledger import LedgerEntry
from annotation.models.leftovers import Leftover
from annotation.models.notices import AuditEntry, Message, Notice, Webhook, WebhookDelivery
from annotation.models.offers import Label, Offer
from annotation.models.people import (
    Enrolment,
    Invitation,
    InvitationLetter,
    Membership,
    Pool,
    Teacher,
    User,
)
from annotation.models.reviews import Adjudication, Review

__all__ = [
    "Adjudication",
    "Adoption",
    "AuditEntry",
    "Campaign",
    "Comparison",
    "Conversation",
    "Enrolment",
    "GuidelineVersion",
    "ImportJob",
    "ImportProblem",
    "Invitation",
    "InvitationLetter",
    "Label",
    "LedgerEntry",
    "Leftover",
    "Membership",
    "Message",
    "Notice",
    "Offer",
    "Pool",
    "RecordedJudgement",
    "Response",
    "Review",
    "Role",
    "Teacher",
    "User",
    "Webhook",
    "WebhookDelivery",
]
