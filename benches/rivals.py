"""pled's speed beside llama.cpp's and LiteRT-LM's, in turn, in the same run.

    python3 benches/rivals.py MODEL.gguf --pled target/release/pled [--llama-bench llama-bench] [--llama-server llama-server]
        [--litert-lm litert-lm --litert-model FILE.litertlm] [--rounds N] [--threads N] [--prefill N] [--decode N] [--depth N] [--batch B]
        [--idle SECONDS]

A round runs every program once; before the first round each runs once unmeasured, which fills the page cache and LiteRT-LM's cache of
weights. Told are medians, the least and the most of the rounds, and ratios as medians of the rounds' ratios. Of the rivals each
may be left out. `--depth` and `--batch` are measured with pled, `--depth` with llama-bench too. Loading is the time from the
program's start until it serves: pled's until its ready notification, llama-server's until /health says so. `--idle` tells the processor
time of a daemon that nobody asks. One line of JSON per round goes to `--log FILE`. Nothing but Python and the programs is needed; the machine should be idle.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

START_LIMIT_S = 300


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
    text = output(
        args.litert_lm, "benchmark", args.litert_model, "--backend", "cpu", "-p", args.prefill, "-d", args.decode,
        "--max-num-tokens", 2 * (args.prefill + args.decode), "--cpu-thread-count", args.threads, "--cache", "disk",
    )  # fmt: skip
    rates = {kind.lower(): float(rate) for kind, rate in re.findall(r"(Prefill|Decode)[^\n]*?([\d.]+) *tok", text)}
    if set(rates) != {"prefill", "decode"}:
        raise SystemExit(f"no rates of prefill and decode in what litert-lm says:\n{text}")
    return rates


def serving_pled(args: argparse.Namespace) -> tuple[subprocess.Popen, float]:
    """A daemon, and the seconds until systemd would have been told that it is ready."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = f"{folder}/notify"
        notify.bind(path)
        notify.settimeout(START_LIMIT_S)
        words = [args.pled, "serve", "--model", args.model, "--listen", "127.0.0.1:0", "--threads", str(args.threads)]
        began = time.monotonic()
        process = subprocess.Popen(words, env=os.environ | {"NOTIFY_SOCKET": path}, stderr=subprocess.DEVNULL)
        while b"READY=1" not in notify.recv(4096):
            pass
        return process, time.monotonic() - began


def pled_start(args: argparse.Namespace) -> float:
    process, took = serving_pled(args)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return took


def idle_share(args: argparse.Namespace) -> float:
    """Processor time over time of a daemon that nobody asks."""
    process, _ = serving_pled(args)

    def ticks() -> int:
        # Fields 14 and 15 count from behind the name, which may have blanks.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(2)
    before = ticks()
    time.sleep(args.idle)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / args.idle
    process.send_signal(signal.SIGTERM)
    process.wait()
    return share


def llama_start(args: argparse.Namespace) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [args.llama_server, "-m", args.model, "-t", str(args.threads), "--port", str(port), "-c", "4096", "-np", "1", "--no-warmup"]
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while time.monotonic() - began < START_LIMIT_S:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            time.sleep(0.01)
        finally:
            connection.close()
    else:
        process.kill()
        raise SystemExit(f"llama-server did not answer within {START_LIMIT_S} s")
    took = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.wait()
    return took


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
    parser.add_argument("--litert-lm", type=Path)
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
    if (args.litert_lm is None) != (args.litert_model is None):
        parser.error("--litert-lm and --litert-model go together")
    programs: dict[str, tuple[Callable[[argparse.Namespace], dict[str, float]], Callable[[argparse.Namespace], float] | None]] = {
        "pled": (pled, pled_start)
    }
    if args.llama_bench or args.llama_server:
        programs["llama.cpp"] = (llama_bench if args.llama_bench else lambda _: {}, llama_start if args.llama_server else None)
    if args.litert_lm:
        programs["LiteRT-LM"] = (litert, None)
    for name, (rates, start) in programs.items():
        if (program := getattr(args, {"pled": "pled", "llama.cpp": "llama_bench", "LiteRT-LM": "litert_lm"}[name])) and not shutil.which(program):
            parser.error(f"{program} is no program")
        rates(args)

    rounds: list[dict[str, dict[str, float]]] = []
    for i in range(args.rounds):
        found = {}
        for name, (rates, start) in programs.items():
            found[name] = rates(args)
            if start:
                found[name]["start, s"] = start(args)
        rounds.append(found)
        line = json.dumps({"round": i + 1, "at": time.strftime("%FT%T"), **found})
        print(line, flush=True)
        if args.log:
            with args.log.open("a") as log:
                log.write(line + "\n")
    tell(rounds)
    if args.idle:
        print(f"idle for {args.idle} s: {100 * idle_share(args):.2f} % of one core")


if __name__ == "__main__":
    main()
