"""Text to features: the encoder against plain transformers, the projection against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from activelearning.algorithms.features import (
    Encoder,
    Projection,
    differences,
    render_text,
    resolve_encoder,
    text_digest,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(device="cpu")


def test_messages_become_one_text() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert render_text(messages) == "Human: Hi\n\nAssistant: Hello"
    assert text_digest("Grüße") == text_digest("Grüße") != text_digest("Grusse")
    for broken in ([], [{"role": "user"}]):
        with pytest.raises(ValueError, match="message"):
            render_text(broken)


def test_vectors_are_the_masked_mean_of_length_one_and_the_end_of_a_long_text_stays(encoder: Encoder) -> None:
    from transformers import AutoModel, AutoTokenizer

    path = resolve_encoder("minilm")
    tokenizer, model = AutoTokenizer.from_pretrained(path, truncation_side="left"), AutoModel.from_pretrained(path)
    texts = ["short", "", "start " + "word " * 600 + "the very end"]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    assert tokenizer.decode(batch["input_ids"][2]).endswith("the very end [SEP]")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert np.abs(encoder.encode(texts) - mean).max() < 1e-5


def test_a_vector_does_not_depend_on_its_neighbours_or_on_the_chunk(encoder: Encoder) -> None:
    texts = [f"text {number} " + "and more " * (number % 5) for number in range(23)]
    whole = encoder.encode(texts)
    seen: list[tuple[int, int]] = []
    chunks = list(encoder.chunks(texts, size=7, progress=lambda done, total: seen.append((done, total))))
    assert np.abs(np.concatenate([chunk.features for chunk in chunks]) - whole).max() < 1e-5
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 7), (7, 14), (14, 21), (21, 23)]
    assert seen[-1] == (23, 23)
    resumed = list(encoder.chunks(texts, start=14, size=7))
    assert np.array_equal(resumed[0].features, chunks[2].features)
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_full_device_is_answered_with_smaller_batches(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, tried = encoder._encode, []

    def small(texts: list[str], batch: int) -> torch.Tensor:
        tried.append(batch)
        if batch > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(texts, batch)

    expected = encoder.encode(["one", "two"])
    monkeypatch.setattr(encoder, "_encode", small)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert np.array_equal(encoder.encode(["one", "two"]), expected)
    assert tried == [32, 16, 8]


def test_the_projection_is_scikit_learns_up_to_one_scale_and_signs() -> None:
    rng = np.random.default_rng(0)
    pool = (rng.normal(size=(500, 12)) * np.arange(1, 13)).astype(np.float32)
    ours, theirs = Projection.fit(pool, 4), PCA(4).fit(pool)
    assert ours.kept == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-5)
    a, b = ours(pool), theirs.transform(pool)
    scale = a.std() / b.std()
    assert np.abs(np.abs(a) - np.abs(b) * scale).max() < 1e-3
    assert a.var(axis=0).sum() == pytest.approx(1.0, rel=1e-4)


def test_topics_do_not_take_the_directions_when_conversations_are_known() -> None:
    rng = np.random.default_rng(1)
    conversation = np.repeat(np.arange(200), 3)
    topics = np.zeros((600, 6))
    topics[:, 0] = np.repeat(rng.normal(scale=20, size=200), 3)
    pool = topics + rng.normal(size=(600, 6)) * np.array([0.0, 3.0, 0.1, 0.1, 0.1, 0.1])
    assert abs(Projection.fit(pool, 1).components[0].argmax()) == 0
    within = Projection.fit(pool, 1, conversation=conversation)
    assert np.abs(within.components[0]).argmax() == 1


def test_differences_lose_what_a_prompt_adds() -> None:
    rng = np.random.default_rng(2)
    pool = rng.normal(size=(20, 8))
    projection = Projection.fit(pool, 3)
    first, second = np.array([0, 4]), np.array([1, 5])
    plain = differences(projection(pool), first, second)
    shifted = differences(projection(pool + 5.0), first, second)
    assert plain == pytest.approx(shifted, abs=1e-5)
    assert plain.dtype == np.float32
    assert differences(projection(pool), first, first) == pytest.approx(np.zeros((2, 3)))


def test_a_poor_pool_gives_what_it_has_or_says_why() -> None:
    rng = np.random.default_rng(3)
    flat = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 9))
    assert Projection.fit(flat, 32).dimensions == 2
    for pool, reason in ((np.ones((5, 3)), "same features"), (np.ones((1, 3)), "two rows")):
        with pytest.raises(ValueError, match=reason):
            Projection.fit(pool, 2)
    with pytest.raises(ValueError, match="not finite"):
        Projection.fit(np.array([[0.0, np.nan], [1.0, 2.0]]), 1)


def test_a_projection_comes_back_from_its_arrays() -> None:
    pool = np.random.default_rng(4).normal(size=(30, 5))
    projection = Projection.fit(pool, 3)
    assert np.array_equal(Projection(**projection.arrays())(pool), projection(pool))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bf16_on_a_gpu_stays_close_to_float32(encoder: Encoder) -> None:
    texts = [f"text number {number}" for number in range(40)]
    cosine = (Encoder(device="cuda").encode(texts) * encoder.encode(texts)).sum(axis=1)
    assert cosine.min() > 0.99
