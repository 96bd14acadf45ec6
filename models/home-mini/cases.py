"""Cases for pled's tests, held-out ones and fresh ones, with the ids of their prompts.

`python cases.py > ../../tests/fixtures/home-mini/cases.jsonl`. The tests hold pled's rendering and tokenizer against these
ids, which training's own renderer and the tokenizers package made, and ask the model for the answers.
"""

import itertools
import json

from tokenizers import Tokenizer

import conversations
import dataset
import fresh


def main() -> None:
    tokenizer = Tokenizer.from_file(str(dataset.HERE / "tokenizer.json"))
    held_out = list(conversations.generate(0, "heldout"))[::90]
    # Blank lines, which training has not: people write them into system turns.
    spaced = next(case for case in held_out if case["messages"][0]["role"] == "system")
    system = spaced["messages"][0]["content"].replace("\n", "\n\n", 1)
    spaced = spaced | {"category": "blank lines", "messages": [{"role": "system", "content": system}, *spaced["messages"][1:]]}
    for case in [*held_out, *itertools.islice(fresh.cases(), 30), spaced]:
        ids, _ = dataset.encode(tokenizer, case)
        print(json.dumps(case | {"prompt_ids": ids}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
