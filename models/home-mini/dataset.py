"""Token shards: conversations of a seed, encoded, for training.

`python dataset.py --shards 8` writes train-000.npz ... into the output folder, each from a seed of its own, so that any
shard can be made again alone. A shard holds `ids` (uint16, all conversations in a row), `wanted` (bool, whether the model
is to write this token) and `lengths` (int32, one for each conversation).
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
CONVERSATIONS_PER_SHARD = 5000
# From this shard on some conversations are as Home Assistant has them, which are longer: first come short ones.
FIRST_ASSIST_SHARD = 3
ASSIST_SHARE = 0.4
# Turns that ask what a thing is: many in the first shard, so that reading the list is learned first.
ABOUT_SHARES = (0.3, 0.07)
LONGEST = 2048


def unseen() -> set[str]:
    """Words in the names that held-out cases call, made up or of the held-out pools. Chance could make them again; training must not have them."""
    named = [str(value) for case in conversations.generate(0, "heldout") for call in case["calls"]
             for key, value in call["arguments"].items() if key in ("name", "area", "floor")]
    known = {word.capitalize() for word in words.TRAINED} | {"Battery", "Humidity", "Power", "Scene", "Temperature"}
    return set(re.findall("[A-Z][a-z]{2,}", " ".join(named))) - known


def is_fit(case: dict, never: set[str]) -> bool:
    """Whether a training conversation has none of the words in `never`."""
    return never.isdisjoint(re.findall("[A-Z][a-z]+", json.dumps(case["messages"])))


def encode(tokenizer: Tokenizer, case: dict) -> tuple[list[int], list[bool]]:
    """Ids and whether each is the model's. Pieces end at special tokens, so they are encoded alone."""
    ids: list[int] = []
    wanted: list[bool] = []
    for text, is_wanted in render.pieces(case):
        part = tokenizer.encode(text, add_special_tokens=False).ids
        ids += part
        wanted += [is_wanted] * len(part)
    return ids, wanted


def write_shard(number: int) -> None:
    path = OUT / f"train-{number:03}.npz"
    if path.exists():
        return
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    all_ids: list[np.ndarray] = []
    all_wanted: list[np.ndarray] = []
    never = unseen()
    assist = ASSIST_SHARE if number >= FIRST_ASSIST_SHARD else 0.0
    about = ABOUT_SHARES[min(number, 1)]
    made = (case for case in conversations.generate(1000 + number, assist=assist, about=about) if is_fit(case, never))
    for case in itertools.islice(made, CONVERSATIONS_PER_SHARD):
        ids, wanted = encode(tokenizer, case)
        all_ids.append(np.array(ids[:LONGEST], dtype=np.uint16))
        all_wanted.append(np.array(wanted[:LONGEST], dtype=bool))
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, ids=np.concatenate(all_ids), wanted=np.concatenate(all_wanted), lengths=np.array([len(a) for a in all_ids], dtype=np.int32))
    temporary.rename(path)
    print(f"{path}: {sum(map(len, all_ids))} tokens, {sum(a.sum() for a in all_wanted)} wanted", flush=True)


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
