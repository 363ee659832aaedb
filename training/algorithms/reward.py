"""The reward as a function of text: mean and width, in batches, on the encoder's device.

text -> encoder (bfloat16 on a GPU) -> projection and head (float32, same device) -> (mean, width) to the caller.
The head is two small products after a forward pass of millions of weights: pessimism costs next to nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from activelearning.algorithms.features import Encoder, Message, Projection, render_text
from activelearning.algorithms.pessimism import ConfidenceSet
from activelearning.algorithms.types import Floats
from training.algorithms import artifact


@dataclass(frozen=True)
class Scores:
    """What the reward says of n texts.

    mean    (n,) float64  theta_hat'(phi - v)
    width   (n,) float64  ||phi - v||_{H^{-1}}, before the radius
    radius  what the width is multiplied by
    """

    mean: Floats
    width: Floats
    radius: float

    @property
    def lower(self) -> Floats:
        return self.mean - self.radius * self.width

    @property
    def upper(self) -> Floats:
        return self.mean + self.radius * self.width


class RewardHead(torch.nn.Module):
    """Projection, theta and the factor of H as float32 tensors: (n, D) vectors to (n,) mean and (n,) width.

    The projection and the triangular factor become one matrix, L^{-1} C, so that a width is a product and a norm.
    """

    components: torch.Tensor
    whitened: torch.Tensor
    centre: torch.Tensor
    theta: torch.Tensor
    whitener: torch.Tensor

    def __init__(self, projection: Projection, confidence: ConfidenceSet) -> None:
        super().__init__()
        factor = torch.from_numpy(confidence.factor)
        components = torch.from_numpy(projection.components)
        theta = torch.from_numpy(confidence.theta)
        whitened = torch.linalg.solve_triangular(factor, components, upper=False)
        eye = torch.eye(factor.shape[0], dtype=factor.dtype)
        self.register_buffer("components", torch.cat([theta[None] @ components, whitened]).float())
        self.register_buffer(
            "whitener", torch.cat([theta[None], torch.linalg.solve_triangular(factor, eye, upper=False)]).float()
        )
        self.register_buffer("centre", torch.from_numpy(projection.mean).float())

    def forward(self, vectors: torch.Tensor, references: torch.Tensor | None = None) -> torch.Tensor:
        """vectors (n, D) any float type, references (n, d) or None -> (2, n) float32: mean, width"""
        found = (vectors.float() - self.centre) @ self.components.T  # (n, 1 + d)
        if references is not None:
            found = found - references @ self.whitener.T
        return torch.stack([found[:, 0], torch.linalg.vector_norm(found[:, 1:], dim=1)])


class Reward:
    """Scores texts with mean and width.

    encoder     what made the campaign's features
    projection  encoder vectors to phi
    confidence  theta_hat, H and radius
    """

    def __init__(self, encoder: Encoder, projection: Projection, confidence: ConfidenceSet) -> None:
        self.encoder = encoder
        self.confidence = confidence
        self.head = RewardHead(projection, confidence).to(encoder.device)
        self.projection = projection

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None, encoder: Encoder | None = None) -> "Reward":
        """The reward that a policy was trained on, from its sealed folder.

        raises  artifact.Refused  the folder fails its checksums; ValueError  it holds no projection
        """
        manifest = artifact.verify(folder, kind="policy", digest=digest)
        arrays = load_file(folder / "reward.safetensors")
        if "projection.mean" not in arrays:
            raise ValueError("this policy was trained on features without a projection: it cannot score texts")
        projection = Projection(
            mean=arrays["projection.mean"],
            components=arrays["projection.components"],
            explained=arrays["projection.explained"],
        )
        confidence = ConfidenceSet(arrays["theta"], arrays["information"], float(manifest["radius"]))
        return cls(encoder or Encoder(manifest["config"]["encoder"]), projection, confidence)

    def score(self, texts: Sequence[str], references: NDArray[np.floating[Any]] | None = None) -> Scores:
        """Mean and width of texts, as `render_text` makes them.

        references  (n, d) v of each text's prompt, or (d,) for all. None measures from the pool's mean response: fit
                    for comparing responses of one prompt, but then the width also charges what the prompt itself adds
        """
        radius = self.confidence.radius
        if not texts:
            return Scores(mean=np.zeros(0), width=np.zeros(0), radius=radius)
        v = None
        if references is not None:
            table = np.broadcast_to(np.asarray(references, dtype=np.float32), (len(texts), self.projection.dimensions))
            v = torch.from_numpy(table.copy()).to(self.encoder.device)
        with torch.inference_mode():
            found = self.head(self.encoder.tensors(texts), v).double().cpu().numpy()
        return Scores(mean=found[0], width=found[1], radius=radius)

    def compare(self, prompt: Sequence[Message], responses: Sequence[Sequence[Message]]) -> Scores:
        """Mean and width of the responses to one prompt, measured from their own mean."""
        texts = [render_text([*prompt, *response]) for response in responses]
        vectors = self.encoder.tensors(texts)
        phi = self.projection(vectors.float().cpu().numpy()).astype(np.float64)
        offsets = phi - phi.mean(axis=0)
        return Scores(
            mean=self.confidence.means(offsets), width=self.confidence.widths(offsets), radius=self.confidence.radius
        )
