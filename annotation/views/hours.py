"""When somebody works, from their own page: time zone, time off, working hours."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from annotation.access import taught_campaigns
from annotation.forms.hours import HoursForm, TimeOffForm, ZoneForm
from annotation.models import Teacher
from annotation.services.people import set_time_off, set_time_zone, set_working_hours
from annotation.tasks import replan_all
from annotation.views.mine import own_verb, show_account
from annotation.views.pages import PageRequest, told


@own_verb
def choose_zone(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    form = ZoneForm(request.POST)
    if not form.is_valid():
        return show_account(request, zone_form=form)
    set_time_zone(user=request.user, name=form.cleaned_data["time_zone"])
    messages.success(request, _("Stored. Times and days are those of your time zone now."))
    replan_all(taught_campaigns(request.user))
    return redirect("account")


@own_verb
def take_time_off(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    """Away until the morning of a day; the button that ends it sends no day."""
    if teacher is None:
        return redirect("account")
    if "end" in request.POST:
        set_time_off(teacher=teacher, until=None)
        messages.success(request, _("Welcome back. Comparisons come to you again."))
    else:
        form = TimeOffForm(request.POST)
        if not form.is_valid():
            return show_account(request, time_off_form=form)
        set_time_off(teacher=teacher, until=form.cleaned_data["back_on"])
        messages.success(request, _("Stored. What waited for you goes to others."))
    replan_all(taught_campaigns(request.user))
    return redirect("account")


@own_verb
def choose_hours(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    if teacher is None:
        return redirect("account")
    form = HoursForm({} if "clear" in request.POST else request.POST, hours=[])
    if not form.is_valid() or not told(
        request, lambda: set_working_hours(teacher=teacher, hours=form.hours()), _("Your working hours are stored.")
    ):
        return show_account(request, hours_form=form)
    replan_all(taught_campaigns(request.user))
    return redirect("account")
