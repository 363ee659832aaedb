"""Run in Label Studio's own environment by benchmarks.platform_load: users, tokens and a project with the same data.

python label_studio_setup.py CONVERSATIONS.json TEACHERS        prints {"project": id, "tokens": […]}
"""
# mypy: ignore-errors

import json
import os
import sys
from pathlib import Path


def main() -> None:
    conversations, teachers = Path(sys.argv[1]), int(sys.argv[2])
    import label_studio

    sys.path.insert(0, os.path.dirname(label_studio.__file__))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings.label_studio")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from organizations.models import Organization
    from projects.models import Project
    from rest_framework.authtoken.models import Token
    from tasks.models import Task
    from users.models import User

    users = [
        User.objects.create_user(email=f"teacher{n}@example.org", username=f"teacher{n}", password="a long password")
        for n in range(teachers)
    ]
    organization = Organization.create_organization(created_by=users[0], title="The pool")
    for user in users:
        if not organization.has_user(user):
            organization.add_user(user)
        user.active_organization = organization
        user.save()
    config = (
        '<View><Text name="prompt" value="$prompt"/><Pairwise name="choice" toName="a,b"/>'
        '<Text name="a" value="$a"/><Text name="b" value="$b"/></View>'
    )
    project = Project.objects.create(
        title="Helpful answers", label_config=config, organization=organization, created_by=users[0],
        maximum_annotations=1,
    )  # fmt: skip
    rows = json.loads(conversations.read_text())
    Task.objects.bulk_create(
        [Task(data=row, project=project, inner_id=n + 1, overlap=1) for n, row in enumerate(rows)], batch_size=1000
    )
    project.update_tasks_counters_and_is_labeled(list(project.tasks.values_list("id", flat=True)))
    tokens = [Token.objects.get_or_create(user=user)[0].key for user in users]
    print(json.dumps({"project": project.pk, "tokens": tokens}))


if __name__ == "__main__":
    main()
