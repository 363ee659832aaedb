"""The site's own back room: for looking. What changes labels, offers or money goes through the services."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest, HttpResponseBase

from annotation.access import lacks_second_factor
from annotation.models import AuditEntry, Campaign, LedgerEntry, Pool, Teacher, User
from annotation.views.pages import lead_to_second_factor

# One door: Django's own sign-in has no limit on attempts and asks for no second factor.
sign_in, may_enter = secure_admin_login(admin.site.login), admin.site.has_permission


def enter(request: HttpRequest, **context: Any) -> HttpResponseBase:
    """Where Django's admin sends whoever may not see a page of it."""
    return lead_to_second_factor(request) if lacks_second_factor(request.user) else sign_in(request, **context)


def has_permission(request: HttpRequest) -> bool:
    return may_enter(request) and not lacks_second_factor(request.user)


admin.site.login, admin.site.has_permission = enter, has_permission  # type: ignore[method-assign, assignment]
admin.site.register(User, UserAdmin)


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list to look at: nothing is added, changed or deleted here."""

    show_full_result_count = False  # counting a million rows makes the page slow
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Campaign)
class CampaignAdmin(ReadOnly):
    list_display = (
        "name",
        "state",
        "conversation_count",
        "comparison_count",
        "label_count",
        "spent",
        "budget",
        "currency",
    )
    search_fields = ("name",)


@admin.register(Pool)
class PoolAdmin(ReadOnly):
    list_display = ("name", "pay_per_label", "pay_per_hour", "currency", "terms_version")
    search_fields = ("name",)


@admin.register(Teacher)
class TeacherAdmin(ReadOnly):
    list_display = ("pseudonym", "kind", "last_seen", "withdrawn_at")
    search_fields = ("pseudonym",)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    list_display = ("id", "account", "teacher", "amount", "currency", "memo", "created_at")
    list_select_related = ("teacher",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = ("created_at", "user", "verb", "object", "campaign")
    list_select_related = ("user", "campaign")
