"""Answers one after the other: their speed, the daemon's major page faults, and what is written to the model's disk meanwhile.

    python3 benches/endurance.py target/release/pled MODEL.gguf [--answers N] [--minutes M] [--limit BYTES]

Answers of 256 tokens to prompts that are all different, N of them (20) and for at least M minutes (0), after two that warm up. With --limit
a second daemon gets the same prompts, in turns with the first, in a control group that may hold so many bytes, page cache
included, which takes root. Bytes written are those of the disk's own counter, and of all who write to it: a file system that
only MODEL is on tells the daemon's. Nothing but Python and pled is needed.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import time
from pathlib import Path

from clients import Daemon, words

ANSWER_TOKENS = 256
WARM_UP_ANSWERS = 2
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Group:
    """A new control group of Linux's version 1 or 2 for memory; in a `with` this process is in it, and what it begins stays."""

    def __init__(self, limit: int):
        controller = "memory" if (CONTROL_GROUPS / "memory").is_dir() else ""
        entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        before = next(path for _, controllers, path in entries if controller in controllers.split(","))
        self.before = CONTROL_GROUPS / controller / before.lstrip("/")
        self.path = CONTROL_GROUPS / controller / f"pled-{os.getpid()}"
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if controller else "memory.max")).write_text(str(limit))

    def __enter__(self) -> None:
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def __exit__(self, *_) -> None:
        (self.before / "cgroup.procs").write_text(str(os.getpid()))

    def most_held(self) -> int:
        """Bytes that the group has held at most; where an older kernel does not say, what it holds now."""
        of_versions = [self.path / name for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current")]
        return next(int(path.read_text()) for path in of_versions if path.exists())

    def remove(self) -> None:
        self.path.rmdir()


def major_faults(pid: int) -> int:
    # Behind the name, which may have spaces: see proc_pid_stat(5).
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])


def bytes_written(path: Path) -> int:
    """To the disk that the file is on, since it is there; sectors of 512 bytes, see the kernel's Documentation/block/stat.rst."""
    device = path.stat().st_dev
    return int(Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6]) * 512


def answer(port: int, prompt: str) -> tuple[int, float]:
    """Tokens of the answer, and how many came in a second behind the first one."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = {"prompt": prompt, "max_tokens": ANSWER_TOKENS, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    connection.request("POST", "/v1/completions", json.dumps(body))
    first, last, usage = None, None, None
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            told = json.loads(line[6:])
            assert "error" not in told, told
            usage = told.get("usage") or usage
            last = time.monotonic()
            first = first or last
    assert usage, "an answer that was not ended"
    n = usage["completion_tokens"]
    assert n > 1, "the model ends its answer at once"
    return n, (n - 1) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--limit", type=int, help="bytes of memory")
    args = parser.parse_args()
    group = Group(args.limit) if args.limit else None
    daemons: dict[str, Daemon] = {}
    try:
        daemons["without a limit"] = Daemon(args.pled, args.model, 2)
        if group:
            with group:
                daemons[f"in {args.limit / 1e6:.0f} MB"] = Daemon(args.pled, args.model, 2)
        measure(daemons, args)
        if group:
            print(f"the control group held {group.most_held() / 1e6:.0f} MB at most")
    finally:
        for daemon in daemons.values():
            daemon.end()
        if group:
            group.remove()


def measure(daemons: dict[str, Daemon], args: argparse.Namespace) -> None:
    rng = random.Random(7)
    for _ in range(WARM_UP_ANSWERS):
        prompt = words(rng, 40)
        for daemon in daemons.values():
            answer(daemon.port, prompt)
    os.sync()
    began, written = time.monotonic(), bytes_written(args.model)
    faults = {name: major_faults(daemon.process.pid) for name, daemon in daemons.items()}
    rates: dict[str, list[float]] = {name: [] for name in daemons}
    n_tokens, n_answers = dict.fromkeys(daemons, 0), 0
    while n_answers < args.answers or time.monotonic() - began < args.minutes * 60:
        prompt = words(rng, 40)
        for name in list(daemons)[:: 1 if n_answers % 2 == 0 else -1]:
            n, rate = answer(daemons[name].port, prompt)
            n_tokens[name] += n
            rates[name].append(rate)
        n_answers += 1
    # What is still on its way to the disk belongs to it.
    os.sync()
    print(f"{time.monotonic() - began:.0f} s, {bytes_written(args.model) - written} bytes written to the disk")
    for name, daemon in daemons.items():
        print(
            f"{name}: {n_answers} answers, {n_tokens[name]} tokens, {statistics.median(rates[name]):.2f} tokens/s median; "
            f"{major_faults(daemon.process.pid) - faults[name]} major faults; {daemon.resident_mb():.0f} MB resident"
        )
    if len(daemons) == 2:
        free, limited = rates.values()
        print(f"with the limit {statistics.median(b / a for a, b in zip(free, limited)):.1%} of the rate without, median of {n_answers} answers")


if __name__ == "__main__":
    main()
