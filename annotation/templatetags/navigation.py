"""What the head of every page needs to know about who is signed in."""

from django import template
from django.conf import settings

from annotation.access import AnyUser, visible_campaigns

register = template.Library()


@register.simple_tag
def has_provider() -> bool:
    """Whether somebody may sign in through an identity provider."""
    return bool(settings.SOCIALACCOUNT_PROVIDERS)


@register.filter
def helps_to_run(user: AnyUser) -> bool:
    """Whether the pages of campaigns and pools are of any use to this user."""
    return user.is_staff or visible_campaigns(user).exists()
