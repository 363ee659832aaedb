"""What the counter says no to: every refusal is a sentence that tells the user what to do."""

from django.utils.translation import gettext as _


class Refusal(Exception):
    """A rule said no. `str()` is the sentence for the user; nothing was written."""

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or self.sentence())

    @classmethod
    def sentence(cls) -> str:
        return _("This is not possible now. Reload the page and try again.")


class OfferLapsed(Refusal):
    """The lease ended and the answer may no longer be taken."""

    @classmethod
    def sentence(cls) -> str:
        return _("The time for this comparison was over, so your answer was not taken. Go on with the next one.")


class OfferNotHeld(Refusal):
    """The offer is not with the teacher: still queued, skipped or withdrawn."""

    @classmethod
    def sentence(cls) -> str:
        return _("This comparison is no longer with you. Go on with the next one.")


class LessonNotSkipped(Refusal):
    """Somebody who is still learning wants to pass over a lesson."""

    @classmethod
    def sentence(cls) -> str:
        return _("Lessons are not skipped. Answer as well as you can, or write to the admins if something is wrong.")


class AlreadyLabelled(Refusal):
    """Another answer was already taken for this offer."""

    @classmethod
    def sentence(cls) -> str:
        return _("You have already answered this comparison differently. Open your history to change the answer.")


class BudgetSpent(Refusal):
    """The campaign's money does not cover it."""

    @classmethod
    def sentence(cls) -> str:
        return _("The campaign's budget does not cover this. Ask its admin to raise the budget.")


class CurrencyMismatch(Refusal):
    """One budget cannot be spent in two currencies. Its sentence names them: see `budget.check_currency`."""


class CampaignNotOpen(Refusal):
    """The campaign takes no offers or answers in its present state."""

    @classmethod
    def sentence(cls) -> str:
        return _("The campaign is not open. Come back when its admin has opened it.")


class NotAllowed(Refusal):
    """The person may not do this."""

    @classmethod
    def sentence(cls) -> str:
        return _("You may not do this. Ask an admin of the campaign.")


class InvalidAnswer(Refusal):
    """The answer does not fit the question."""

    @classmethod
    def sentence(cls) -> str:
        return _("The answer does not fit the question. Reload the page and answer again.")


class NothingToUndo(Refusal):
    """There is no label that could be taken back."""

    @classmethod
    def sentence(cls) -> str:
        return _("There is no answer of yours to take back.")


class InvitationSpent(Refusal):
    """The invitation is unknown, used up or past its end."""

    @classmethod
    def sentence(cls) -> str:
        return _("This invitation has been used or is over. Ask whoever sent it for a new one.")


class StateRefused(Refusal):
    """A campaign cannot go from its state to the asked one."""
