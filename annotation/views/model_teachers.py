"""Models as teachers of a pool: added by their endpoint, listed, stopped, and let go on."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.forms.model_teachers import ModelTeacherForm
from annotation.models import Membership, Pool, Teacher
from annotation.services.model_teachers import add_model_teacher
from annotation.services.pools import readmit_members, suspend_members
from annotation.tasks import replan_all
from annotation.views.pages import PageRequest, page_of, told
from annotation.views.pools import find_pool

SHOWN = 100


@page_of(find_pool, "GET", "POST", key="pool")
def pool_models(request: PageRequest, pool: Pool) -> HttpResponse:
    form = ModelTeacherForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and told(
        request,
        lambda: add_model_teacher(pool=pool, user=request.user, **form.wishes()),
        _("Added. It is asked as soon as a campaign has something for it."),
    ):
        replan_all(pool.campaigns.all())
        return redirect("pool_models", pool=pool.pk)
    members = pool.memberships.filter(teacher__kind=Teacher.Kind.MODEL).select_related("teacher", "pool")
    context = {"pool": pool, "form": form, "members": members.order_by("-pk")[:SHOWN]}
    return render(request, "annotation/pool_models.html", context)


@page_of(find_pool, "POST", key="pool")
def pool_model(request: PageRequest, pool: Pool, model: UUID) -> HttpResponse:
    """Stopped or going on, as the button said, so that a double click is one click."""
    member = get_object_or_404(Membership, pool=pool, teacher__code=model, teacher__kind=Teacher.Kind.MODEL)
    if request.POST.get("to") == "on":
        readmit_members(memberships=[member], user=request.user)
        messages.success(request, _("It is asked again."))
    else:
        suspend_members(memberships=[member], user=request.user)
        messages.success(request, _("It is asked no more. Its labels stay, and what waited for it goes to others."))
    replan_all(pool.campaigns.all())
    return redirect("pool_models", pool=pool.pk)
