from django.apps import AppConfig
from django.db.models.signals import post_delete

from annotation.leftovers import forget_files_of


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        from training.models import Generation, Policy, Run
        from training.storage import forget_policy, forget_work

        forget_files_of(self)
        for work in (Run, Generation):
            post_delete.connect(forget_work, sender=work, dispatch_uid=f"folder of {work._meta.label}")
        post_delete.connect(forget_policy, sender=Policy, dispatch_uid="files of a policy")
