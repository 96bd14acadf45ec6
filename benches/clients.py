"""Several clients at once for some minutes: how much more they get than one, the gaps between tokens, and memory.

    python3 benches/clients.py target/release/pled MODEL.gguf [--clients N] [--minutes M] [--alone-minutes M]

The daemon has as many places as there are clients, an eighth of them in its queue, so that one more request is refused; every
ten seconds one more is tried. Half of the prompts begin with the same instructions of some 1,200 tokens and end with a question of
their own, the others are short or, seldom, some 300 tokens that nobody has sent before. Answers have 32 to 96 tokens. First
one client works alone. Nothing but Python and pled is needed.
"""

import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

WORDS = "kitchen hall office garden light lamp plug heater blind door radio fan morning evening left right small large old new".split()
TRY_ONE_MORE_S = 10


class Daemon:
    def __init__(self, pled: Path, model: Path, n_clients: int, n_ctx: int = 2048, flags: tuple[str, ...] = ()):
        queue = max(1, n_clients // 8)
        words = [pled, "serve", "--model", model, "--listen", "127.0.0.1:0", "--n-ctx", str(n_ctx), *flags]
        words += ["--max-sessions", str(n_clients - queue), "--queue-depth", str(queue)]
        # A file: nobody reads a pipe while the daemon runs.
        self.log = tempfile.NamedTemporaryFile("r+")
        self.process = subprocess.Popen(words, stderr=self.log)
        while not (found := re.search(r"listen=127\.0\.0\.1:(\d+)", text := Path(self.log.name).read_text())) or "] ready" not in text:
            assert self.process.poll() is None, text
            time.sleep(0.1)
        self.port = int(found[1])

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


INSTRUCTIONS = words(random.Random(0), 1200) + ". "


def prompt(rng: random.Random) -> str:
    match rng.randrange(8):
        case 0 | 1 | 2 | 3:
            return INSTRUCTIONS + words(rng, 20)
        case 4 | 5 | 6:
            return words(rng, rng.randint(10, 60))
        case _:
            return words(rng, 300)


class Client(threading.Thread):
    """Asks without pause until told to stop."""

    def __init__(self, port: int, seed: int, stop: threading.Event):
        super().__init__(daemon=True)
        self.port, self.rng, self.stop = port, random.Random(seed), stop
        self.n_tokens, self.gaps, self.waits, self.refused = 0, [], [], 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.ask()

    def ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = {"prompt": prompt(self.rng), "max_tokens": self.rng.randint(32, 96), "temperature": 0, "stream": True}
        began = last = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        if response.status != 200:
            assert response.status in (429, 503), (response.status, response.read())
            self.refused += 1
            return
        n = 0
        for line in response:
            if not line.startswith(b"data: {") or self.stop.is_set():
                continue
            now = time.monotonic()
            if not any(choice["text"] for choice in json.loads(line[6:])["choices"]):
                continue
            if n == 0:
                self.waits.append(now - began)
            else:
                self.gaps.append(now - last)
            n, last = n + 1, now
        self.n_tokens += n
        connection.close()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def measure(daemon: Daemon, n_clients: int, seconds: float, seed: int) -> float:
    stop = threading.Event()
    clients = [Client(daemon.port, seed + i, stop) for i in range(n_clients)]
    one_more = Client(daemon.port, seed + n_clients, threading.Event())
    memory = []
    began = time.monotonic()
    for client in clients:
        client.start()
    while time.monotonic() - began < seconds:
        time.sleep(min(TRY_ONE_MORE_S, seconds))
        memory.append(daemon.resident_mb())
        if n_clients > 1:
            one_more.ask()
    stop.set()
    elapsed = time.monotonic() - began
    for client in clients:
        client.join()
    gaps = [gap for client in clients for gap in client.gaps]
    waits = [wait for client in clients for wait in client.waits]
    tokens = [client.n_tokens for client in clients]
    rate = sum(tokens) / elapsed
    print(f"{n_clients} clients, {elapsed:.0f} s: {rate:.1f} tokens/s, of a client {min(tokens)} to {max(tokens)}; "
          f"gaps median {statistics.median(gaps) * 1e3:.0f} ms, 95th percentile {percentile(gaps, 0.95) * 1e3:.0f} ms, "
          f"longest {max(gaps) * 1e3:.0f} ms; first tokens median {statistics.median(waits):.2f} s, "
          f"95th percentile {percentile(waits, 0.95):.2f} s; refused {sum(c.refused for c in clients)} "
          f"and {one_more.refused} of the ones more; "
          f"resident MB after {TRY_ONE_MORE_S} s {memory[0]:.0f}, half-way {memory[len(memory) // 2]:.0f}, at the end {memory[-1]:.0f}",
          flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--alone-minutes", type=float, default=2)
    args = parser.parse_args()
    daemon = Daemon(args.pled, args.model, args.clients)
    alone = measure(daemon, 1, args.alone_minutes * 60, 1)
    together = measure(daemon, args.clients, args.minutes * 60, 100)
    daemon.end()
    print(f"{args.clients} clients get {together / alone:.2f} times what one gets")


if __name__ == "__main__":
    main()
