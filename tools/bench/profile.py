"""Where the broker's CPU goes, by what the code does: `tools/bench-profile.sh` says how to use it."""

import os
import re
import subprocess
import sys

import machine
import setup
from machine import Trouble, say
from report import number
from servers import Ours

HERTZ = 1999
LOADS = (
    ("send, 4 x 16", ("send", "-t", "single", "-c", "4", "-w", "16")),
    ("batches of 32, 4 x 4", ("send", "-t", "batch", "-c", "4", "-w", "4", "-b", "32")),
)
# The first that fits counts: thread, symbol, what it is.
PARTS = (
    ("index-write|rocksdb", "", "index: RocksDB and the thread that writes it"),
    ("log-flush|log-allocate", "", "flush and allocation of the log"),
    ("", r"\[k\].*(folio|ext4|xfs|iomap|filemap|jbd2|buffer|writepages|_da_|balance_dirty|copy_page|clear_page)",
     "kernel: the log's pages, copied into and made"),
    ("", r"\[k\].*(tcp|sk_|skb|sock|inet|ip_|loopback|copy_to_iter|copy_from_iter|netif|epoll|ep_)", "kernel: sockets"),
    ("", r"\[k\]", "kernel: system calls, wake-ups, the rest"),
    ("", "crc32", "checksums"),
    ("", "memmove|memcpy|memset|put_slice|copy_from_slice|extend_from_slice", "moving bytes"),
    ("", "memchr|property|stamp::scan|dispatch::terms", "properties"),
    ("", "record::|NewRecord|RecordView", "records"),
    ("", "storage::", "append, queues, reads"),
    ("", "protocol::(frame|header|request|batch|message_id|cursor|json)|from_utf8|<str>|core::num", "frames and headers"),
    ("", "protocol::|broker::", "connections and handlers"),
    ("", "malloc|free|realloc|calloc|alloc::", "memory allocation"),
    ("", "tokio|mio|futex|parking|core::task|std::sync", "runtime and locks"),
    ("", "", "the rest"),
)


def shares(data):
    """Parts of all samples, in percent."""
    command = ["perf", "report", "-i", data, "--stdio", "--no-children", "--sort", "comm,symbol", "-t", "\t"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = dict.fromkeys((name for *_, name in PARTS), 0.0)
    for line in done.stdout.splitlines():
        fields = line.split("\t")
        if line.startswith("#") or len(fields) < 3:
            continue
        percent, thread, symbol = (field.strip() for field in fields[:3])
        name = next(name for threads, symbols, name in PARTS if re.search(threads, thread) and re.search(symbols, symbol))
        found[name] += float(percent.rstrip("%"))
    if sum(found.values()) < 50:
        raise Trouble(f"perf found no samples: {done.stderr.strip()[-500:]}")
    return found


def profile(bench, server, load, seconds):
    """CPU of a message in microseconds, and its parts."""
    data = os.path.join(bench.folder, "perf.data")
    bench.generator.sample(server, [list(load)], 2)
    bench.ready(server)
    command = ["perf", "record", "-q", "-F", str(HERTZ), "-p", str(server.pid), "-o", data, "--", "sleep", str(seconds)]
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    sample = bench.generator.sample(server, [list(load)], seconds)
    _, words = recorder.communicate(timeout=60)
    if recorder.returncode:
        raise Trouble(f"perf record failed: {words.strip()}")
    if sample["cpu_us"] is None:
        raise Trouble(f"nothing was measured of {' '.join(load)}: {sample}")
    return sample["cpu_us"], shares(data)


def markdown(facts, seconds, columns):
    out = ["# Where the CPU of BasaltMQ's broker goes", "", "Made by `tools/bench-profile.sh`; do not edit.", "",
           f"{facts['date']}; {facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}; {facts['basaltmq']}, commit "
           f"{facts['commit']}. 1 KiB bodies, 4 queues, JSON headers, asynchronous flush, {number(seconds)} s each; microseconds "
           "of CPU a message and percent of it, from samples of all threads. Sampling itself makes everything dearer: the "
           "comparison has the prices, this has the shares.", "",
           "| part | " + " | ".join(title for title, *_ in columns) + " |", "|---" * (len(columns) + 1) + "|",
           "| all | " + " | ".join(number(cpu) for _, cpu, _ in columns) + " |"]
    for *_, name in PARTS:
        cells = [f"{number(cpu * found[name] / 100)} ({found[name]:.0f} %)" for _, cpu, found in columns]
        out.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(out) + "\n"


def main():
    parser = setup.parser("bench-profile.sh")
    parser.parse_args(sys.argv[1:])
    seconds = setup.number(parser, "WINDOW", 8)
    binaries = setup.binaries(parser)

    def measure(folder):
        bench = setup.bench(folder, binaries, 1, seconds, 2, smoke=seconds < 1)
        server = Ours(binaries, os.path.join(folder, "ours")).start().until_registered(bench.generator.program)
        columns = []
        for title, load in LOADS:
            say(title)
            columns.append((title, *profile(bench, server, load, seconds)))
        server.remove()
        text = markdown(machine.facts(setup.ROOT, binaries), seconds, columns)
        with open(os.path.join(setup.results(), "profile.md"), "w", encoding="utf-8") as file:
            file.write(text)
        print(text, end="")
        return 0

    return setup.run("bench-profile", measure)


if __name__ == "__main__":
    sys.exit(main())
