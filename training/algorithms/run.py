"""The door: a frozen configuration and frozen data in, a sealed policy folder out.

    result = train(config, data, folder=folder, report=report, should_stop=should_stop)

Call it again with the same folder after any death: it goes on from the last whole checkpoint, and returns at once if
the policy was finished.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from activelearning.algorithms.features import Encoder
from activelearning.algorithms.pessimism import Certificate, certify
from training.algorithms import artifact, policy_rerank
from training.algorithms.checkpoints import DiskFull, is_disk_full
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData, count_labels
from training.algorithms.evaluation import Figures, compare_choices, coverage, judge_reward, labelled_offsets
from training.algorithms.journal import Journal, Report
from training.algorithms.policy import Fitted, Job, Policy, TextEncoder, is_main_process, process_count
from training.algorithms.texts import storable


@dataclass(frozen=True)
class PolicyResult:
    """A finished policy.

    folder       the sealed folder; `artifact.verify(folder, kind="policy", digest=digest)` before it is used
    digest       sha256 of its manifest
    figures      evaluation, as in the manifest: "reward" (held-out labels), "policy" (against the reference)
    certificate  (M13), or None where no text could be scored
    samples      policy and reference side by side, for the page
    steps        optimizer steps
    seconds      wall time of this call
    """

    folder: Path
    digest: str
    figures: Figures
    certificate: Certificate | None
    samples: list[dict[str, Any]]
    steps: int
    seconds: float


def train(
    config: TrainingConfig,
    data: TrainingData,
    *,
    folder: Path,
    report: Report,
    should_stop: Callable[[], bool],
    encoder: TextEncoder | None = None,
) -> PolicyResult:
    """Make a policy from labels, evaluate it, certify it, seal it.

    folder       the run's own. Afterwards it holds policy/ (what to keep), metrics.jsonl, tensorboard/, and what may
                 be deleted: checkpoints/, base/, model/
    report       called with a flat dict, at least {"stage": ...}: "start"; "train" (step, steps, loss, reward_margin,
                 accuracy, kl, tokens_per_second, gpu_memory_gib, learning_rate); "generate" (share); "evaluate";
                 "notice" (notice: a sentence for the page); "done". The same lines go to metrics.jsonl
    should_stop  asked after every optimizer step and every batch of generation
    encoder      what turns generated text into vectors; by default `config.encoder`, loaded when first needed
    raises       Cancelled, TimeLimitReached: stopped at a saved checkpoint. OutOfMemory: half the batch did not fit
                 either. DiskFull. Diverged. artifact.Refused: the folder or a checkpoint belongs to another run.
                 ValueError: the data cannot carry this method
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"config_digest": config.digest(), "data_digest": data.digest(), "label_set": data.label_set}
    final = folder / "policy"
    if final.exists():
        manifest = artifact.verify(final, kind="policy", expect=identity)
        return _result(final, manifest, seconds=time.monotonic() - started)
    journal = Journal(folder, report, is_silent=not is_main_process())
    job = Job(
        config=config,
        data=data,
        folder=folder,
        confidence=data.confidence(delta=config.delta, radius=config.radius),
        journal=journal,
        should_stop=should_stop,
        encoder=encoder or Encoder(config.encoder),
        identity=identity,
    )
    try:
        journal.write(
            {
                "stage": "start",
                "method": config.method,
                "radius": job.confidence.radius,
                "processes": process_count(),
            }
        )
        if config.is_generative:
            from training.algorithms.language_model import limit_memory

            limit_memory(config)
        if config.reference_samples:
            from training.algorithms.references import with_sampled_references

            job = dataclasses.replace(job, data=with_sampled_references(job))
        fitted = _method(config.method)(job)
        if not is_main_process():
            return _await_result(final, identity, started=started)
        journal.write({"stage": "evaluate"})
        figures, certificate, samples = evaluate(job, fitted)
        manifest = _store(job, fitted, figures, certificate, samples)
        journal.write({"stage": "done", **_headline(figures, certificate)})
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no room for the policy: {error}") from error
        raise
    finally:
        journal.close()
    return _result(final, manifest, seconds=time.monotonic() - started)


