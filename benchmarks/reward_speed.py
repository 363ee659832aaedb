"""What does knowing how sure the reward is cost, over the encoder's forward passes alone?

    python -m benchmarks.reward_speed [--quick] [--texts N] [--rounds N] [--encoder minilm]

The same texts through the encoder alone (vectors left on the device) and through the reward (mean and width on the
host), in alternating rounds. `overhead` is the median over rounds of time ratio minus one. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from activelearning.algorithms.features import Encoder, Projection
from activelearning.algorithms.pessimism import ConfidenceSet
from training.algorithms.reward import Reward

WORDS = ["measure", "the", "river", "slowly", "and", "report", "what", "it", "carries", "down", "to", "sea", "today"]


def make_texts(count: int, *, words: int = 200, seed: int = 0) -> list[str]:
    """Texts of a tenth of `words` to `words` words."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(words // 10, words) + 1))
        for _ in range(count)
    ]


def make_reward(encoder: Encoder, texts: Sequence[str], *, width: int) -> Reward:
    """A reward over `width` features on the vectors of some texts, with a random theta and design."""
    rng = np.random.default_rng(1)
    projection = Projection.fit(encoder.encode(texts), width)
    d = projection.dimensions
    design = rng.normal(size=(4 * d, d))
    return Reward(encoder, projection, ConfidenceSet(rng.normal(size=d), np.eye(d) + design.T @ design, 2.0))


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call, the device's work included."""
    started, worked = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - worked


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="within 50 s on a CPU")
    parser.add_argument("--texts", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--width", type=int, default=32)
    given = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    count = given.texts or (20_000 if on_gpu else 32 if given.quick else 256)
    rounds = given.rounds or (5 if given.quick else 9)
    texts = make_texts(count)
    encoder = Encoder(given.encoder)
    reward = make_reward(encoder, make_texts(2 * given.width, words=5), width=given.width)
    reference = np.zeros((count, reward.projection.dimensions), dtype=np.float32)
    works: dict[str, Callable[[], object]] = {
        "encoder": lambda: encoder.tensors(texts),
        "reward": lambda: reward.score(texts, reference),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds):
        order = list(works.items())
        for name, work in order if number % 2 == 0 else reversed(order):
            found[name].append(measure(work))
    ratios = [
        [ours[kind] / plain[kind] - 1 for ours, plain in zip(found["reward"], found["encoder"], strict=True)]
        for kind in (0, 1)
    ]
    vectors = encoder.tensors(texts[:32]).repeat(64, 1)
    head = [measure(lambda: reward.head(vectors).cpu())[0] / vectors.shape[0] for _ in range(20)]
    rates = {name: count / statistics.median(seconds for seconds, _ in rows) for name, rows in found.items()}
    for name, rate in rates.items():
        print(f"{name:>8} {rate:>12,.1f} texts/s")
    print(f"{'head':>8} {1e6 * statistics.median(head):>12,.2f} microseconds a text")
    print(
        json.dumps(
            {
                "overhead": statistics.median(ratios[0]),
                "overhead_range": [min(ratios[0]), max(ratios[0])],
                "overhead_of_processor_time": statistics.median(ratios[1]),
                "head_share": statistics.median(head) * rates["encoder"],
                "texts_per_second": rates["reward"],
                "encoder_texts_per_second": rates["encoder"],
                "device": torch.cuda.get_device_name(0) if on_gpu else f"cpu, {torch.get_num_threads()} threads",
            }
        )
    )


if __name__ == "__main__":
    main()
