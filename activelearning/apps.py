from django.apps import AppConfig

from annotation.leftovers import forget_files_of


class ActivelearningConfig(AppConfig):
    name = "activelearning"

    def ready(self) -> None:
        forget_files_of(self)
