"""Judging a policy: on held-out labels, against its reference, and where its answers lie outside what was labelled."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from activelearning.algorithms.pessimism import ConfidenceSet, Matrix
from activelearning.algorithms.types import Floats
from training.algorithms.data import Preference, TrainingData, count_labels
from training.algorithms.policy import Choice

Figures = dict[str, Any]


def judge_reward(confidence: ConfidenceSet, held_out: Sequence[Preference], *, bins: int = 10) -> Figures:
    """How well the reward foretells held-out labels: P(chosen preferred) = sigma(rho theta'z).

    Every mean is weighted as the fit weighs: what a ranking of N implies counts N - 1 together.

    labels       how many; a ranking is one
    accuracy     share of untied labels on the right side, a gap of zero counting half; its error as `weighted_share`
    log_loss     mean -log likelihood in nats, ties counted half for each side; log 2 = 0.693 is a coin
    calibration  expected calibration error over `bins` equal bins of the confidence in the likelier side
    reliability  per bin that holds labels: [mean confidence, share right, their weight]
    """
    if not held_out:
        return {"labels": 0}
    z = np.stack([row.chosen_features.astype(np.float64) - row.rejected_features for row in held_out])
    rho = np.array([row.rationality for row in held_out])
    target = np.array([row.target for row in held_out])
    weight = np.array([row.weight for row in held_out])
    u = rho * (z @ confidence.theta)
    losses = target * np.logaddexp(0, -u) + (1 - target) * np.logaddexp(0, u)
    found: Figures = {"labels": count_labels(held_out), "log_loss": float(np.average(losses, weights=weight))}
    clear = target != 0.5
    if not clear.any():
        return found
    gap, wins, weight = u[clear], target[clear] > 0.5, weight[clear]
    right = np.where(gap == 0, 0.5, ((gap > 0) == wins).astype(float))
    certainty = expit(np.abs(gap))
    which = np.minimum((certainty * 2 - 1) * bins, bins - 1).astype(int)
    reliability = [
        [*np.average([certainty[rows], right[rows]], axis=1, weights=weight[rows]).tolist(), float(weight[rows].sum())]
        for b in range(bins)
        if (rows := which == b).any()
    ]
    conversations = [row.conversation for row, is_clear in zip(held_out, clear, strict=True) if is_clear]
    accuracy, accuracy_error = weighted_share(right, weight=weight, conversations=conversations)
    return found | {
        "accuracy": accuracy,
        "accuracy_error": accuracy_error,
        "calibration": sum(held * abs(sure - share) for sure, share, held in reliability) / float(weight.sum()),
        "reliability": reliability,
    }


def weighted_share(right: Floats, *, weight: Floats, conversations: Sequence[str]) -> tuple[float, float]:
    """sum w r / sum w, and its standard error sqrt(sum_g (sum_{i in g} w_i (r_i - share))^2) / sum w.

    A conversation g is one draw: what a ranking implies, and what several say of the same responses, errs together.
    Where each has one row of weight 1 this is sqrt(share (1 - share) / n).

    right, weight, conversations  (n,)
    """
    share = float(weight @ right / weight.sum())
    _, draw = np.unique(np.asarray(conversations), return_inverse=True)
    sums = np.bincount(draw, weights=weight * (right - share))
    return share, float(np.sqrt(sums @ sums) / weight.sum())


def win_rate(policy: Floats, reference: Floats) -> float:
    """P(the policy's score is higher) over all pairs drawn prompt by prompt, ties counted half.

    policy, reference  (prompts, samples)  scores; the numbers of samples may differ
    """
    above = (policy[:, :, None] > reference[:, None, :]).mean(axis=(1, 2))
    equal = (policy[:, :, None] == reference[:, None, :]).mean(axis=(1, 2))
    return float((above + equal / 2).mean())


def coverage(
    confidence: ConfidenceSet,
    answers: Matrix,
    *,
    conversations: Sequence[str],
    labelled: Matrix,
    worst: int = 10,
) -> Figures:
    """Where a policy's answers lie outside what was labelled, by their width ||phi - v||_{H^{-1}}.

    answers   (m, d)  offsets phi - v of the policy's answers, one conversation each
    labelled  (n, d)  offsets of the responses in the labels trained on
    outside   share of answers wider than 95 % of the labelled responses (0.05 if they are alike)
    beyond    share of answers wider than every labelled response
    penalty   mean radius * width: what pessimism takes off these answers
    worst     the widest answers, widest first: [conversation, width / 95th percentile of the labelled]
    """
    widths = confidence.widths(answers)
    known = confidence.widths(labelled) if labelled.shape[0] else np.zeros(1)
    usual, most = float(np.quantile(known, 0.95)), float(known.max())
    order = np.argsort(-widths, kind="stable")[:worst]
    return {
        "answers": int(widths.shape[0]),
        "outside": float((widths > usual * (1 + 1e-9)).mean()),
        "beyond": float((widths > most * (1 + 1e-9)).mean()),
        "penalty": float(confidence.radius * widths.mean()),
        "labelled_penalty": float(confidence.radius * known.mean()),
        "worst": [[conversations[index], float(widths[index] / max(usual, 1e-300))] for index in order],
    }


def labelled_offsets(data: TrainingData) -> Floats:
    """(2n, d) offsets phi - v of both responses of every label trained on."""
    rows = [
        np.asarray(features, dtype=np.float64) - data.reference_of(row)
        for row in data.preferences
        for features in (row.chosen_features, row.rejected_features)
    ]
    return np.stack(rows) if rows else np.zeros((0, data.theta.shape[0]))


def best_of_n_curve(means: Floats, lowers: Floats) -> list[dict[str, float]]:
    """Reward against KL when the reference is optimised harder and harder, by best-of-n on its own samples.

    KL(best-of-n || reference) <= log n - (n-1)/n. The expected maximum of n among N samples, without replacement, is
    exact. Two ways of choosing: by the mean (greedy) and by the lower bound (pessimistic); of each choice, mean and
    lower bound. Greedy choice whose lower bound falls while its mean rises is over-optimisation that the labels show.

    means, lowers  (prompts, N)
    """
    count = means.shape[1]
    curve = []
    for n in sorted({1, *(2**power for power in range(1, count.bit_length()) if 2**power <= count), count}):
        point = {"n": float(n), "kl": math.log(n) - (n - 1) / n}
        for name, key in (("greedy", means), ("pessimistic", lowers)):
            chance = _order_chance(count, n)
            order = np.argsort(key, axis=1)
            point[f"{name}_mean"] = float((np.take_along_axis(means, order, axis=1) @ chance).mean())
            point[f"{name}_lower"] = float((np.take_along_axis(lowers, order, axis=1) @ chance).mean())
        curve.append(point)
    return curve


def _order_chance(count: int, n: int) -> Floats:
    """(count,) chance that the r-th smallest of `count` is the largest of n drawn without replacement."""
    total = math.comb(count, n)
    return np.array([math.comb(rank, n - 1) / total for rank in range(count)])


def compare_choices(confidence: ConfidenceSet, choices: Sequence[Choice]) -> Figures:
    """A policy that chooses among responses against the reference that draws one of them uniformly.

    reward_gain  mean of theta_hat's reward of the answer less that of a uniform draw; reward_gain_lower for lcb
    win_rate     by theta_hat's mean, win_rate_lower by the lower bound, each against a uniform draw
    kl           mean log k: the divergence of a fixed choice among k from a uniform draw
    """
    rows: dict[str, list[float]] = defaultdict(list)
    for choice in choices:
        mean, lower, pick = confidence.means(choice.offsets), confidence.lower(choice.offsets), choice.index
        sizes = [sum(len(message["content"]) for message in response) for response in choice.responses]
        rows["reward_gain"].append(float(mean[pick] - mean.mean()))
        rows["reward_gain_lower"].append(float(lower[pick] - lower.mean()))
        rows["win_rate"].append(win_rate(mean[None, [pick]], mean[None]))
        rows["win_rate_lower"].append(win_rate(lower[None, [pick]], lower[None]))
        rows["kl"].append(math.log(len(sizes)))
        rows["characters"].append(sizes[pick])
        rows["reference_characters"].append(float(np.mean(sizes)))
    return {"prompts": len(choices), **{name: float(np.mean(values)) for name, values in rows.items()}}
