from django.apps import AppConfig

from annotation.leftovers import forget_files_of


class AnnotationConfig(AppConfig):
    name = "annotation"

    def ready(self) -> None:
        forget_files_of(self)
