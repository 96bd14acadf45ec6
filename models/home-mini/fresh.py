"""Cases of the training kind that training has not seen: other seeds, but its own words and sentence patterns.

`python fresh.py | cargo run --release --example home_mini` beside the figures of the held-out cases says how much of
what is learned are the words themselves.
"""

import itertools
import json
import random
from collections.abc import Iterator

import conversations


def cases() -> Iterator[dict]:
    """Endless conversations, each up to a place where the model speaks; what it is to say there is expected."""
    rng = random.Random(3)
    for case in conversations.generate(999):
        i = rng.choice([i for i, m in enumerate(case["messages"]) if m["role"] == "assistant"])
        answer = case["messages"][i]
        calls = [call["function"] for call in answer.get("tool_calls", [])]
        category = "fresh: calls" if calls else "fresh: words"
        yield case | {"category": category, "messages": case["messages"][:i], "calls": calls, "text": answer["content"] or None}


if __name__ == "__main__":
    for one in itertools.islice(cases(), 400):
        print(json.dumps(one, ensure_ascii=False))
