"""The training loop. Same seed, same corpus and same number of steps give the same batches."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import Guide, Shape
from training.samples import Batch, Sampler


@dataclass(frozen=True)
class Plan:
    steps: int = 4500
    minutes: float = 75.0
    """The schedule ends at ``steps`` or after this time, whichever is nearer."""
    tokens: int = 4096
    rate: float = 2e-3
    warmup: int = 150
    decay: float = 0.1
    dropout: float = 0.05
    smoothing: float = 0.05
    intent_weight: float = 0.3
    average: float = 0.998
    coarse_from: float = 0.7
    """From this part of the run on, every second step sees weights rounded to four bits."""
    seed: int = 20
    threads: int = 2
    compiled: bool = True
    save_minutes: float = 5.0


class Learner(nn.Module):
    """The network and, for training only, a head that names the question's intent where the reply begins."""

    def __init__(self, guide: Guide, intents: int, plan: Plan) -> None:
        super().__init__()
        self.guide, self.plan = guide, plan
        self.intent_head = nn.Linear(guide.shape.width, intents)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden = self.guide.hidden(batch.ids).flatten(0, 1)
        logits = self.guide.logits(hidden[batch.where]).float()
        each = F.cross_entropy(logits, batch.target, reduction="none", label_smoothing=self.plan.smoothing)
        answer = (each * batch.weight).sum() / batch.weight.sum()
        named = F.cross_entropy(self.intent_head(hidden[batch.asked_at]).float(), batch.intent, label_smoothing=0.1)
        return answer, named


def coarse(weight: Tensor) -> Tensor:
    """The weight as a 4-bit block format gives it back: 16 levels between the extremes of each 32 values."""
    blocks = weight.view(-1, 32)
    low = blocks.amin(1, keepdim=True).clamp(max=0.0)
    step = (blocks.amax(1, keepdim=True) - low).clamp(min=1e-8) / 15
    return (((blocks - low) / step).round() * step + low).view_as(weight)


@contextmanager
def coarse_weights(guide: Guide) -> Iterator[None]:
    """Gradients are taken at the rounded weights and applied to the exact ones (straight-through)."""
    matrices = [p for p in guide.blk.parameters() if p.dim() == 2]
    exact = [p.detach().clone() for p in matrices]
    with torch.no_grad():
        for p in matrices:
            p.copy_(coarse(p))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, e in zip(matrices, exact, strict=True):
                p.copy_(e)


def make_optimizer(learner: nn.Module, plan: Plan) -> torch.optim.AdamW:
    matrices = [p for p in learner.parameters() if p.dim() == 2]
    others = [p for p in learner.parameters() if p.dim() != 2]
    parts = [{"params": matrices, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(parts, lr=plan.rate, betas=(0.9, 0.98), fused=True)


def rate_at(plan: Plan, step: int, elapsed: float) -> float:
    done = max(step / plan.steps, elapsed / (plan.minutes * 60))
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * (0.02 + 0.98 * cosine)


@torch.no_grad()
def rates(guide: Guide, sampler: Sampler, pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Part of the questions whose answer greedy decoding would begin rightly, and would give to its last token."""
    encoder, begun, right = sampler.encoder, 0, 0
    decided = dict(zip(map(tuple, sampler.answers), sampler.decided, strict=True))
    was = guide.training
    guide.eval()
    for start in range(0, len(pairs), 48):
        rows = [(encoder.question(q), encoder.answer(a)) for q, a in pairs[start : start + 48]]
        longest = max(len(q) + len(a) for q, a in rows)
        ids = torch.full((len(rows), longest), encoder.end)
        for row, (q, a) in enumerate(rows):
            ids[row, : len(q) + len(a)] = torch.tensor(q + a)
        best = guide.hidden(ids)
        for row, (q, a) in enumerate(rows):
            guess = guide.logits(best[row, len(q) - 1 : len(q) + len(a) - 1]).argmax(-1).tolist()
            right += guess == a
            enough = decided[tuple(a)]
            begun += guess[:enough] == a[:enough]
    guide.train(was)
    return begun / max(1, len(pairs)), right / max(1, len(pairs))


def train(shape: Shape, plan: Plan, sampler: Sampler, folder: Path, dev: Sequence[tuple[str, str]] = ()) -> Guide:
    """Returns the averaged weights. Goes on from the checkpoint in ``folder`` if its plan and corpus are the same."""
    torch.set_num_threads(plan.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(plan.seed)
    learner = Learner(Guide(shape, plan.dropout), len(sampler.questions), plan)
    mean = Guide(shape)
    mean.load_state_dict(learner.guide.state_dict())
    optimizer = make_optimizer(learner, plan)
    log: list[dict[str, float | str]] = []
    first, before = 0, 0.0
    checkpoint, curve = folder / "checkpoint.pt", folder / "loss.json"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        same = state["plan"] == asdict(plan) and state["shape"] == asdict(shape)
        if same and state.get("corpus", sampler.fingerprint) == sampler.fingerprint:
            learner.load_state_dict(state["learner"])
            mean.load_state_dict(state["mean"])
            optimizer.load_state_dict(state["optimizer"])
            first, before, log = state["step"], state["elapsed"], state["log"]
            print(f"continuing at step {first}", flush=True)
    if plan.compiled:
        for block in learner.guide.blk:
            block.compile()

    def save(step: int, elapsed: float) -> None:
        state = {"plan": asdict(plan), "shape": asdict(shape), "step": step, "elapsed": elapsed, "log": log}
        state["corpus"] = sampler.fingerprint
        state |= {"learner": learner.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        curve.write_text(json.dumps({"plan": asdict(plan), "shape": asdict(shape), "curve": log}, indent=0))

    learner.train()
    started = saved = time.monotonic()
    elapsed = before
    step = first
    while step < plan.steps and elapsed < plan.minutes * 60:
        rate = rate_at(plan, step, elapsed)
        for part in optimizer.param_groups:
            part["lr"] = rate
        batch = sampler.batch(step)
        torch.manual_seed(plan.seed * 1_000_003 + step)
        late = max(step / plan.steps, elapsed / (plan.minutes * 60)) >= plan.coarse_from
        if late and step % 2:
            with coarse_weights(learner.guide):
                answer, named = backward(learner, batch, plan)
        else:
            answer, named = backward(learner, batch, plan)
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        keep = min(plan.average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(learner.guide.parameters()), 1 - keep)
        step += 1
        elapsed = before + time.monotonic() - started
        row: dict[str, float | str] = {
            "step": step, "kind": batch.kind.name, "loss": round(answer, 4), "intent": round(named, 4),
            "rate": round(rate, 6), "seconds": round(elapsed, 1),
        }  # fmt: skip
        if dev and (step % 300 == 0 or step == plan.steps):
            row["begun"], row["whole"] = (round(r, 4) for r in rates(mean, sampler, dev))
        log.append(row)
        if step % 20 == 0 or "begun" in row:
            per_second = (step - first) * plan.tokens / (elapsed - before)
            print(json.dumps(row), f"{per_second:.0f} tokens/s", flush=True)
        if time.monotonic() - saved > plan.save_minutes * 60:
            save(step, elapsed)
            saved = time.monotonic()
    save(step, elapsed)
    return mean.eval()


def backward(learner: Learner, batch: Batch, plan: Plan) -> tuple[float, float]:
    with torch.autocast("cpu", torch.bfloat16):
        answer, named = learner(batch)
    (answer + plan.intent_weight * named).backward()
    return float(answer.detach()), float(named.detach())
