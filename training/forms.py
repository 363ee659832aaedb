"""Forms of the researcher's pages: what a run is told, when one starts, what is asked of a policy or of the reward."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.model_names import check_model_name
from annotation.models import Campaign
from training.algorithms.config import TrainingConfig
from training.models import LabelSet, Method, Policy, StartRule

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

TINY = "tiny"
CHOOSING = (Method.RERANK, Method.BEST_OF_N)
"""Their policies choose among given responses, and have no model to start from."""
MOST_STEPS = 1_000_000_000
MOST_TOKENS = 1_000_000
LARGEST_SEED = 2**31 - 1
"""Of the database's integers, and far below what generators take."""
LEARNING_RATES = {"tiny": 5e-4, "lora": 1e-4, "full": 5e-6}


class SeedField(forms.IntegerField):
    def __init__(self) -> None:
        super().__init__(label=_("Seed"), initial=0, min_value=0, max_value=LARGEST_SEED)


class MinutesField(forms.FloatField):
    """A time limit; empty is none, or the one before."""

    def __init__(self, *, help_text: "_StrPromise") -> None:
        super().__init__(label=_("Time limit in minutes"), required=False, min_value=0, help_text=help_text)


class ConfigForm(forms.Form):
    """The settings of a run, with defaults that work: an empty field takes the default that fits the others."""

    method = forms.ChoiceField(label=_("Method"), choices=Method, initial=Method.RERANK)
    base_model = forms.CharField(
        label=_("Base model"),
        initial=TINY,
        max_length=300,
        help_text=_(
            "“tiny” is a small untrained model made on the spot, to try the loop anywhere. Or a hub id such as "
            "Qwen/Qwen3-0.6B, or a folder below the server's MODEL_FOLDER. Rerank needs none."
        ),
    )
    delta = forms.FloatField(
        label=_("Level of the confidence set"),
        initial=0.1,
        min_value=0.0001,
        max_value=0.9999,
        help_text=_("The set misses the true reward with at most this probability, asymptotically."),
    )
    radius = forms.FloatField(
        label=_("Radius by hand"),
        required=False,
        min_value=0,
        help_text=_("Instead of the level. 0 is the plain, greedy method."),
    )
    kl_weight = forms.FloatField(
        label=_("Price of leaving the reference"),
        initial=0.1,
        min_value=1e-6,
        help_text=_("DPO's temperature: larger stays closer to the base model."),
    )
    lora_rank = forms.IntegerField(
        label=_("LoRA rank"), initial=0, min_value=0, max_value=1024, help_text=_("0 trains every weight.")
    )
    max_steps = forms.IntegerField(
        label=_("Steps"),
        required=False,
        min_value=1,
        max_value=MOST_STEPS,
        help_text=_("Empty: one pass over the labels."),
    )
    batch_size = forms.IntegerField(label=_("Batch"), initial=8, min_value=1, max_value=4096)
    accumulation = forms.IntegerField(
        label=_("Batches to a step"), initial=1, min_value=1, max_value=4096, help_text=_("Gradients are added up.")
    )
    learning_rate = forms.FloatField(
        label=_("Learning rate"),
        required=False,
        min_value=1e-12,
        help_text=_("Empty: 5e-4 for tiny, 1e-4 with LoRA, else 5e-6."),
    )
    max_length = forms.IntegerField(
        label=_("Tokens"),
        initial=1024,
        min_value=16,
        max_value=MOST_TOKENS,
        help_text=_("Of prompt and response together; the byte-level tokenizer of “tiny” has one for each character."),
    )
    max_new_tokens = forms.IntegerField(
        label=_("Tokens of a generated response"), initial=64, min_value=1, max_value=MOST_TOKENS
    )
    samples = forms.IntegerField(
        label=_("Samples of a prompt"),
        initial=4,
        min_value=2,
        max_value=64,
        help_text=_("Where responses are generated."),
    )
    reference_samples = forms.IntegerField(
        label=_("Samples for the reference point"),
        initial=0,
        required=False,
        min_value=0,
        max_value=64,
        help_text=_(
            "Uncertainty is measured from a point of each prompt. 0: the mean of its responses; with two responses "
            "both lie equally far from it, and pessimism is silent. 2 or more: the mean of so many samples of the "
            "base model."
        ),
    )
    evaluation_prompts = forms.IntegerField(
        label=_("Prompts to evaluate on"),
        initial=8,
        min_value=0,
        max_value=10_000,
        help_text=_("On each, policy and reference are sampled and compared."),
    )
    gradient_checkpointing = forms.BooleanField(
        label=_("Recompute activations: less memory, a fifth more time"), required=False
    )
    memory_limit_gib = forms.FloatField(
        label=_("GPU memory limit in GiB"), required=False, min_value=0, help_text=_("Empty: all of it.")
    )
    parallel = forms.ChoiceField(
        label=_("With several GPUs"),
        choices=[("ddp", _("A whole copy of the model on each (DDP)")), ("fsdp", _("The model in shards (FSDP)"))],
        initial="ddp",
        required=False,
        help_text=_(
            "Shards are for models that do not fit on one GPU. They need a worker with several: with one the run ends "
            "at once and says so."
        ),
    )
    time_limit_minutes = MinutesField(help_text=_("Empty: no limit."))
    seed = SeedField()

    def clean_base_model(self) -> str:
        return check_model_name(self.cleaned_data["base_model"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["config"] = self._config(cleaned)
            except ValueError as error:
                raise forms.ValidationError(_("These settings do not go together: %s.") % error) from error
        return cleaned

    @property
    def config(self) -> TrainingConfig:
        config: TrainingConfig = self.cleaned_data["config"]
        return config

    def _config(self, cleaned: dict[str, Any]) -> TrainingConfig:
        kind = "lora" if cleaned["lora_rank"] else "full"
        if cleaned["base_model"] == TINY:
            kind = "tiny"
        return TrainingConfig(
            method=cleaned["method"],
            base_model=cleaned["base_model"],
            delta=cleaned["delta"],
            radius=cleaned["radius"],
            kl_weight=cleaned["kl_weight"],
            lora_rank=cleaned["lora_rank"],
            max_steps=cleaned["max_steps"] or 0,
            batch_size=cleaned["batch_size"],
            accumulation=cleaned["accumulation"],
            samples=cleaned["samples"],
            reference_samples=cleaned["reference_samples"] or 0,
            parallel=cleaned["parallel"] or "ddp",
            evaluation_prompts=cleaned["evaluation_prompts"],
            gradient_checkpointing=cleaned["gradient_checkpointing"],
            memory_limit_gib=cleaned["memory_limit_gib"] or 0.0,
            learning_rate=cleaned["learning_rate"] or LEARNING_RATES[kind],
            max_length=cleaned["max_length"],
            max_new_tokens=cleaned["max_new_tokens"],
            time_limit_seconds=(cleaned["time_limit_minutes"] or 0) * 60,
            seed=cleaned["seed"],
        )


class LabelSetField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.label_count} labels · {obj.created_at:%Y-%m-%d %H:%M} · {obj.short_digest}"


class PolicyField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.run.get_method_display()} · {obj.created_at:%Y-%m-%d %H:%M} · {str(obj.code)[:8]}"


