"""What the newest estimate says of a few texts, and how sure it is."""

import numpy as np

from activelearning.algorithms.features import Projection as Pca
from activelearning.algorithms.features import render_text
from activelearning.algorithms.pessimism import DELTA, ConfidenceSet
from activelearning.models import Estimate
from activelearning.pipeline.embedding import open_encoder
from activelearning.storage import read_arrays
from training.models import RewardQuestion


def answer_question(pk: int) -> None:
    """Fill in the answer of a waiting question; asked twice, it does nothing the second time."""
    question = RewardQuestion.objects.filter(pk=pk, state=RewardQuestion.State.WAITING).first()
    if question is None:
        return
    try:
        answer = judge_texts(question)
    except Exception as error:
        RewardQuestion.objects.filter(pk=pk).update(
            state=RewardQuestion.State.FAILED, reason=f"{type(error).__name__}: {error}"
        )
        raise
    RewardQuestion.objects.filter(pk=pk).update(state=RewardQuestion.State.ANSWERED, answer=answer)


def judge_texts(question: RewardQuestion) -> dict[str, object]:
    """Mean and bounds (M12) of each response, measured from the mean of the responses given."""
    estimate = Estimate.objects.filter(campaign=question.campaign).select_related("projection").order_by("-id")[0]
    arrays = read_arrays(estimate.arrays)
    theta, information = arrays["theta"], arrays.get("marginal_information", arrays["information"])
    confidence = ConfidenceSet.at_level(theta, information, ridge=estimate.ridge)
    prompt = {"role": "user", "content": question.prompt}
    texts = [render_text([prompt, {"role": "assistant", "content": text}]) for text in question.responses]
    vectors = open_encoder(estimate.projection.encoder).encode(texts)
    phi = Pca(**read_arrays(estimate.projection.file))(vectors).astype(np.float64)
    offsets = phi - phi.mean(axis=0)  # (k, d)
    rows = zip(
        confidence.means(offsets),
        confidence.penalties(offsets),
        confidence.lower(offsets),
        confidence.upper(offsets),
        strict=True,
    )
    return {
        "responses": [
            {"mean": float(mean), "penalty": float(penalty), "lower": float(lower), "upper": float(upper)}
            for mean, penalty, lower, upper in rows
        ],
        "radius": confidence.radius,
        "delta": DELTA,
        "labels": estimate.label_count,
    }
