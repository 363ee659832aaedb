"""How people get an account: by invitation only."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """allauth's adapter, closed to strangers: an account is opened through an invitation's page."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
