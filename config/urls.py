"""Which room answers which URL."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("annotation.urls")),
    path("", include("activelearning.urls")),
    path("", include("training.urls")),
    path("account/", include("allauth.urls")),
    path("site-admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
]
