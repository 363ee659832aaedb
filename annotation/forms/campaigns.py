"""Forms of a campaign: its making, its settings, its guidelines, its deletion."""

from typing import Any

from django import forms
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from annotation.access import visible_pools
from annotation.model_names import check_model_name
from annotation.models import Campaign, Pool, User

STRATEGIES = [
    ("dual", _("Dual D-optimal: the most informative comparison and teacher")),
    ("conversation_only", _("D-optimal comparison, any teacher")),
    ("teacher_only", _("Any comparison, the most informative teacher")),
    ("best_teacher", _("D-optimal comparison, the most rational teacher")),
    ("uncertainty", _("The comparison whose outcome is least certain")),
    ("apo", _("APO: the widest comparison, any teacher")),
    ("delta_ucb", _("DeltaUCB over the responses of a prompt")),
    ("infomax", _("InfoMax over the responses of a prompt")),
    ("double_thompson", _("Double Thompson sampling")),
    ("drts", _("Double randomized Thompson sampling")),
    ("uniform", _("Uniform: any comparison, any teacher")),
]


class ShortText(forms.Textarea):
    """A few lines."""

    def __init__(self) -> None:
        super().__init__(attrs={"rows": 3})


class LinesField(forms.CharField):
    """A list of words, one a line."""

    widget = ShortText

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        lines = [line.strip() for line in (super().clean(value) or "").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))


class WarningsField(forms.CharField):
    """Categories and the warning shown before them, one `category: warning` a line."""

    widget = ShortText

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}: {text}" for name, text in value.items()) if isinstance(value, dict) else value

    def clean(self, value: Any) -> dict[str, str]:
        warnings = {}
        for line in filter(None, map(str.strip, (super().clean(value) or "").splitlines())):
            category, colon, text = line.partition(":")
            if not colon or not text.strip():
                raise forms.ValidationError(_("Write “category: warning”, one a line."))
            warnings[category.strip()] = text.strip()
        return warnings


class PoolsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Pools to draw on: those that the user runs, which `offer_pools` fills in."""

    def __init__(self) -> None:
        super().__init__(
            queryset=Pool.objects.none(), label=_("Pools"), required=False, widget=forms.CheckboxSelectMultiple
        )


class CurrencyField(forms.CharField):
    """A currency by its three letters."""

    default_validators = [RegexValidator(r"^[A-Z]{3}$", _("Write the three letters of the currency, such as EUR."))]

    def __init__(self) -> None:
        super().__init__(label=_("Currency"), initial="EUR", help_text=_("Three letters, such as EUR."))

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).upper()


def offer_pools(form: forms.BaseForm, user: User) -> None:
    field = form.fields["pools"]
    assert isinstance(field, forms.ModelMultipleChoiceField)
    field.queryset = visible_pools(user).order_by("name")


class NewCampaignForm(forms.Form):
    """The least that a campaign begins with; everything else has a default."""

    name = forms.CharField(label=_("Name"), max_length=120)
    description = forms.CharField(
        label=_("Description"), required=False, help_text=_("Teachers see it on their first page.")
    )
    guidelines = forms.CharField(
        label=_("Guidelines"),
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text=_("What makes a response better. Markdown; you can change them later, as a new version."),
    )
    pools = PoolsField()

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_pools(self, user)


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]
    """Everything that an admin may set, within the bounds that the model has."""

    strategy = forms.ChoiceField(label=_("Strategy"), choices=STRATEGIES)
    criteria = LinesField(
        label=_("Criteria"),
        required=False,
        help_text=_("Asked beside the overall choice, one a line: helpful, honest …"),
    )
    content_warnings = WarningsField(
        label=_("Content warnings"), required=False, help_text=_("One “category: warning” a line.")
    )
    pools = PoolsField()
    currency = CurrencyField()

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_pools(self, user)

    def clean_encoder(self) -> str:
        return check_model_name(self.cleaned_data["encoder"])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("answer_mode") == Campaign.AnswerMode.RANKING and data.get("criteria"):
            self.add_error(
                "criteria", _("A ranking has no A and B that a criterion could compare. Empty this, or ask for pairs.")
            )
        return data

    class Meta:
        model = Campaign
        fields = (
            "name", "description", "pools",
            "answer_mode", "asks_strength", "criteria", "content_warnings",
            "strategy", "rationality_mode", "encoder", "dimensions", "ridge",
            "control_share", "repeat_share", "gold_share", "overlap_limit", "queue_depth",
            "qualification_size", "qualification_pass", "holdout_share",
            "lease_seconds", "late_policy", "label_target", "budget", "currency",
            "reviews_disagreements", "reviews_flags",
        )  # fmt: skip
        widgets = {"description": forms.TextInput, "encoder": forms.TextInput}
        labels = {
            "description": _("Description"),
            "answer_mode": _("Answer mode"),
            "asks_strength": _("Ask how much better"),
            "encoder": _("Encoder"),
            "dimensions": _("Dimensions"),
            "ridge": _("Ridge"),
            "budget": _("Budget"),
            "control_share": _("Share of control offers"),
            "repeat_share": _("Share of repeats"),
            "gold_share": _("Share of gold offers"),
            "qualification_size": _("Gold comparisons before work"),
            "qualification_pass": _("Share that must be right"),
            "holdout_share": _("Share held out"),
            "overlap_limit": _("Judgements of one comparison"),
            "queue_depth": _("Offers waiting for each teacher"),
            "lease_seconds": _("Seconds to answer"),
            "late_policy": _("Late answers"),
            "label_target": _("Labels wanted"),
            "rationality_mode": _("Teachers' rationality"),
            "reviews_disagreements": _("Review what teachers disagree about"),
            "reviews_flags": _("Review what a teacher flagged"),
        }
        help_texts = {
            "encoder": _(
                "default is the MiniLM that is installed; or a hub id, or a folder below the server's MODEL_FOLDER."
            ),
            "dimensions": _("Hundreds of labels carry about 32; thousands carry more."),
            "ridge": _("Empty: chosen from the estimate."),
            "control_share": _("Drawn uniformly, to measure accuracy without bias. 0.1 is one in ten."),
            "repeat_share": _("The same comparison again, mirrored, to measure each teacher's consistency."),
            "gold_share": _("Comparisons with a known answer, which look like any other."),
            "qualification_size": _("A new teacher answers so many first. 0: no qualification."),
            "qualification_pass": _("Of these, from 0 to 1."),
            "holdout_share": _("Of the prompts imported from now on: never asked by design, kept to judge policies."),
            "overlap_limit": _("By different teachers. More of them means fewer comparisons asked."),
            "queue_depth": _("Short queues choose with the newest estimate; long ones survive a slow worker."),
            "lease_seconds": _("From the moment a comparison is shown. Then it goes to somebody else."),
            "label_target": _("Empty: no end."),
            "reviews_disagreements": _("Comparisons whose labels prefer different sides wait for a reviewer."),
            "reviews_flags": _("A decision stands beside the labels in exports. It changes none, and enters no fit."),
            "budget": _("Never exceeded, offers in flight counted. Empty: no limit."),
        }


class GuidelinesForm(forms.Form):
    text = forms.CharField(label=_("Guidelines"), widget=forms.Textarea(attrs={"rows": 14}))


class CloneForm(forms.Form):
    name = forms.CharField(label=_("Name of the copy"), max_length=120)
    with_conversations = forms.BooleanField(label=_("With its conversations"), required=False)


class UploadForm(forms.Form):
    file = forms.FileField(label=_("File"), help_text=_("JSON lines (also .gz), JSON or Parquet, in any known format."))
