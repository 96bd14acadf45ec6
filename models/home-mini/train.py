"""Trains home-mini. Run again after a cut, it goes on from its last checkpoint, batch for batch as if uncut.

`python train.py` needs the shards of dataset.py (it makes those that are missing) and two cores for more than an hour. Two
processes of one thread each compute half of a batch, add their gradients up and make the same step: faster than two threads, and
the same sums in the same order each time. It writes checkpoint.pt and log.jsonl into the output folder.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Gemma4ForCausalLM

import dataset
import shape
from model import Trained
from optimizer import Muon

BATCH_TOKENS = 8192
N_WORKERS = 2
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


def batches(first: int, worker: int) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor, Tensor] | None, int, int]]:
    """From batch number `first` on, in an order that is always the same: a worker's part as ids, branches, wanted positions and next ids, or
    None where it has no part; the whole batch's tokens, and how many of them are wanted."""
    number = 0
    for shard in range(10_000):
        if worker == 0:
            dataset.write_shard(shard)
        dist.barrier()
        with np.load(dataset.OUT / f"train-{shard:03}.npz") as data:
            ids, wanted, branches, lengths = data["ids"].astype(np.int64), data["wanted"], data["branches"].astype(np.int64), data["lengths"]
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
                rows = [tuple(part[starts[i] : starts[i] + lengths[i]] for part in (ids, wanted, branches)) for i in group]
                mine = rows[worker::N_WORKERS]
                yield _batch(mine) if mine else None, sum(len(row[0]) for row in rows), sum(int(row[1].sum()) for row in rows)


def _batch(rows: list[tuple[np.ndarray, ...]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    length = -(-max(len(row[0]) for row in rows) // shape.WINDOW) * shape.WINDOW
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    # What fills up is a branch of its own.
    branches = torch.full((len(rows), length), 255)
    positions = [np.flatnonzero(wanted) - 1 for _, wanted, _ in rows]
    at = torch.full((len(rows), max(map(len, positions))), -1)
    following = []
    for b, ((row, _, branch), where) in enumerate(zip(rows, positions)):
        ids[b, : len(row)] = torch.from_numpy(row)
        branches[b, : len(row)] = torch.from_numpy(branch)
        at[b, : len(where)] = torch.from_numpy(where)
        following.append(row[where + 1])
    return ids, branches, at, torch.from_numpy(np.concatenate(following))


def train(worker: int, args: argparse.Namespace) -> None:
    """What each of the workers does; the first one writes."""
    dist.init_process_group("gloo", init_method=f"file://{args.meeting}", rank=worker, world_size=N_WORKERS)
    torch.set_num_threads(1)
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
    log = (dataset.OUT / "log.jsonl").open("a", buffering=1) if worker == 0 else None
    began, losses, n_tokens = time.monotonic(), [], 0
    for part, n_batch, n_wanted in batches(step, worker):
        if step >= min(args.steps, args.stop or args.steps):
            break
        sums = torch.zeros(2)
        if part:
            ids, branches, at, following = part
            with torch.autocast("cpu", torch.bfloat16):
                logits = trained.logits(ids, at, branches)
            loss = F.cross_entropy(logits, following, reduction="sum") / n_wanted
            loss.backward()
            sums = torch.stack((loss.detach(), (logits.argmax(-1) == following).sum() / n_wanted))
        add_up(parameters, sums)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * rate(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if not log:
            continue
        losses.append(sums.tolist())
        n_tokens += n_batch
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


def add_up(parameters: list[nn.Parameter], sums: Tensor) -> None:
    """The gradients and `sums` of all workers, added, in each of them."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([*(grad.flatten() for grad in grads), sums])
    dist.all_reduce(flat)
    at = 0
    for p in parameters:
        p.grad = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    sums.copy_(flat[at:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6500)
    parser.add_argument("--stop", type=int, help="end at this step, as a cut would")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    dataset.OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        args.meeting = f"{folder}/meeting"
        multiprocessing.spawn(train, (args,), N_WORKERS)


if __name__ == "__main__":
    main()
