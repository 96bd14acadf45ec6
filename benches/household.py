"""A home assistant's day, put to pled and to llama.cpp's server: how long each lets one wait for the first token.

    python3 benches/household.py MODEL.gguf --pled target/release/pled --llama-server llama-server [--seed N] [--threads N]

The day is made up, the same for both: instructions of some 2,200 tokens with the tools, behind them what the house is like,
which changes four times; spoken commands of one or two turns; talks of two people; a report that a program asks for with
instructions of its own. Requests come one after the other and are texts to be continued, so that both get the same tokens. What a
history says was answered is made up too. Of the two either may be left out. Nothing but Python and the servers is needed.
"""

import argparse
import http.client
import json
import random
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clients import WORDS, percentile

# What an answer may take, and a server until it is ready. Unit: s.
ANSWER_LIMIT_S = 600
START_LIMIT_S = 120
# How often a server is asked whether it is ready. Unit: s.
POLL_S = 0.01
CONTEXT = 4096


def day(seed: int) -> Iterator[tuple[str, str, int]]:
    """(who asks, prompt, tokens of the answer), in the order of the day."""
    rng = random.Random(seed)
    words = lambda low, high: " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))
    instructions, program = words(2200, 2200), words(150, 150)

    def conversation(who: str, begins_with: str, n_turns: int, said: tuple[int, int], answered: tuple[int, int]) -> Iterator[tuple[str, str, int]]:
        history = begins_with
        for _ in range(n_turns):
            n_answer = rng.randint(*answered)
            history += f"\nUser: {words(*said)}\nHouse:"
            yield who, history, n_answer
            history += " " + words(n_answer, n_answer)

    for _ in ("morning", "noon", "evening", "night"):
        begins_with = f"{instructions}\nState: {words(300, 300)}"
        talks = [conversation("command", begins_with, 1 + (rng.randrange(4) == 0), (8, 24), (15, 40)) for _ in range(rng.randint(3, 8))]
        talks += [conversation("talk", begins_with, rng.randint(2, 5), (20, 60), (40, 80)) for _ in range(2) if rng.randrange(3) == 0]
        talks.append(conversation("report", program, 1, (250, 700), (60, 120)))
        rng.shuffle(talks)
        for talk in talks:
            yield from talk


class Server:
    """One of the two, once it answers."""

    def __init__(self, words: list[str], port: int, readiness: str):
        # A file: nobody reads a pipe while the server runs.
        self.log = tempfile.NamedTemporaryFile("r+")
        self.port, self.readiness = port, readiness
        began = time.monotonic()
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        while not self.is_ready():
            assert self.process.poll() is None and time.monotonic() - began < START_LIMIT_S, Path(self.log.name).read_text()[-2000:]
            time.sleep(POLL_S)
        self.start_s = time.monotonic() - began

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_LIMIT_S)
        try:
            connection.request("GET", self.readiness)
            return connection.getresponse().status == 200
        except OSError:
            return False

    def ask(self, prompt: str, n_tokens: int) -> tuple[float, float, int]:
        """Seconds to the first token and to the end, and the tokens of the prompt."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        body = {"prompt": prompt, "max_tokens": n_tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        began, first, usage = time.monotonic(), None, None
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: {"):
                first = first or time.monotonic() - began
                usage = json.loads(line[6:]).get("usage") or usage
        assert first and usage, "an answer without a token"
        return first, time.monotonic() - began, usage["prompt_tokens"]

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def live(name: str, server: Server, seed: int) -> list[float]:
    waits: dict[str, list[float]] = {}
    total_s, n_prompt = 0.0, 0
    for who, prompt, n_tokens in day(seed):
        first_s, whole_s, n = server.ask(prompt, n_tokens)
        waits.setdefault(who, []).append(first_s)
        total_s, n_prompt = total_s + whole_s, n_prompt + n
    everybody = [wait for of_one in waits.values() for wait in of_one]
    for who, of_one in [*waits.items(), ("all", everybody)]:
        print(f"{name}, {who}: {len(of_one)} requests, first token median {statistics.median(of_one):.3f} s, "
              f"95th percentile {percentile(of_one, 0.95):.2f} s, longest {max(of_one):.2f} s", flush=True)
    print(f"{name}: {n_prompt} tokens of prompts, {total_s:.0f} s of answering, {server.resident_mb():.0f} MB resident at the end", flush=True)
    return everybody


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pled", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    both = {}
    with tempfile.TemporaryDirectory(dir=args.model.resolve().parent) as sessions:
        if args.pled:
            port = free_port()
            words = [args.pled, "serve", "--model", args.model, "--listen", f"127.0.0.1:{port}", "--session-dir", sessions]
            server = Server([*words, "--n-ctx", str(CONTEXT), "--threads", str(args.threads)], port, "/readyz")
            both["pled"] = live("pled", server, args.seed)
            server.end()
        if args.llama_server:
            port = free_port()
            words = [args.llama_server, "-m", args.model, "--host", "127.0.0.1", "--port", str(port), "-np", "1", "-c", str(CONTEXT)]
            server = Server([*words, "-t", str(args.threads)], port, "/health")
            both["llama.cpp"] = live("llama.cpp", server, args.seed)
            server.end()
    if len(both) == 2:
        ours, theirs = both["pled"], both["llama.cpp"]
        print(f"llama.cpp lets one wait {statistics.median(theirs) / statistics.median(ours):.1f} times as long in the median, "
              f"{percentile(theirs, 0.95) / percentile(ours, 0.95):.1f} times at the 95th percentile")


if __name__ == "__main__":
    main()
