"""Which view answers which URL: the desk for teachers, campaigns and pools for staff."""

from django.urls import URLPattern, path

from annotation.views import campaigns, desk, history, home, imports, mine, onboarding, preferences

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
    path("campaigns/", campaigns.campaigns, name="campaigns"),
    path("campaigns/new/", campaigns.campaign_create, name="campaign_create"),
    path("campaigns/<uuid:code>/", campaigns.campaign, name="campaign"),
    path("campaigns/<uuid:code>/state/", campaigns.campaign_state, name="campaign_state"),
    path("campaigns/<uuid:code>/settings/", campaigns.campaign_settings, name="campaign_settings"),
    path("campaigns/<uuid:code>/guidelines/", campaigns.campaign_guidelines, name="campaign_guidelines"),
    path("campaigns/<uuid:code>/clone/", campaigns.campaign_clone, name="campaign_clone"),
    path("campaigns/<uuid:code>/delete/", campaigns.campaign_delete, name="campaign_delete"),
    path("campaigns/<uuid:code>/import/", imports.campaign_imports, name="campaign_imports"),
    path("campaigns/<uuid:code>/import/<uuid:job>/", imports.campaign_import, name="campaign_import"),
    path("campaigns/<uuid:code>/judgements/", imports.campaign_judgements, name="campaign_judgements"),
]
