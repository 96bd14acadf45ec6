"""How much further the tokens of answers are from each other while a long prompt enters.

    python3 benches/gap.py target/release/pled MODEL.gguf [--answers N,N] [--tokens N] [--rounds N]

N answers are under way (1, then 4) when a prompt of some 2,000 tokens comes whose own answer is one token. Told are the median
time between two tokens before it, and the longest while it is computed. Nothing but Python and pled is needed.
"""

import argparse
import json
import http.client
import random
import statistics
import threading
import time
from pathlib import Path

from clients import Daemon, words

ANSWER_TOKENS = 400
# So many tokens of each answer come before the prompt does.
BEFORE = 40


class Answer(threading.Thread):
    """A client that reads an answer and notes when each token came."""

    def __init__(self, port: int, prompt: str, n_tokens: int):
        super().__init__(daemon=True)
        self.port, self.prompt, self.n_tokens = port, prompt, n_tokens
        self.times: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = {"prompt": self.prompt, "max_tokens": self.n_tokens, "temperature": 0, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body))
        for line in connection.getresponse():
            if line.startswith(b"data: {") and any(choice["text"] for choice in json.loads(line[6:])["choices"]):
                self.times.append(time.monotonic())


def gaps(answers: list[Answer], begin: float, end: float) -> list[float]:
    """Times between two tokens of an answer that both came between the two moments, from the shortest."""
    pairs = [pair for answer in answers for pair in zip(answer.times, answer.times[1:])]
    return sorted(after - before for before, after in pairs if begin <= before and after <= end)


def measure(port: int, rng: random.Random, n_answers: int, n_tokens: int) -> float:
    """The longest time between two tokens while the prompt is computed, in medians of those before."""
    answers = [Answer(port, words(rng, 20), ANSWER_TOKENS) for _ in range(n_answers)]
    for answer in answers:
        answer.start()
    while min(len(answer.times) for answer in answers) < BEFORE:
        if not all(answer.is_alive() for answer in answers):
            raise SystemExit(f"an answer ended before its token {BEFORE}")
        time.sleep(0.01)
    # Their own prompts are computed by now.
    settled = max(answer.times[BEFORE // 2] for answer in answers)
    began = time.monotonic()
    prompt = Answer(port, words(rng, n_tokens), 1)
    prompt.start()
    prompt.join()
    ended = time.monotonic()
    running = all(answer.is_alive() for answer in answers)
    for answer in answers:
        answer.join()
    before, during = gaps(answers, settled, began), gaps(answers, began, ended)
    median = statistics.median(before)
    ratio = during[-1] / median
    print(
        f"{n_answers} answers: {median * 1e3:.0f} ms between two tokens, median; while the prompt is computed, in {ended - began:.1f} s, "
        f"{statistics.median(during) * 1e3:.0f} ms, at most {during[-1] * 1e3:.0f} ms, {ratio:.2f} times"
        + ("" if running else "; an answer ended before the prompt was computed"),
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--answers", default="1,4", help="answers under way")
    parser.add_argument("--tokens", type=int, default=2000, help="tokens of the prompt, about")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    daemon, rng = Daemon(args.pled, args.model, 8), random.Random(5)
    try:
        for n_answers in map(int, args.answers.split(",")):
            ratios = [measure(daemon.port, rng, n_answers, args.tokens) for _ in range(args.rounds)]
            print(f"{n_answers} answers, median of {args.rounds} rounds: {statistics.median(ratios):.2f} times, at most {max(ratios):.2f}")
    finally:
        daemon.end()


if __name__ == "__main__":
    main()
