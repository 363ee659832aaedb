"""What a run learns from: frozen plain rows and arrays, kept in a folder as JSON and safetensors."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from activelearning.algorithms.features import Projection
from activelearning.algorithms.pessimism import ConfidenceSet, reference_feature
from activelearning.algorithms.types import Floats

Message = dict[str, str]
Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Preference:
    """One label: of two responses to a prompt, which one a teacher chose.

    conversation       any string; the same for all comparisons of a prompt, and the key of its candidates
    prompt             messages {"role", "content"} before the response
    chosen, rejected   messages of the two responses; in a tie, either way round
    chosen_features    (d,)  phi of the chosen response (projected)
    rejected_features  (d,)
    rationality        rho of the teacher who labelled, > 0
    target             probability with which "chosen" counts as preferred: 1, and 1/2 for a tie
    weight             observation weight: 1, less for implied comparisons of a ranking
    label              any string, the same for all that a ranking implies; "" where the row is a label of its own
    """

    conversation: str
    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    chosen_features: Matrix
    rejected_features: Matrix
    rationality: float = 1.0
    target: float = 1.0
    weight: float = 1.0
    label: str = ""


def count_labels(rows: Sequence[Preference]) -> int:
    """A ranking is one, however many comparisons it implies."""
    return len({row.label for row in rows if row.label}) + sum(not row.label for row in rows)


@dataclass(frozen=True)
class Candidates:
    """The given responses to one prompt, among which a policy may choose.

    names        of the k responses, any strings (their ids)
    features     (k, d)  phi of each
    is_held_out  True for a prompt that is there to judge policies: none is trained on it
    """

    conversation: str
    prompt: Sequence[Message]
    responses: Sequence[Sequence[Message]]
    names: Sequence[str]
    features: Matrix
    is_held_out: bool = False


@dataclass(frozen=True)
class TrainingData:
    """Everything of a frozen label set that a run needs.

    preferences  labels to train on; ties and weak teachers included, negative rationality left out
    held_out     labels of conversations that no designed offer and no fit has seen
    candidates   prompts with their given responses: what rerank chooses from, what others are compared on
    theta        (d,)   float64  reward MLE on `preferences`
    information  (d, d) float64  H of the earned labels (M4), ridge included
    ridge        the ridge in H
    projection   encoder vectors to phi; needed to score texts that the run generates, else None
    encoder      what made those vectors, as `TrainingConfig.encoder` names it; "" where nobody said
    references   v per conversation where it is known (mean feature of samples of the reference policy); others take
                 the mean of their candidates, or the midpoint of the two responses
    label_set    digest of the label set
    lineage      ids to keep in the manifest (campaign, estimate, ...)
    """

    preferences: Sequence[Preference]
    candidates: Sequence[Candidates]
    theta: Floats
    information: Floats
    ridge: float
    held_out: Sequence[Preference] = ()
    projection: Projection | None = None
    encoder: str = ""
    references: Mapping[str, Floats] = field(default_factory=dict)
    label_set: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d = self.theta.shape[0]
        for row in (*self.preferences, *self.held_out):
            if row.chosen_features.shape != (d,) or row.rejected_features.shape != (d,):
                raise ValueError(f"a preference of conversation {row.conversation} has features that are not ({d},)")
            if not (row.rationality > 0 and 0 <= row.target <= 1 and row.weight > 0):
                raise ValueError(f"a preference of conversation {row.conversation} has rho, target or weight off range")
        for prompt in self.candidates:
            if not (len(prompt.responses) == len(prompt.names) == prompt.features.shape[0] > 0):
                raise ValueError(f"conversation {prompt.conversation} has unequal numbers of responses and features")
            if prompt.features.shape[1] != d:
                raise ValueError(f"conversation {prompt.conversation} has features that are not of width {d}")
        if self.projection is not None and self.projection.dimensions != d:
            raise ValueError(f"the projection gives {self.projection.dimensions} features, theta has {d}")

    @property
    def training_prompts(self) -> list[Candidates]:
        """The prompts that a policy may be trained on."""
        return [prompt for prompt in self.candidates if not prompt.is_held_out]

    @cached_property
    def reference_features(self) -> dict[str, Floats]:
        """v of every conversation with candidates."""
        means = {prompt.conversation: reference_feature(prompt.features) for prompt in self.candidates}
        return {**means, **self.references}

    def reference_of(self, row: Preference) -> Floats:
        """v of a preference's prompt; the midpoint where nothing better is known."""
        found = self.reference_features.get(row.conversation)
        if found is None:
            found = reference_feature(np.stack([row.chosen_features, row.rejected_features]))
        return found

    def confidence(self, *, delta: float, radius: float | None) -> ConfidenceSet:
        """The confidence set (M11) around theta; radius None computes it from delta."""
        if radius is None:
            return ConfidenceSet.at_level(self.theta, self.information, ridge=self.ridge, delta=delta)
        return ConfidenceSet(theta=self.theta, information=self.information, radius=radius)

    def digest(self) -> str:
        """sha256 of all of it: what a checkpoint must have been trained on to be resumed."""
        rows, arrays = _pack(self)
        sha = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())
        for name in sorted(arrays):
            sha.update(name.encode() + str(arrays[name].shape).encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return sha.hexdigest()

    def save(self, folder: Path) -> None:
        """Write data.json and arrays.safetensors, for a child process to read."""
        rows, arrays = _pack(self)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(arrays, folder / "arrays.safetensors")
        (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TrainingData":
        rows = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        return _unpack(rows, load_file(folder / "arrays.safetensors"))


def _pack(data: TrainingData) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    d = data.theta.shape[0]
    arrays: dict[str, NDArray[Any]] = {
        "theta": np.ascontiguousarray(data.theta),
        "information": np.ascontiguousarray(data.information),
        "candidates": np.concatenate([np.zeros((0, d)), *[prompt.features for prompt in data.candidates]]),
        "references": np.stack([np.zeros(d), *data.references.values()]),
    }
    for name, rows in (("preferences", data.preferences), ("held_out", data.held_out)):
        arrays[f"{name}.chosen"] = np.stack([np.zeros(d), *[row.chosen_features for row in rows]])
        arrays[f"{name}.rejected"] = np.stack([np.zeros(d), *[row.rejected_features for row in rows]])
    if data.projection is not None:
        arrays |= {f"projection.{name}": array for name, array in data.projection.arrays().items()}
    packed = {
        "ridge": data.ridge,
        "label_set": data.label_set,
        "encoder": data.encoder,
        "lineage": dict(data.lineage),
        "references": list(data.references),
        "preferences": [_row(row) for row in data.preferences],
        "held_out": [_row(row) for row in data.held_out],
        "candidates": [_prompt(prompt) for prompt in data.candidates],
    }
    return packed, arrays


def _prompt(prompt: Candidates) -> dict[str, Any]:
    packed: dict[str, Any] = {
        "conversation": prompt.conversation,
        "prompt": list(prompt.prompt),
        "responses": [list(response) for response in prompt.responses],
        "names": list(prompt.names),
    }
    if prompt.is_held_out:  # a key that is not there keeps the digest of data that hold nothing out
        packed["is_held_out"] = True
    return packed


def _row(row: Preference) -> dict[str, Any]:
    packed: dict[str, Any] = {
        "conversation": row.conversation,
        "prompt": list(row.prompt),
        "chosen": list(row.chosen),
        "rejected": list(row.rejected),
        "rationality": float(row.rationality),
        "target": float(row.target),
        "weight": float(row.weight),
    }
    if row.label:  # a key that is not there keeps the digest of data that name none
        packed["label"] = row.label
    return packed


def _unpack(packed: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> TrainingData:
    def preferences(name: str) -> list[Preference]:
        chosen, rejected = arrays[f"{name}.chosen"][1:], arrays[f"{name}.rejected"][1:]
        return [
            Preference(**row, chosen_features=chosen[index], rejected_features=rejected[index])
            for index, row in enumerate(packed[name])
        ]

    candidates, start = [], 0
    for prompt in packed["candidates"]:
        stop = start + len(prompt["responses"])
        candidates.append(Candidates(**prompt, features=arrays["candidates"][start:stop]))
        start = stop
    projection = None
    if "projection.mean" in arrays:
        projection = Projection(**{name: arrays[f"projection.{name}"] for name in ("mean", "components", "explained")})
    return TrainingData(
        preferences=preferences("preferences"),
        held_out=preferences("held_out"),
        candidates=candidates,
        theta=arrays["theta"],
        information=arrays["information"],
        ridge=packed["ridge"],
        projection=projection,
        encoder=packed["encoder"],
        references=dict(zip(packed["references"], arrays["references"][1:], strict=True)),
        label_set=packed["label_set"],
        lineage=packed["lineage"],
    )