def evaluate(job: Job, fitted: Fitted) -> tuple[Figures, Certificate | None, list[dict[str, Any]]]:
    """Figures, certificate and samples of a fitted policy."""
    figures: Figures = {"reward": judge_reward(job.confidence, job.data.held_out), "fit": dict(fitted.notes)}
    if fitted.model is not None and fitted.reference is not None:
        from training.algorithms.comparison import compare_models

        comparison = compare_models(job, fitted.model, fitted.reference)
        figures["policy"] = comparison.figures
        return figures, comparison.certificate, comparison.samples
    offsets = np.stack([choice.offset for choice in fitted.choices])
    figures["policy"] = compare_choices(job.confidence, fitted.choices)
    figures["policy"]["held_out_prompts"] = sum(prompt.is_held_out for prompt in job.data.candidates)
    figures["policy"]["coverage"] = coverage(
        job.confidence,
        offsets,
        conversations=[choice.conversation for choice in fitted.choices],
        labelled=labelled_offsets(job.data),
    )
    pairs = [(choice.offsets, np.zeros(choice.offsets.shape[1])) for choice in fitted.choices]
    certificate = certify(
        job.confidence,
        pairs,
        chosen=[[choice.index] for choice in fitted.choices],
        sampled=fitted.reference is not None,
    )
    return figures, certificate, []


def _method(name: str) -> Policy:
    """The module of a method; those that need torch are imported when they are asked for."""
    if name == "rerank":
        return policy_rerank.fit
    if name == "best_of_n":
        return policy_rerank.fit_best_of_n
    if name in ("dpo", "pessimistic_dpo"):
        from training.algorithms import policy_dpo

        return policy_dpo.fit
    if name == "rso":
        from training.algorithms import policy_rso

        return policy_rso.fit
    from training.algorithms import policy_gradient

    return policy_gradient.fit


def _store(
    job: Job,
    fitted: Fitted,
    figures: Figures,
    certificate: Certificate | None,
    samples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write policy/ in one step: model or choices, the reward it was trained on, the samples, the manifest."""
    partial = job.folder / "policy.partial"
    shutil.rmtree(partial, ignore_errors=True)
    if fitted.model is not None:
        shutil.copytree(fitted.model, partial)
    partial.mkdir(exist_ok=True)
    arrays = {"theta": job.data.theta, "information": job.data.information}
    if job.data.projection is not None:
        arrays |= {f"projection.{name}": array for name, array in job.data.projection.arrays().items()}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial / "reward.safetensors")
    if fitted.choices:
        lines = [json.dumps(choice.to_json(job.confidence), sort_keys=True) for choice in fitted.choices]
        (partial / "choices.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (partial / "samples.json").write_text(json.dumps(list(samples)), encoding="utf-8")
    content = {
        **job.identity,
        "config": job.config.to_json(),
        "certificate": dataclasses.asdict(certificate) if certificate else None,
        "radius": job.confidence.radius,
        "ridge": job.data.ridge,
        "lineage": dict(job.data.lineage),
        "figures": figures,
        "steps": fitted.steps,
        "labels": count_labels(job.data.preferences),
    }
    artifact.seal(partial, kind="policy", content=content)
    artifact.publish(partial, job.folder / "policy")
    return artifact.verify(job.folder / "policy", kind="policy", expect=job.identity)


def _await_result(final: Path, identity: Mapping[str, str], *, started: float) -> PolicyResult:
    """What the other processes of a run do while the main one evaluates: it alone writes, and nothing is collective.
    If it dies, the launcher ends them.
    """
    while not final.exists():
        time.sleep(0.5)
    manifest = artifact.verify(final, kind="policy", expect=identity)
    return _result(final, manifest, seconds=time.monotonic() - started)


def _result(folder: Path, manifest: Mapping[str, Any], *, seconds: float) -> PolicyResult:
    certificate = manifest["certificate"]
    return PolicyResult(
        folder=folder,
        digest=artifact.file_digest(folder / artifact.MANIFEST),
        figures=dict(manifest["figures"]),
        certificate=Certificate(**certificate) if certificate else None,
        samples=_read_samples(folder),
        steps=int(manifest["steps"]),
        seconds=seconds,
    )


def _read_samples(folder: Path) -> list[dict[str, Any]]:
    """The samples, fit for a row: the folder is sealed, and may have been so when its texts were kept as they came."""
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return [{**one, **{side: storable(one[side]) for side in ("policy", "reference")}} for one in samples]


def _headline(figures: Figures, certificate: Certificate | None) -> dict[str, float]:
    """The few numbers of the last report."""
    found = {
        f"held_out_{key}": figures["reward"][key] for key in ("accuracy", "calibration") if key in figures["reward"]
    }
    found |= {key: figures["policy"][key] for key in ("win_rate", "win_rate_lower", "kl") if key in figures["policy"]}
    return {**found, "certificate": certificate.regret} if certificate else found
