"""What it costs to leave the rows on storage: prompts of different tokens and decoding, beside the table in memory.

    python3 benches/storage.py target/release/pled MODEL.gguf [--starts N] [--rounds N] [--prompt N] [--decode N] [--llama-bench PROGRAM]

Two daemons run, one with every row in memory (--ple-mode resident), one with the rows on the storage that MODEL lies on (--ple-mode
direct) and no cache of rows. Each round asks both for the same, in turns which of them is first, with an empty page cache: a
prompt of tokens that were never seen and an answer that repeats none of its own. Both are started --starts times, since
where their memory lies makes a difference of its own. Medians of all rounds' ratios count.

With --llama-bench that program of llama.cpp's stands beside them, with its lazy reading of tables (-lzm on) and without.
Emptying the page cache takes root; nothing but Python and pled is needed.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

from clients import Daemon

MODES = ["resident", "direct"]
WHAT = ["prefill", "decode"]


def drop_page_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


class RowDaemon(Daemon):
    """A daemon with one place, whose rows come from where `mode` says and are not kept."""

    def __init__(self, mode: str, args: argparse.Namespace):
        drop_page_cache()
        flags = ("--ple-mode", mode, "--ple-cache-bytes", "0")
        super().__init__(args.pled, args.model, 2, args.prompt + args.decode + 8, flags)

    def rates(self, prompt: list[int], n_decode: int) -> dict[str, float]:
        """Tokens of the prompt and of the answer in a second."""
        drop_page_cache()
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        # A penalty that no token which was seen outlives.
        body = {"prompt": prompt, "max_tokens": n_decode + 1, "temperature": 0, "repetition_penalty": 1e6}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        began, first, last, usage = time.monotonic(), None, None, None
        connection.request("POST", "/v1/completions", json.dumps(body))
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                last = time.monotonic()
                first = first or last
                told = json.loads(line[6:])
                if "error" in told:
                    raise SystemExit(told["error"])
                usage = told.get("usage") or usage
        if not usage or usage["prompt_tokens_details"]["cached_tokens"]:
            raise SystemExit(f"an answer without an end, or to a prompt that was known: {usage}")
        return {"prefill": len(prompt) / (first - began), "decode": (usage["completion_tokens"] - 1) / (last - first)}

    def metric(self, name: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)", connection.getresponse().read().decode(), re.M)[1])


def fresh_ids(begin: int, n: int) -> list[int]:
    """Token ids all over Gemma's vocabulary, of 262,144, none twice before all have come (Knuth's multiplicative hashing)."""
    return [i * 2_654_435_761 % 262_144 for i in range(begin, begin + n)]


def run_llama(lazy: str, args: argparse.Namespace) -> dict[str, float]:
    """Tokens a second that llama.cpp's bench program says."""
    drop_page_cache()
    words = [args.llama_bench, "-m", args.model, "-p", args.prompt, "-n", args.decode, "-r", 1, "-t", os.cpu_count(), "-lzm", lazy, "-o", "json"]
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return {"decode" if test["n_gen"] else "prefill": test["avg_ts"] for test in json.loads(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10, help="after each start")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt, all different")
    parser.add_argument("--decode", type=int, default=128, help="tokens that are decoded")
    parser.add_argument("--llama-bench", type=Path)
    args = parser.parse_args()
    if min(args.starts, args.rounds) < 1:
        raise SystemExit("--starts, --rounds: at least 1")
    speeds: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    n_seen = 0
    for _ in range(args.starts):
        daemons: dict[str, RowDaemon] = {}
        try:
            for mode in MODES:
                daemons[mode] = RowDaemon(mode, args)
            for number in range(args.rounds):
                prompt = fresh_ids(n_seen, args.prompt)
                n_seen += args.prompt
                for mode in MODES if number % 2 == 0 else MODES[::-1]:
                    speeds[mode].append(daemons[mode].rates(prompt, args.decode))
                told = (f"{what} {speeds['direct'][-1][what]:.2f} of {speeds['resident'][-1][what]:.2f} tokens/s" for what in WHAT)
                print(", ".join(told), flush=True)
            direct = daemons["direct"]
            reads, read_s, wait_s = map(direct.metric, ["pled_ple_reads_total", "pled_ple_read_seconds_sum", "pled_ple_wait_seconds_sum"])
            print(
                f"direct: {reads:.0f} reads for {args.rounds * (args.prompt + args.decode)} tokens, {read_s / max(reads, 1) * 1e3:.2f} ms each, "
                f"waited for {wait_s * 1e3:.1f} ms in all; {direct.resident_mb():.0f} MB, resident {daemons['resident'].resident_mb():.0f} MB"
            )
        finally:
            for daemon in daemons.values():
                daemon.end()
    for what in WHAT:
        ratios = [direct[what] / resident[what] for direct, resident in zip(speeds["direct"], speeds["resident"])]
        medians = {mode: statistics.median(speed[what] for speed in speeds[mode]) for mode in MODES}
        print(
            f"{what}: direct {statistics.median(ratios):.1%} of resident, median of {len(ratios)} rounds; "
            f"medians {medians['direct']:.2f} and {medians['resident']:.2f} tokens/s"
        )
    if args.llama_bench:
        for lazy in ["on", "off"]:
            told = run_llama(lazy, args)
            print(f"llama.cpp, lazy {lazy}: " + ", ".join(f"{what} {told[what]:.2f} tokens/s" for what in WHAT), flush=True)


if __name__ == "__main__":
    main()
