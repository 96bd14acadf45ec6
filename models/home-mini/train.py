"""Trains home-mini. Run again after a cut, it goes on from its last checkpoint, batch for batch as if uncut.

`python train.py` needs the shards of dataset.py (it makes those that are missing) and one core for more than an hour;
with one thread a run does the same sums in the same order each time. It writes checkpoint.pt and log.jsonl into the output folder.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Gemma4ForCausalLM

import dataset
import shape
from model import Trained
from optimizer import Muon

BATCH_TOKENS = 8192
WARM_UP = 100
CHECKPOINT_EVERY = 200
MUON_LR = 0.02
ADAM_LR = 3e-3


def initialised(seed: int) -> Gemma4ForCausalLM:
    """Random weights: sublayers that speak softly at first, attention that is not yet sharp."""
    torch.manual_seed(seed)
    model = Gemma4ForCausalLM(shape.config())
    with torch.no_grad():
        for name, p in model.named_parameters():
            leaf = name.split(".")[-2]
            if leaf in ("q_norm", "k_norm"):
                p.fill_(0.5)
            elif leaf.startswith("post_"):
                p.fill_(0.3)
            elif "norm" in leaf:
                p.fill_(1.0)
            elif leaf == "embed_tokens_per_layer":
                p.normal_(0, 0.02)
            else:
                p.normal_(0, p.shape[-1] ** -0.5)
    # transformers keeps the layer scalars as buffers; training wants them as parameters.
    for layer in model.model.layers:
        layer.layer_scalar.requires_grad_(True)
    return model


def optimizers(model: Gemma4ForCausalLM) -> list[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    tables: list[Tensor] = []
    small: list[Tensor] = [layer.layer_scalar for layer in model.model.layers]
    for name, p in model.named_parameters():
        (tables if "embed_tokens" in name else matrices if p.ndim == 2 else small).append(p)
    adam = torch.optim.AdamW([{"params": tables, "weight_decay": 0.01}, {"params": small, "weight_decay": 0.0}], lr=ADAM_LR, betas=(0.9, 0.98), eps=1e-10)
    made: list[torch.optim.Optimizer] = [Muon(matrices, lr=MUON_LR, weight_decay=0.01), adam]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return made


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: up, level, and down to nothing in the last half."""
    return min(1.0, (step + 1) / WARM_UP, 2 * (1 - step / steps) + 1e-3)


def batches(first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(ids, wanted positions, next ids) from batch number `first` on, in an order that is always the same."""
    number = 0
    for shard in range(10_000):
        dataset.write_shard(shard)
        with np.load(dataset.OUT / f"train-{shard:03}.npz") as data:
            ids, wanted, lengths = data["ids"].astype(np.int64), data["wanted"], data["lengths"]
        starts = np.cumsum(lengths) - lengths
        rng = np.random.default_rng(shard)
        order = rng.permutation(len(lengths))
        groups: list[list[int]] = []
        # Sequences of like length share a batch, so that little is padding.
        for pool in np.array_split(order, len(order) // 250):
            group: list[int] = []
            for i in sorted(pool, key=lambda i: lengths[i]):
                if group and (len(group) + 1) * lengths[i] > BATCH_TOKENS:
                    groups.append(group)
                    group = []
                group.append(i)
            groups.append(group)
        rng.shuffle(groups)
        for group in groups:
            number += 1
            if number > first:
                yield _batch([(ids[starts[i] : starts[i] + lengths[i]], wanted[starts[i] : starts[i] + lengths[i]]) for i in group])


def _batch(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
    length = -(-max(len(ids) for ids, _ in rows) // shape.WINDOW) * shape.WINDOW
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = [np.flatnonzero(wanted) - 1 for _, wanted in rows]
    at = torch.full((len(rows), max(map(len, positions))), -1)
    following = []
    for b, ((row, _), where) in enumerate(zip(rows, positions)):
        ids[b, : len(row)] = torch.from_numpy(row)
        at[b, : len(where)] = torch.from_numpy(where)
        following.append(row[where + 1])
    return ids, at, torch.from_numpy(np.concatenate(following))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--stop", type=int, help="end at this step, as a cut would")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset.OUT.mkdir(parents=True, exist_ok=True)
    model = initialised(args.seed)
    trained, made, step, seconds = Trained(model, dataset.LONGEST), optimizers(model), 0, 0.0
    path = dataset.OUT / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path, weights_only=False)
        assert saved["steps"] == args.steps and saved["seed"] == args.seed, f"{path} is of another run: {saved['steps']} steps, seed {saved['seed']}"
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(made, saved["optimizers"]):
            optimizer.load_state_dict(state)
        step, seconds = saved["step"], saved["seconds"]
    parameters = [p for optimizer in made for group in optimizer.param_groups for p in group["params"]]
    log = (dataset.OUT / "log.jsonl").open("a", buffering=1)
    began, losses, n_tokens = time.monotonic(), [], 0
    for ids, at, following in batches(step):
        if step >= min(args.steps, args.stop or args.steps):
            break
        with torch.autocast("cpu", torch.bfloat16):
            logits = trained.logits(ids, at)
        loss = F.cross_entropy(logits, following)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * rate(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            losses.append((loss.item(), (logits.argmax(-1) == following).float().mean().item()))
        step += 1
        n_tokens += ids.numel()
        if step % 25 == 0:
            elapsed = time.monotonic() - began
            mean = np.mean(losses, 0)
            log.write(json.dumps({"step": step, "loss": round(float(mean[0]), 5), "right": round(float(mean[1]), 5), "tok_s": round(n_tokens / elapsed),
                                  "seconds": round(seconds + elapsed)}) + "\n")
            losses = []
        if step % CHECKPOINT_EVERY == 0 or step == args.steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in made], "step": step, "steps": args.steps, "seed": args.seed,
                     "seconds": seconds + time.monotonic() - began}
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)


if __name__ == "__main__":
    main()
