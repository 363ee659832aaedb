"""Worlds made of real text: MT-Bench votes replayed with their judges, and HH pairs with simulated teachers."""

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from activelearning.algorithms.estimation import fit
from activelearning.algorithms.features import Encoder, Projection, render_text, text_digest
from activelearning.algorithms.rationality import RationalityPrior, fit_jointly
from activelearning.algorithms.types import Floats, Ints, Labels, Pool, Responses, Singles, Teachers
from activelearning.algorithms.worlds import MANY, World

OUTCOME = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Replay(World):
    """A world that answers from a record: a judge can only be asked what that judge answered.

    votes         outcome of each (comparison, teacher)
    held_out      (h, d)  rows of votes on questions that are not in the pool
    held_outcome  (h,)    1 where a won, 0 where b did; ties are left out
    """

    votes: dict[tuple[int, int], float] | None = None
    held_outcome: Floats | None = None

    def answer(self, comparison: int, teacher: int, *, side: float, generator: np.random.Generator) -> float:
        assert self.votes is not None
        return self.votes[comparison, teacher]

    def accuracy(self, theta_hat: Floats) -> float:
        """Agreement with held-out human votes that are not ties."""
        assert self.held_outcome is not None
        margin = self.held_out @ theta_hat
        return float(np.mean(np.where(margin == 0, 0.5, (margin > 0) == (self.held_outcome == 1))))


