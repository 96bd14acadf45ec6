"""Kills an emulated board at random moments while its daemon answers and writes prefixes down: does every next boot serve?

    python3 tests/board/power_cuts.py DEB [N] [--seed S]

Needs root, and what `image` makes. The package is installed once on a disk that keeps what is written. Then, N times (50), the board
boots, must answer a question as the first time and know prompts of before, is given more that are worth keeping, two with each beginning, and
loses its power between two of the emulator's instructions, at any moment up to eight seconds later. What the board had given to its disk by
then survives: a disk that forgets what it took is not tried.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("PLED_CACHE", Path.home() / ".cache/pled-dev")) / "board"
BOOT_LIMIT_S = 240
LONGEST_LIFE_S = 8
# Shorter beginnings are not worth a file.
BEGINNING_TOKENS = 300
# So many of the last beginnings may be on their way to the disk.
IN_FLIGHT = 4
# Of home-mini: behind its special tokens and bytes come texts.
N_VOCAB = 2048
FIRST_PLAIN_TOKEN = 300

PREPARE = """#!/bin/bash
set -euo pipefail
printf '\\nlisten = ["0.0.0.0:50051"]\\nallow_unauthenticated_lan = true\\nsession_daily_bytes = "1TB"\\n' >> /etc/pled/pled.toml
systemctl enable --now pled
systemctl is-active pled
"""
LIVE = """#!/bin/bash
sleep 1000
"""


class Board:
    """An emulated board that runs until its power is cut."""

    def __init__(self, disk: Path, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        script, self.pid_file = folder / "live", folder / "pid"
        script.write_text(LIVE)
        self.pid_file.unlink(missing_ok=True)
        command = [HERE / "boot", "--disk", disk, "--forward", str(self.port), "--pid", self.pid_file, "--timeout", "1000", script]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.boot = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, prompt: str | list[int], n_tokens: int) -> tuple[str, int]:
        """The answer, and how many tokens of the prompt were known."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = {"prompt": prompt, "max_tokens": n_tokens, "temperature": 0}
        connection.request("POST", "/v1/completions", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def metric(self, name: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return next(int(line.split()[-1]) for line in lines if line.startswith(name + " "))

    def wait(self) -> float:
        """Until it is ready; seconds."""
        began = time.monotonic()
        while time.monotonic() - began < BOOT_LIMIT_S:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return time.monotonic() - began
            except (OSError, http.client.HTTPException):
                pass
            if self.boot.poll() is not None:
                sys.exit(f"the board ended by itself: {self.log.read_text()}")
            time.sleep(0.2)
        sys.exit(f"the board does not serve after {BOOT_LIMIT_S} s")

    def cut(self) -> None:
        if self.pid_file.exists() and self.boot.poll() is None:
            os.kill(int(self.pid_file.read_text()), signal.SIGKILL)
        self.boot.wait()


def write_prompts(board: Board, rng: random.Random, known: list[list[int]]) -> None:
    """Prompts two by two, which begin alike and do not go on alike, until the power goes."""
    word = lambda: rng.randrange(FIRST_PLAIN_TOKEN, N_VOCAB)
    try:
        while True:
            beginning = [word() for _ in range(BEGINNING_TOKENS)]
            for _ in range(2):
                board.ask([*beginning, word(), word()], 1)
            known.append(beginning)
    except (OSError, http.client.HTTPException, ValueError):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deb", type=Path)
    parser.add_argument("cuts", type=int, nargs="?", default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    subprocess.run([HERE / "image"], check=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        disk = Path(folder) / "disk"
        subprocess.run(["cp", "--sparse=always", CACHE / "root.ext4", disk], check=True)
        script = Path(folder) / "prepare"
        script.write_text(PREPARE)
        subprocess.run([HERE / "boot", "--disk", disk, "--deb", args.deb, script], check=True)
        known: list[list[int]] = []
        booting, restored, first = [], 0, None
        for n in range(args.cuts + 1):
            board = Board(disk, Path(folder))
            writing = threading.Thread(target=write_prompts, args=(board, random.Random(rng.random()), known), daemon=True)
            try:
                booting.append(board.wait())
                answer, _ = board.ask("turn on the kitchen light", 16)
                first = answer if first is None else first
                if answer != first:
                    sys.exit(f"after {n} cuts: {answer!r}, not {first!r}")
                if board.metric("pled_store_damaged_total"):
                    sys.exit(f"after {n} cuts a file is damaged")
                # The last ones may not have been written when the power went.
                if len(known) > IN_FLIGHT:
                    if board.ask([*rng.choice(known[:-IN_FLIGHT]), FIRST_PLAIN_TOKEN], 1)[1] < BEGINNING_TOKENS:
                        sys.exit(f"after {n} cuts a prompt is not known that was computed long before")
                    restored += 1
                if n < args.cuts:
                    writing.start()
                    time.sleep(rng.uniform(0, LONGEST_LIFE_S))
            finally:
                board.cut()
            if n < args.cuts:
                writing.join()
            print(f"cut {n}: ready after {booting[-1]:.0f} s, {len(known)} beginnings computed, {restored} found again", flush=True)
    booting.sort()
    print(f"{args.cuts} cuts, every boot served; ready after {booting[len(booting) // 2]:.0f} s in the median, {booting[-1]:.0f} s at most")


if __name__ == "__main__":
    main()
