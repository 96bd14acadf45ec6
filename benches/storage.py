"""What it costs to leave the rows on storage: prompts of different tokens and decoding, beside the table in memory.

    python3 benches/storage.py target/release/pled MODEL.gguf [--rounds N] [--prompt N] [--decode N] [-- --threads 4 ...]

Each round runs `pled bench` once with every row in memory (--ple-mode resident) and once with the rows on the storage that MODEL lies
on (--ple-mode direct), in turns which of them is first; the page cache is emptied before each run, which takes root. What is behind
`--` goes to both. Nothing but Python and pled is needed; medians of the rounds' ratios count.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

MODES = ["resident", "direct"]


def run(pled: Path, mode: str, args: argparse.Namespace) -> dict:
    """What `pled bench` says with nothing of the model in the page cache."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    words = [pled, "bench", "--model", args.model, "--ple-mode", mode, "-p", args.prompt, "-n", args.decode, "-r", 1, "--json"]
    done = subprocess.run([str(word) for word in words] + args.flags, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"pled bench --ple-mode {mode} ended with {done.returncode}")
    return json.loads(done.stdout)


def main() -> None:
    mine, flags = sys.argv[1:], []
    if "--" in mine:
        at = mine.index("--")
        mine, flags = mine[:at], mine[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pled", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt, all different")
    parser.add_argument("--decode", type=int, default=128, help="tokens that are decoded")
    args = parser.parse_args(mine, argparse.Namespace(flags=flags))
    if args.rounds < 1:
        raise SystemExit("--rounds: at least 1")
    ratios: dict[str, list[float]] = {"prefill": [], "decode": []}
    for number in range(args.rounds):
        order = MODES if number % 2 == 0 else MODES[::-1]
        told = {mode: run(args.pled, mode, args) for mode in order}
        speed = {mode: {what: told[mode][f"{what}_tok_s"]["median"] for what in ratios} for mode in MODES}
        words = []
        for what, of_rounds in ratios.items():
            ratio = speed["direct"][what] / speed["resident"][what]
            of_rounds.append(ratio)
            words.append(f"{what} {speed['direct'][what]:.2f} of {speed['resident'][what]:.2f} tokens/s, {ratio:.1%}")
        ple = told["direct"]["ple"]
        if ple is None:
            raise SystemExit("this model has no rows on storage")
        words.append(
            f"{ple['reads']} reads of {ple['read_p50_us'] / 1e3:.2f} ms (p99 {ple['read_p99_us'] / 1e3:.2f}), "
            f"waited {ple['wait_ms']:.1f} ms"
        )
        memory = " and ".join(f"{told[mode]['rss_mb']:.0f} MB {mode}" for mode in MODES)
        print("; ".join([*words, memory]), flush=True)
    medians = ", ".join(f"{what} {statistics.median(of_rounds):.1%}" for what, of_rounds in ratios.items())
    print(f"direct of resident, medians of {args.rounds} rounds: {medians}")


if __name__ == "__main__":
    main()
