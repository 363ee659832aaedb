"""What a teacher sends from the desk: answers, skips, messages and settings, checked against the question asked."""

from hashlib import sha256
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.models import Campaign, Label
from annotation.services.notices import LONGEST_MESSAGE
from annotation.shortcuts import LONGEST_KEY, SHORTCUTS, keys_of

CHOICES = tuple(Label.Choice.values)
CRITERION_CHOICES = [
    (Label.Choice.FIRST.value, _("A")),
    (Label.Choice.TIE.value, _("Tie")),
    (Label.Choice.SECOND.value, _("B")),
]


def criteria_asked(campaign: Campaign) -> dict[str, str]:
    """Field -> criterion. A ranking has no A and B that a criterion could compare, so that it asks none.

    A field bears its criterion's digest: what was chosen before an admin changed the list drops out or stays with its
    criterion, and never moves to another.
    """
    if campaign.answer_mode == Campaign.AnswerMode.RANKING:
        return {}
    return {f"criterion-{sha256(name.encode()).hexdigest()[:12]}": name for name in map(str, campaign.criteria)}


class AnswerForm(forms.Form):
    """One answer to one offer.

    A button says `answer`, such as `first:3` or `tie`; a program may send `choice` and `strength` apart. Where the
    campaign ranks, `place-<response id>` says the place of each response, and equal places are a tie.
    """

    answer = forms.CharField(required=False, max_length=16)
    choice = forms.ChoiceField(required=False, choices=Label.Choice.choices)
    strength = forms.IntegerField(required=False, min_value=1, max_value=3)
    reason = forms.CharField(
        required=False,
        max_length=5000,
        label=_("Reason"),
        widget=forms.Textarea(attrs={"rows": 2, "data-draft": "", "dir": "auto"}),
    )
    is_flagged = forms.BooleanField(required=False, label=_("Flag for the admins"))

    def __init__(self, *args: Any, campaign: Campaign, response_ids: list[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaign = campaign
        self.response_ids = response_ids
        self.criteria = criteria_asked(campaign)
        for name, criterion in self.criteria.items():
            self.fields[name] = forms.ChoiceField(
                required=False, label=criterion, choices=CRITERION_CHOICES, widget=forms.RadioSelect
            )

    @property
    def places(self) -> dict[int, str]:
        """Response id -> its place as sent, or as stored; empty where it has none."""
        given = self.data if self.is_bound else self.initial
        return {response_id: str(given.get(f"place-{response_id}", "")) for response_id in self.response_ids}

    @property
    def criteria_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.criteria]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["criteria"] = {criterion: data[name] for name, criterion in self.criteria.items() if data.get(name)}
        data["ranking"] = None
        if self.campaign.answer_mode == Campaign.AnswerMode.RANKING:
            data["ranking"] = self._read_ranking()
            data["choice"] = Label.Choice.TIE  # the service reads the choice from the ranking
            return data
        if data.get("answer"):
            choice, _colon, strength = data["answer"].partition(":")
            data["choice"], data["strength"] = choice, int(strength) if strength in ("1", "2", "3") else None
        if data.get("choice") not in CHOICES:
            raise forms.ValidationError(_("Choose one of the answers."), code="choice")
        if not self.campaign.asks_strength:
            data["strength"] = None
        return data

    def _read_ranking(self) -> list[list[int]]:
        """Tiers of response ids, best first."""
        tiers: dict[int, list[int]] = {}
        for response_id, place in self.places.items():
            if not (
                place.isascii() and place.isdigit() and len(place) < 4 and 1 <= int(place) <= len(self.response_ids)
            ):
                raise forms.ValidationError(_("Give every response a place."), code="ranking")
            tiers.setdefault(int(place), []).append(response_id)
        return [tiers[place] for place in sorted(tiers)]

    @property
    def answer_given(self) -> dict[str, Any]:
        """The arguments of `record_label` and `edit_label`."""
        names = ("choice", "strength", "criteria", "ranking", "reason", "is_flagged")
        return {name: self.cleaned_data[name] for name in names}


class SkipForm(forms.Form):
    reason = forms.CharField(required=False, max_length=500)


class MessageForm(forms.Form):
    """A word to the admins, about a comparison or none."""

    text = forms.CharField(
        max_length=LONGEST_MESSAGE, label=_("Message"), widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"})
    )
    offer = forms.UUIDField(required=False, widget=forms.HiddenInput)


class ShortcutsForm(forms.Form):
    """One key for each shortcut; an empty one switches it off."""

    shortcuts_off = forms.BooleanField(required=False, label=_("Switch all single-key shortcuts off"))

    def __init__(self, *args: Any, preferences: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keys = keys_of({**preferences, "shortcuts_off": False})
        self.fields["shortcuts_off"].initial = bool(preferences.get("shortcuts_off"))
        for shortcut in SHORTCUTS:
            self.fields[shortcut.name] = forms.CharField(
                required=False,
                label=shortcut.title,
                max_length=LONGEST_KEY,
                initial=keys[shortcut.name],
                widget=forms.TextInput(attrs={"data-key-capture": "", "autocomplete": "off", "size": 10}),
            )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        taken: set[str] = set()
        for shortcut in SHORTCUTS:
            key = data.get(shortcut.name, "")
            if key and key.casefold() in taken:  # the page hears no difference between t and T
                self.add_error(shortcut.name, _("This key is already taken by another shortcut."))
            taken.add(key.casefold())
            if key in ("Tab", "Enter", " ", "Escape"):
                self.add_error(shortcut.name, _("Tab, Enter, Space and Escape belong to the browser."))
        return data


def initial_answer(label: Label, *, campaign: Campaign) -> dict[str, Any]:
    """A stored answer as the form's first values, for an edit or after an undo."""
    criteria = {name: label.criteria.get(criterion, "") for name, criterion in criteria_asked(campaign).items()}
    places = {f"place-{one}": place for place, tier in enumerate(label.ranking or [], start=1) for one in tier}
    return {"reason": label.reason, "is_flagged": label.is_flagged, **criteria, **places}


class OfferForm(forms.Form):
    """Which offer a post speaks of."""

    offer = forms.UUIDField()
