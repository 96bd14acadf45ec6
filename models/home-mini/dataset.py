"""Token shards: homes of a seed with the talks about them, encoded, for training.

`python dataset.py --shards 8` writes train-000.npz ... into the output folder, each from a seed of its own, so that any
shard can be made again alone. A shard holds `ids` (uint16, all homes in a row), `wanted` (bool, whether the model
is to write this token), `branches` (uint8, 0 in the system's turn, then the number of the talk) and `lengths` (int32, one for each home).
"""

import argparse
import itertools
import json
import os
import re
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import conversations
import render
import words

HERE = Path(__file__).parent
OUT = Path(os.environ.get("PLED_CACHE", Path.home() / ".cache/pled-dev")) / "home-mini"
TREES_PER_SHARD = 5000
# From this shard on some homes are as Home Assistant has them, whose prompts are longer: first come short ones.
FIRST_ASSIST_SHARD = 3
ASSIST_SHARE = 0.4
# Turns that ask what a thing is: many in the first shard, so that reading the list is learned first.
ABOUT_SHARES = (0.3, 0.07)
LONGEST = 2048
# Talks that a home has at least; of a prompt too long for them nothing would be learned.
FEWEST_BRANCHES = 4


def unseen() -> set[str]:
    """Words in the names that held-out cases call, made up or of the held-out pools. Chance could make them again; training must not have them."""
    named = [str(value) for case in conversations.generate(0, "heldout") for call in case["calls"]
             for key, value in call["arguments"].items() if key in ("name", "area", "floor")]
    known = {word.capitalize() for word in words.TRAINED} | {"Battery", "Humidity", "Power", "Scene", "Temperature"}
    return set(re.findall("[A-Z][a-z]{2,}", " ".join(named))) - known


def is_fit(tools: list[dict], messages: list[dict], never: set[str]) -> bool:
    """Whether training text has none of the words in `never`."""
    return never.isdisjoint(re.findall("[A-Z][a-z]+", json.dumps([tools, messages])))


def encode(tokenizer: Tokenizer, case: dict) -> tuple[list[int], list[bool]]:
    """Ids and whether each is the model's. Pieces end at special tokens, so they are encoded alone."""
    ids: list[int] = []
    wanted: list[bool] = []
    for text, is_wanted in render.pieces(case):
        part = tokenizer.encode(text, add_special_tokens=False).ids
        ids += part
        wanted += [is_wanted] * len(part)
    return ids, wanted


def encode_tree(tokenizer: Tokenizer, tree: dict, never: set[str]) -> tuple[list[int], list[bool], list[int]] | None:
    """Ids, whether each is the model's, and the branch of each, 0 for the stem; None where the stem is unfit or leaves no room."""
    if not is_fit(tree["tools"], tree["messages"], never):
        return None
    ids, wanted = encode(tokenizer, tree)
    n_stem, branches = len(ids), [0] * len(ids)
    for messages in tree["branches"]:
        if not is_fit([], messages, never):
            continue
        both = encode(tokenizer, tree | {"messages": [*tree["messages"], *messages]})
        if len(ids) + len(both[0]) - n_stem > LONGEST:
            break
        branches += [branches[-1] + 1] * (len(both[0]) - n_stem)
        ids += both[0][n_stem:]
        wanted += both[1][n_stem:]
    return (ids, wanted, branches) if branches[-1] >= FEWEST_BRANCHES else None


def write_shard(number: int) -> None:
    path = OUT / f"train-{number:03}.npz"
    if path.exists():
        return
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    never = unseen()
    assist = ASSIST_SHARE if number >= FIRST_ASSIST_SHARD else 0.0
    about = ABOUT_SHARES[min(number, 1)]
    made = (encode_tree(tokenizer, tree, never) for tree in conversations.trees(1000 + number, assist, about))
    kept = list(itertools.islice((one for one in made if one), TREES_PER_SHARD))
    ids, wanted, branches = (np.concatenate([np.array(one[part], dtype) for one in kept]) for part, dtype in enumerate((np.uint16, bool, np.uint8)))
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, ids=ids, wanted=wanted, branches=branches, lengths=np.array([len(one[0]) for one in kept], dtype=np.int32))
    temporary.rename(path)
    print(f"{path}: {len(ids)} tokens, {wanted.sum()} wanted, {sum(one[2][-1] for one in kept)} talks", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with Pool(2) as pool:
        pool.map(write_shard, range(args.first, args.first + args.shards), chunksize=1)


if __name__ == "__main__":
    main()
