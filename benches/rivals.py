"""pled's speed beside llama.cpp's and LiteRT-LM's, in turn, in the same run.

    python3 benches/rivals.py MODEL.gguf --pled target/release/pled [--llama-bench llama-bench --llama-server llama-server]
        [--litert litert-lm --litert-model MODEL.litertlm] [--rounds N] [--threads N] [--prefill N]
        [--decode N] [--depth N] [--batch B] [--idle SECONDS] [--log FILE]

A round runs every program once; before the first each measures its rates once for nothing, which fills the page cache. Told are
medians, the least and the most of the rounds, and ratios as medians of the rounds' ratios. `--depth` is measured with llama-bench too,
`--batch` with pled alone, a start not with LiteRT-LM, which has a file of its own of the same shape. A start lasts until the server says
that it is ready; `--idle` tells the processor time of a daemon that nobody asks. One line of JSON per round goes to `--log FILE`. Nothing but Python and the programs is needed; the machine should be idle.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from household import Server, free_port


def output(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def pled(args: argparse.Namespace) -> dict[str, float]:
    """Rates in tokens a second, shares of the machine's limits, and MB of memory."""

    def bench(*flags: object) -> dict:
        n_ctx = args.depth + args.decode + args.prefill + 64
        return json.loads(output(args.pled, "bench", "--json", "--model", args.model, "-t", args.threads, "-r", 1, "--n-ctx", n_ctx, *flags))

    plain = bench("-p", args.prefill, "-n", args.decode)
    found = {
        "prefill": plain["prefill_tok_s"]["median"],
        "decode": plain["decode_tok_s"]["median"],
        "share of bandwidth": plain["decode_share_of_bandwidth"],
        "bandwidth, GB/s": plain["read_bandwidth_gb_s"],
        "share of integer peak": plain["prefill_share_of_peak"],
        "resident, MB": plain["rss_mb"],
    }
    if args.depth:
        found["decode behind depth"] = bench("-p", 16, "-n", args.decode, "--depth", args.depth)["decode_tok_s"]["median"]
    if args.batch > 1:
        found["decode, batch"] = bench("-p", 16, "-n", args.decode, "--batch", args.batch)["decode_tok_s"]["median"]
    return found


def llama_bench(args: argparse.Namespace) -> dict[str, float]:
    def bench(*flags: object) -> dict[str, float]:
        text = output(args.llama_bench, "-m", args.model, "-t", args.threads, "-r", 1, "-o", "json", *flags)
        return {("prefill" if test["n_prompt"] else "decode"): test["avg_ts"] for test in json.loads(text)}

    found = bench("-p", args.prefill, "-n", args.decode)
    if args.depth:
        found["decode behind depth"] = bench("-p", 0, "-n", args.decode, "-d", args.depth)["decode"]
    return found


def litert(args: argparse.Namespace) -> dict[str, float]:
    flags = ["-p", args.prefill, "-d", args.decode, "--max-num-tokens", 2 * (args.prefill + args.decode)]
    text = output(args.litert, "benchmark", args.litert_model, "--backend", "cpu", "--cpu-thread-count", args.threads, "--cache", "disk", *flags)

    def speed(of: str) -> float:
        _, found, rest = text.partition(f"{of} speed:")
        if not found:
            raise SystemExit(f"no speed of {of} in what litert-lm says:\n{text}")
        return float(rest.split()[0])

    return {"prefill": speed("Prefill"), "decode": speed("Decode")}


def start_pled(args: argparse.Namespace) -> Server:
    port = free_port()
    words = [args.pled, "serve", "--model", args.model, "--listen", f"127.0.0.1:{port}", "--threads", str(args.threads)]
    return Server(words, port, "/readyz")


def start_llama(args: argparse.Namespace) -> Server:
    port = free_port()
    words = [args.llama_server, "-m", args.model, "-t", str(args.threads), "--port", str(port), "-c", "4096", "-np", "1", "--no-warmup"]
    return Server(words, port, "/health")


def idle_share(server: Server, seconds: int) -> float:
    """Processor time over time of a server that nobody asks."""

    def ticks() -> int:
        # User and system time, fields 14 and 15: counted from behind the name, which may have blanks.
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    # It makes a copy of its output head first.
    time.sleep(20)
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def tell(rounds: list[dict[str, dict[str, float]]]) -> None:
    names = list(rounds[0])
    print("\n| | " + " | ".join(names) + " | " + " | ".join(f"pled / {name}" for name in names[1:]) + " |")
    print("|---" * (2 * len(names)) + "|")
    for quantity in rounds[0]["pled"]:
        cells = [spread([r[name][quantity] for r in rounds]) if quantity in rounds[0][name] else "" for name in names]
        ratios = [
            f"{statistics.median(r['pled'][quantity] / r[name][quantity] for r in rounds):.2f}" if quantity in rounds[0][name] else ""
            for name in names[1:]
        ]
        print(f"| {quantity} | " + " | ".join(cells + ratios) + " |")
    for name in names:
        for of, to in (("decode behind depth", "decode"), ("decode, batch", "decode")):
            if of in rounds[0][name]:
                print(f"{name}: {of} over {to}, median of the rounds: {statistics.median(r[name][of] / r[name][to] for r in rounds):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pled", type=Path, required=True)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--litert", type=Path)
    parser.add_argument("--litert-model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--idle", type=int, default=0, metavar="SECONDS")
    parser.add_argument("--log", type=Path, help="one line of JSON for each round")
    args = parser.parse_args()
    programs = {"pled": (pled, start_pled)}
    if args.llama_bench and args.llama_server:
        programs["llama.cpp"] = (llama_bench, start_llama)
    elif args.llama_bench or args.llama_server:
        parser.error("--llama-bench and --llama-server go together")
    if args.litert and args.litert_model:
        programs["LiteRT-LM"] = (litert, None)
    elif args.litert or args.litert_model:
        parser.error("--litert and --litert-model go together")
    for rates, _ in programs.values():
        rates(args)

    rounds: list[dict[str, dict[str, float]]] = []
    for i in range(args.rounds):
        found = {}
        for name, (rates, start) in programs.items():
            found[name] = rates(args)
            if start:
                server = start(args)
                found[name]["start, s"] = server.start_s
                server.end()
        rounds.append(found)
        line = json.dumps({"round": i + 1, "at": time.strftime("%FT%T"), **found})
        print(line, flush=True)
        if args.log:
            with args.log.open("a") as log:
                log.write(line + "\n")
    tell(rounds)
    if args.idle:
        server = start_pled(args)
        print(f"idle for {args.idle} s: {100 * idle_share(server, args.idle):.2f} % of one core")
        server.end()


if __name__ == "__main__":
    main()
