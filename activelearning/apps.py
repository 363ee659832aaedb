from django.apps import AppConfig


class ActivelearningConfig(AppConfig):
    name = "activelearning"
