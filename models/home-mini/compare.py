"""pled beside transformers, and the quantised files beside the exact one.

`python compare.py --pled ../../target/release/pled` prints the largest difference of logits over 200 held-out prompts,
transformers on the checkpoint against pled on the F32 file, and a table of perplexities: over the tokens of the answers
to these prompts, and over whole held-out conversations as `pled perplexity` measures a text. Of the second the model
knows little, since training asks for answers only; it shows what quantising does away from what was trained.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import conversations
import dataset
import evaluate
import export
import render


def pled_logits(pled: Path, model: Path, ids: list[int]) -> np.ndarray:
    """[len(ids), vocab], by `pled generate --logits`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        words = [pled, "generate", "--model", model, "--prompt-ids", ",".join(map(str, ids)), "--max-tokens", "1", "--logits", out]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return np.load(out)


def nll(logits: np.ndarray, ids: list[int], wanted: list[bool]) -> list[float]:
    """Negative log-likelihoods of the wanted tokens."""
    at = [i - 1 for i, w in enumerate(wanted) if w]
    rows = logits[at].astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    return list(np.log(np.exp(rows).sum(-1)) - rows[range(len(at)), [ids[i + 1] for i in at]])


def text_perplexity(pled: Path, model: Path, text: Path) -> dict:
    words = [pled, "perplexity", "--model", model, "--file", text, "--parse-special", "--json"]
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pled", type=Path, required=True)
    parser.add_argument("--files", type=Path, default=dataset.OUT, help="where export.py has put the files")
    parser.add_argument("--checkpoint", type=Path, default=dataset.OUT / "checkpoint.pt")
    parser.add_argument("--prompts", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(dataset.HERE / "tokenizer.json"))
    reference = evaluate.load(args.checkpoint).eval()
    cases = list(conversations.generate(0, "heldout"))
    chosen = [evaluate.answered(case) for case in cases[:: len(cases) // args.prompts][: args.prompts]]
    encoded = [dataset.encode(tokenizer, case) for case in chosen]

    worst, n_same, n_positions, answers = 0.0, 0, 0, {name: [] for name in export.FORMATS}
    for ids, wanted in encoded:
        theirs = reference(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().numpy()
        for name in export.FORMATS:
            ours = pled_logits(args.pled, args.files / f"home-mini-{name}.gguf", ids)
            answers[name] += nll(ours, ids, wanted)
            if name == "f32":
                worst = max(worst, float(np.abs(ours - theirs).max()))
                n_same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
                n_positions += len(ids)
    print(f"largest difference of logits: {worst:.2e} over {len(encoded)} prompts with {n_positions} positions; "
          f"the most probable token is the same at {n_same} of them")

    text = args.files / "heldout.txt"
    text.write_text("".join(piece for case in chosen for piece, _ in render.pieces(case)))
    print("| file | bytes | perplexity of answers | of whole conversations |\n|---|---|---|---|")
    for name in export.FORMATS:
        path = args.files / f"home-mini-{name}.gguf"
        whole = text_perplexity(args.pled, path, text)
        print(f"| {name.upper()} | {path.stat().st_size:,} | {math.exp(np.mean(answers[name])):.4f} | "
              f"{whole['perplexity']:.2f} ± {whole['stderr']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