class StartRunForm(ConfigForm):
    """A run by hand."""

    label_set = LabelSetField(
        label=_("Labels"),
        queryset=LabelSet.objects.none(),
        required=False,
        empty_label=_("All current labels, frozen when the run begins"),
    )
    parent = PolicyField(
        label=_("Start from"),
        queryset=Policy.objects.none(),
        required=False,
        empty_label=_("The base model"),
        help_text=_("Or from a policy of an earlier run, in place of the base model."),
    )
    is_forced = forms.BooleanField(
        label=_("Train even if some directions of the reward are barely labelled"), required=False
    )

    def __init__(self, *args: Any, campaign: Campaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, rows in (
            ("label_set", LabelSet.objects.filter(campaign=campaign, label_count__gt=0)),
            (
                "parent",
                Policy.objects.filter(campaign=campaign, is_flagged=False)
                .exclude(run__method__in=CHOOSING)
                .select_related("run"),
            ),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = rows

    def _config(self, cleaned: dict[str, Any]) -> TrainingConfig:
        """What starts from a policy has that policy's base model, and the learning rate that fits it."""
        if cleaned["parent"] is not None:
            cleaned = {**cleaned, "base_model": cleaned["parent"].run.config["base_model"]}
        return super()._config(cleaned)


class RuleForm(ConfigForm):
    """A run that starts by itself."""

    kind = forms.ChoiceField(label=_("Start"), choices=StartRule.Kind.choices)
    threshold = forms.FloatField(label=_("Threshold"), min_value=1e-9)
    field_order = ["kind", "threshold", "method", "base_model"]


class GenerateForm(forms.Form):
    """New responses by a policy."""

    prompts = forms.IntegerField(label=_("Prompts"), initial=20, min_value=1, max_value=100_000)
    samples = forms.IntegerField(label=_("Responses to each"), initial=2, min_value=1, max_value=8)
    seed = SeedField()


class ResumeForm(forms.Form):
    time_limit_minutes = MinutesField(help_text=_("Empty: as before."))


class RewardForm(forms.Form):
    """What does the reward say of these texts?"""

    prompt = forms.CharField(label=_("Prompt"), widget=forms.Textarea(attrs={"rows": 4}), max_length=20_000)
    first = forms.CharField(label=_("First response"), widget=forms.Textarea(attrs={"rows": 6}), max_length=20_000)
    second = forms.CharField(label=_("Second response"), widget=forms.Textarea(attrs={"rows": 6}), max_length=20_000)
    third = forms.CharField(
        label=_("Third response"), widget=forms.Textarea(attrs={"rows": 4}), max_length=20_000, required=False
    )

    @property
    def responses(self) -> list[str]:
        return [self.cleaned_data[name] for name in ("first", "second", "third") if self.cleaned_data[name]]
