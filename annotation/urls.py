"""Which view answers which URL: the desk for teachers, campaigns and pools for staff."""

from django.urls import URLPattern, path

from annotation.views import preferences

urlpatterns: list[URLPattern] = [
    path("theme/", preferences.choose_theme, name="theme"),
]