@dataclass(frozen=True)
class MTBench:
    """What the replay needs, read once.

    features  (a, d)  one row per answer (question, model, turn)
    row       the feature row of an answer
    votes     judge, (question, turn, model_a, model_b), outcome
    """

    features: Singles
    row: dict[tuple[int, str, int], int]
    votes: list[tuple[str, tuple[int, int, str, str], float]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def encode_cached(texts: list[str], scratch: Path, *, max_tokens: int = 256) -> Singles:
    """MiniLM vectors of the texts, kept in `scratch` under a digest of all of them."""
    path = scratch / f"features-{text_digest(chr(0).join(texts))[:16]}-{max_tokens}.npy"
    if not path.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        np.save(path, Encoder("minilm", max_tokens=max_tokens).encode(texts))
    return np.asarray(np.load(path), dtype=np.float32)


def surface(texts: list[str]) -> Floats:
    """What a reader sees before reading: log length, lines, list marks, digits, code, and a refusal's words. (n, 6)"""
    rows = []
    for text in texts:
        size = max(1, len(text))
        marks = sum(
            line.lstrip()[:2] in ("- ", "* ") or line.lstrip()[:2].rstrip(".").isdigit() for line in text.split("\n")
        )
        sorry = any(word in text.lower() for word in ("sorry", "i can't", "i cannot", "as an ai"))
        rows.append(
            [
                np.log(size),
                np.log1p(text.count("\n")),
                np.log1p(marks),
                sum(map(str.isdigit, text)) / size,
                "```" in text,
                sorry,
            ]
        )
    return np.array(rows, dtype=np.float64)


def joined_features(texts: list[str], prompts: Ints, scratch: Path, *, dimensions: int) -> Singles:
    """Projected encoder vectors beside the surface features, each of the latter with a tenth of the variance."""
    plain = surface(texts)
    plain = (plain - plain.mean(axis=0)) / np.maximum(plain.std(axis=0), 1e-9) * np.sqrt(0.1)
    if dimensions == 0:
        return np.asarray(plain, dtype=np.float32)
    vectors = encode_cached(texts, scratch)
    projected = Projection.fit(vectors, dimensions, conversation=prompts)(vectors)
    return np.asarray(np.hstack([projected, plain]), dtype=np.float32)


def read_mtbench(data: Path, scratch: Path, *, dimensions: int) -> MTBench:
    """MT-Bench conversations as features and votes; turn 1 is judged on the first answer, turn 2 on the second."""
    texts, keys = [], []
    for line in read_lines(data / "mtbench_conversations.jsonl.gz"):
        for turn in (1, 2):
            keys.append((int(line["question_id"]), str(line["model"]), turn))
            texts.append(render_text(line["messages"][2 * turn - 1 : 2 * turn]))
    prompts = np.unique([f"{key[0]}/{key[2]}" for key in keys], return_inverse=True)[1].astype(np.int64)
    row = {key: index for index, key in enumerate(keys)}
    votes = []
    for line in read_lines(data / "mtbench_votes.jsonl.gz"):
        item = (int(line["question_id"]), int(line["turn"]), str(line["model_a"]), str(line["model_b"]))
        if all((item[0], model, item[1]) in row for model in item[2:]):
            votes.append((str(line["judge"]), item, OUTCOME[line["winner"]]))
    return MTBench(joined_features(texts, prompts, scratch, dimensions=dimensions), row, votes)


def mtbench_world(bench: MTBench, generator: np.random.Generator, *, ridge: float, prior: RationalityPrior) -> Replay:
    """One split: a quarter of the questions is held out, the rest is the pool. `theta` is what all its votes say."""
    questions = np.unique([vote[1][0] for vote in bench.votes])
    hidden = set(generator.permutation(questions)[: len(questions) // 4].tolist())
    inside = [vote for vote in bench.votes if vote[1][0] not in hidden]
    items = sorted({vote[1] for vote in inside})
    judges = sorted({vote[0] for vote in inside})
    item_of, judge_of = {item: i for i, item in enumerate(items)}, {judge: k for k, judge in enumerate(judges)}
    votes: dict[tuple[int, int], list[float]] = defaultdict(list)
    for judge, item, outcome in inside:
        votes[item_of[item], judge_of[judge]].append(outcome)
    answers = {pair: outcomes[0] for pair, outcomes in votes.items()}
    design = np.array([_difference(bench, item) for item in items], dtype=np.float32)
    held = [vote for vote in bench.votes if vote[1][0] in hidden and vote[2] != 0.5]
    may_ask = np.zeros((len(judges), len(items)), dtype=bool)
    for row, judge_row in answers:
        may_ask[judge_row, row] = True
    pairs = np.array(list(answers), dtype=np.int64)
    everything = Labels(
        design=design[pairs[:, 0]].astype(np.float64),
        outcome=np.array(list(answers.values())),
        teacher=pairs[:, 1],
        category=np.zeros(len(pairs), dtype=np.int64),
        side=np.ones(len(pairs)),
        weight=np.ones(len(pairs)),
    )
    whole = fit_jointly(everything, teachers=len(judges), categories=1, ridge=ridge, prior=prior)
    models = sorted({key[1] for key in bench.row})
    prompts = [(question, turn) for question in sorted(hidden) for turn in (1, 2)]
    complete = [(q, t) for q, t in prompts if all((q, model, t) in bench.row for model in models)]
    rows = np.array([[bench.row[q, model, t] for model in models] for q, t in complete], dtype=np.int64)
    policy = bench.features[rows].astype(np.float64)
    return Replay(
        theta=whole.theta,
        pool=Pool(design, np.zeros(len(items), dtype=np.int64), np.full(len(items), MANY, dtype=np.int64)),
        teachers=Teachers(
            np.maximum(whole.rationality, 0.0),
            np.ones(len(judges)),
            np.full(len(judges), MANY, dtype=np.int64),
            np.ones((len(judges), 1), dtype=bool),
        ),
        bias=np.zeros(len(judges)),
        policy=policy,
        held_out=np.array([_difference(bench, vote[1]) for vote in held], dtype=np.float64),
        may_ask=may_ask,
        responses=Responses(
            bench.features.astype(np.float64),
            np.unique([f"{item[0]}/{item[1]}" for item in items], return_inverse=True)[1].astype(np.int64),
            np.array([bench.row[item[0], item[2], item[1]] for item in items], dtype=np.int64),
            np.array([bench.row[item[0], item[3], item[1]] for item in items], dtype=np.int64),
        ),
        votes=answers,
        held_outcome=np.array([vote[2] for vote in held]),
    )


def _difference(bench: MTBench, item: tuple[int, int, str, str]) -> Floats:
    question, turn, a, b = item
    return np.asarray(
        bench.features[bench.row[question, a, turn]] - bench.features[bench.row[question, b, turn]], dtype=np.float64
    )


def read_hh(data: Path, scratch: Path, *, dimensions: int) -> Floats:
    """HH pairs as features (n, 2, d), chosen first; the last reply only, because the rest is common to both."""
    pairs = read_lines(data / "hh_harmless_test.jsonl.gz")
    texts = [
        pair[side].rsplit("\n\nAssistant:", 1)[-1].strip() or "." for pair in pairs for side in ("chosen", "rejected")
    ]
    prompts = np.repeat(np.arange(len(pairs)), 2).astype(np.int64)
    features = joined_features(texts, prompts, scratch, dimensions=dimensions)
    return features.reshape(len(pairs), 2, -1).astype(np.float64)


def hh_world(phi: Floats, generator: np.random.Generator, *, teachers: int = 15, categories: int = 4) -> World:
    """Real pairs, the reward their human choices support, lengthened to sd 2, and log-normal teachers."""
    order = generator.permutation(len(phi))
    inside, outside = phi[order[:1700]], phi[order[1700:]]
    difference = phi[:, 0] - phi[:, 1]
    ones = np.ones(len(phi))
    human = Labels(difference, ones, np.zeros(len(phi), dtype=np.int64), np.zeros(len(phi), dtype=np.int64), ones, ones)
    theta = fit(human, rationality=np.ones((1, 1)), ridge=1.0).theta
    theta = theta * (2.0 / np.std(difference @ theta))
    swap = generator.random(len(inside)) < 0.5
    first = np.where(swap[:, None, None], inside[:, ::-1], inside)
    log_rho = generator.normal(-0.3, 0.6, size=(teachers, 1)) + generator.normal(0, 0.6, size=(teachers, categories))
    rows = np.arange(len(inside), dtype=np.int64)
    return World(
        theta=theta,
        pool=Pool(
            (first[:, 0] - first[:, 1]).astype(np.float32),
            generator.integers(categories, size=len(inside)).astype(np.int64),
            np.ones(len(inside), dtype=np.int64),
        ),
        teachers=Teachers(
            np.exp(log_rho),
            np.ones(teachers),
            np.full(teachers, MANY, dtype=np.int64),
            np.ones((teachers, categories), dtype=bool),
        ),
        bias=np.zeros(teachers),
        policy=outside,
        held_out=outside[:, 0] - outside[:, 1],
        responses=Responses(first.reshape(-1, phi.shape[2]), rows, 2 * rows, 2 * rows + 1),
    )
