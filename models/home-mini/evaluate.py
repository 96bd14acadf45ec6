"""Exact match on the held-out cases, by transformers' weights: for choosing among checkpoints while training.

The published figures come from pled itself (examples/home_mini.rs). Here a case counts when at each of the answer's tokens
the most probable one is right, which is the same as that greedy generation gives the answer.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Gemma4ForCausalLM

import conversations
import dataset
import shape
from model import Trained


def answered(case: dict) -> dict:
    """The case with the expected answer as its last message."""
    calls = [{"id": f"c{i}", "type": "function", "function": call} for i, call in enumerate(case["calls"])]
    last = {"role": "assistant", "content": "", "tool_calls": calls} if calls else {"role": "assistant", "content": case["text"]}
    return {"tools": case["tools"], "messages": [*case["messages"], last]}


@torch.no_grad()
def score(model: Gemma4ForCausalLM, tokenizer: Tokenizer, cases: list[dict], show: int = 0) -> dict[str, tuple[int, int]]:
    """Right and all, for each category. Prints some of the failures."""
    trained = Trained(model, 4096)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    shown = 0
    for case in cases:
        ids, wanted = dataset.encode(tokenizer, answered(case))
        n_before = len(dataset.encode(tokenizer, {"tools": case["tools"], "messages": case["messages"]})[0])
        at = [i - 1 for i in range(n_before, len(ids)) if wanted[i]]
        length = -(-len(ids) // shape.WINDOW) * shape.WINDOW
        padded = torch.zeros(1, length, dtype=torch.long)
        padded[0, : len(ids)] = torch.tensor(ids)
        best = trained.logits(padded, torch.tensor([at])).argmax(-1).tolist()
        right = best == [ids[i + 1] for i in at]
        counts[case["category"]][0] += right
        counts[case["category"]][1] += 1
        if not right and shown < show:
            shown += 1
            print(json.dumps({"category": case["category"], "say": case["messages"][-1]["content"], "expected": tokenizer.decode([ids[i + 1] for i in at], False),
                              "got": tokenizer.decode(best, False)}, ensure_ascii=False))
    return {k: (a, b) for k, (a, b) in sorted(counts.items())}


def table(counts: dict[str, tuple[int, int]]) -> str:
    lines = [f"{k:22} {a:4} of {b:4}  {a / b:6.1%}" for k, (a, b) in counts.items()]
    a, b = (sum(c[i] for c in counts.values()) for i in (0, 1))
    return "\n".join([*lines, f"{'all':22} {a:4} of {b:4}  {a / b:6.1%}"])


def load(path: Path) -> Gemma4ForCausalLM:
    model = Gemma4ForCausalLM(shape.config())
    model.load_state_dict(torch.load(path, weights_only=False)["model"])
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=dataset.OUT / "checkpoint.pt")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--show", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)
    cases = list(conversations.generate(0, "heldout"))
    random.Random(0).shuffle(cases)
    tokenizer = Tokenizer.from_file(str(dataset.HERE / "tokenizer.json"))
    print(table(score(load(args.checkpoint), tokenizer, cases[: args.cases], args.show)))
