"""Which view answers which URL: the desk for teachers, campaigns and pools for staff."""

from django.urls import URLPattern, path

from annotation.views import desk, history, home, mine, onboarding, preferences

urlpatterns: list[URLPattern] = [
    path("", home.home, name="home"),
    path("theme/", preferences.choose_theme, name="theme"),
    path("me/", mine.account, name="account"),
    path("me/data.json", mine.data, name="account_data"),
    path("me/warnings/", mine.allow_warnings, name="account_warnings"),
    path("desk/<uuid:code>/", desk.show, name="desk"),
    path("desk/<uuid:code>/answer/", desk.answer, name="desk_answer"),
    path("desk/<uuid:code>/skip/", desk.skip, name="desk_skip"),
    path("desk/<uuid:code>/undo/", desk.undo, name="desk_undo"),
    path("desk/<uuid:code>/next/", desk.peek, name="desk_next"),
    path("desk/<uuid:code>/messages/", desk.tell, name="desk_messages"),
    path("desk/<uuid:code>/guidelines/", desk.guidelines, name="desk_guidelines"),
    path("desk/<uuid:code>/guidelines/read/", onboarding.confirm_guidelines, name="desk_read"),
    path("desk/<uuid:code>/warning/", onboarding.answer_warning, name="desk_warning"),
    path("desk/<uuid:code>/hide/", onboarding.hide_texts, name="desk_hide"),
    path("desk/<uuid:code>/shortcuts/", onboarding.shortcuts, name="desk_shortcuts"),
    path("desk/<uuid:code>/history/", history.history, name="desk_history"),
    path("desk/<uuid:code>/history/<int:label>/", history.change, name="desk_label"),
    path("desk/<uuid:code>/summary/", history.summary, name="desk_summary"),
]
