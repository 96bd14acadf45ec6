"""Time to the first token of a long prompt: computed, repeated with another last sentence, and after a restart.

    python3 benches/prefix.py target/release/pled MODEL.gguf [--rounds N] [--tokens N] [--drop]

Each round begins another prompt, of about N tokens (2500), in a folder of its own for what outlasts the daemon. --drop empties
the page cache before the restart, which root may. Nothing but Python and pled is needed; medians of the rounds' ratios count.
"""

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import clients

# How long what a talk leaves may take to reach the disk: a minute of silence, and the writing. Unit: s.
WRITING_LIMIT_S = 180
QUESTIONS = ["Which lamps are on?", "Is the door shut?", "How warm is it?"]


class Daemon(clients.Daemon):
    """With room for four sequences, as by default."""

    def __init__(self, pled: Path, model: Path, sessions: str):
        super().__init__(pled, model, 5, 4096, ("--session-dir", sessions))

    def ask(self, prompt: str) -> tuple[float, dict]:
        """Seconds to the first token of the answer, and the usage."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        began, first, usage = time.monotonic(), None, None
        connection.request("POST", "/v1/completions", json.dumps(body))
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                first = first or time.monotonic() - began
                usage = json.loads(line[6:]).get("usage") or usage
        assert first and usage, "an answer without a token"
        return first, usage

    def pieces(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        return int(re.search(rb"^pled_store_pieces (\d+)", connection.getresponse().read(), re.M)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=2500)
    parser.add_argument("--drop", action="store_true")
    args = parser.parse_args()
    again, restarted = [], []
    with tempfile.TemporaryDirectory(dir=args.model.resolve().parent) as sessions:
        daemon = Daemon(args.pled, args.model, sessions)
        for number in range(args.rounds):
            # Nearly every word is a token.
            beginning = clients.words(random.Random(number), args.tokens) + ". "
            kept = daemon.pieces()
            first_s, usage = daemon.ask(beginning + QUESTIONS[0])
            again_s, shared = daemon.ask(beginning + QUESTIONS[1])
            given_up = time.monotonic() + WRITING_LIMIT_S
            while daemon.pieces() == kept:
                if time.monotonic() > given_up:
                    raise SystemExit(
                        f"nothing was written for {WRITING_LIMIT_S} s: is the prompt of {usage['prompt_tokens']} tokens long enough to be "
                        "worth it, and has the disk room?"
                    )
                time.sleep(0.1)
            daemon.end()
            if args.drop:
                subprocess.run(["sync"], check=True)
                Path("/proc/sys/vm/drop_caches").write_text("3")
            daemon = Daemon(args.pled, args.model, sessions)
            restarted_s, restored = daemon.ask(beginning + QUESTIONS[2])
            cached = [u.get("prompt_tokens_details", {}).get("cached_tokens") for u in (shared, restored)]
            print(f"{usage['prompt_tokens']} tokens: first {first_s * 1e3:.0f} ms, again {again_s * 1e3:.1f} ms ({cached[0]} known), "
                  f"after a restart {restarted_s * 1e3:.1f} ms ({cached[1]} known)", flush=True)
            again.append(first_s / again_s)
            restarted.append(first_s / restarted_s)
        daemon.end()
    print(f"again: {statistics.median(again):.1f} times as fast, after a restart {statistics.median(restarted):.1f} times (medians)")


if __name__ == "__main__":
    main()
