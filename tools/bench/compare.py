"""Compares our broker with real RocketMQ brokers; `tools/bench-compare.sh` says how to use it."""

import argparse
import os
import shutil
import sys
import tempfile

import lifecycle
import machine
import pairs
import processes
import report
import rows
from load import Generator
from machine import Fatal, PageCache, Trouble, say
from servers import PEERS, Floor, Ours, Peer

SYNC_OURS = ["flush=sync"]
SYNC_THEIRS = ["flushDiskType=SYNC_FLUSH"]
SMOKE_ROWS = ["send-1x64", "batch-32", "pull-32", "open-5000", "sync-1x1", "start"]


class Run:
    """One run: what it measures, and what it has found so far."""

    def __init__(self, bench, options, root, facts):
        self.bench = bench
        self.options = options
        self.root = root
        self.lifecycle = lifecycle.Lifecycle(bench, root, options.bin)
        self.found = {
            "facts": facts,
            "method": {"pairs": bench.pairs, "window_s": bench.window, "warm_s": bench.warm,
                       "page_cache": bench.page_cache.wanted, "page_cache_fills": 0, "peers": options.peers},
            "results": {},
        }

    def keep(self, row, peer, measure):
        """Adds what `measure` returns, or why it could not; every row that is measured is saved at once."""
        try:
            result = measure()
        except Fatal:
            raise
        except Trouble as trouble:
            say(f"  {row.name} against {peer} failed: {trouble}")
            result = {"pairs": [], "discarded": 0, "disturbed": 0, "error": str(trouble)}
        self.found["results"].setdefault(row.name, {})[peer] = result
        self.found["method"]["page_cache_fills"] = self.bench.page_cache.fills
        self.save()
        return "error" not in result

    def save(self):
        return report.save(self.found, self.root, self.options.out)

    def server(self, key, settings):
        folder = os.path.join(self.bench.folder, key)
        if key in ("ours", "self"):
            return Ours(self.options.bin, folder, settings, name=key)
        if key == "floor":
            return Floor(self.options.floor, folder)
        return Peer(self.root, key, folder, settings)

    def loads(self, key, chosen, flush):
        """All rows under load with one flush mode, ours beside one peer."""
        waiting = [row for row in chosen if row.load and row.flush == flush and self.possible(row)]
        while waiting:
            machine.check_disk(self.bench.folder)
            ours = self.server("ours", SYNC_OURS if flush == "sync" else [])
            settings = (SYNC_OURS if key == "self" else SYNC_THEIRS) if flush == "sync" else []
            theirs = self.server(key, settings)
            try:
                for server in (ours, theirs):
                    server.start().until_registered(self.bench.generator.program)
                good = True
                while waiting and good:
                    row = waiting.pop(0)
                    good = self.keep(row, key, lambda row=row: pairs.compare(self.bench, ours, theirs, row))
            finally:
                ours.remove()
                theirs.remove()

    def possible(self, row):
        if self.bench.generator.knows(row.verb):
            return True
        say(f"skipped {row.name}: mqtool bench has no {row.verb!r} yet")
        return False

    def all(self, chosen):
        self.bench.page_cache.fill()
        for key in self.options.peers:
            for flush in ("async", "sync"):
                self.loads(key, chosen, flush)
            for row in chosen:
                if not row.load and row.name not in ("many-queues", "memory-many"):
                    self.keep(row, key, lambda row=row: self.lifecycle.run(row, key))
        for row in chosen:
            if row.name == "many-queues":
                self.keep(row, "many", self.lifecycle.many_queues)
            if row.name == "memory-many":
                self.keep(row, "ours", self.lifecycle.memory_many)
        if self.options.floor:
            if self.bench.generator.knows("send", "--broker"):
                self.loads("floor", [row for row in chosen if row.floor], "async")
            else:
                say("skipped the floor: mqtool bench has no --broker yet")


def positive(kind):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if value <= 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
        return value

    return parse


def options(arguments):
    """Command line and environment."""
    parser = argparse.ArgumentParser(prog="bench-compare.sh", add_help=False)
    parser.add_argument("--rows", default="")
    parser.add_argument("--peers", default="")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)

    def number(name, default, kind):
        try:
            return positive(kind)(os.environ.get(name) or str(default))
        except argparse.ArgumentTypeError as error:
            parser.error(f"{name}: {error}")

    given.pairs = number("PAIRS", 1 if given.smoke else 5, int)
    given.window = number("WINDOW", 0.3 if given.smoke else 3, float)
    given.warm = number("WARM_UP", 0.2 if given.smoke else 20, float)
    given.bin = os.environ["BIN"]
    given.floor = os.environ.get("FLOOR") or ""
    given.peers = [name for name in given.peers.split(",") if name] or (["self"] if given.smoke else list(PEERS))
    names = [name for name in given.rows.split(",") if name] or (SMOKE_ROWS if given.smoke else [])
    try:
        given.chosen = rows.chosen(names)
    except ValueError as error:
        parser.error(str(error))
    unknown = [name for name in given.peers if name not in PEERS and name != "self"]
    if unknown:
        parser.error(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)} and self, a second broker of ours")
    for name in ("mqbroker", "mqnamesrv", "mqtool"):
        if not os.access(os.path.join(given.bin, name), os.X_OK):
            parser.error(f"BIN: {given.bin} has no program {name}; make it with cargo build --release --workspace --bins")
    if given.floor and not os.access(given.floor, os.X_OK):
        parser.error(f"FLOOR: {given.floor} is no program")
    if set(given.peers) & set(PEERS):
        for tool in ("java", "mvn"):
            if not shutil.which(tool):
                parser.error(f"{tool} is missing: the real RocketMQ needs it")
    return given


def main():
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    given = options(sys.argv[1:])
    processes.end_on_signals()
    folder = tempfile.mkdtemp(prefix="bench-compare.")
    given.out = os.environ.get("OUT") or (folder if given.smoke else os.path.join(root, "benches", "results"))
    try:
        os.makedirs(given.out, exist_ok=True)
        machine.check_disk(folder)
        bench = pairs.Bench(Generator(given.bin), PageCache(folder, wanted=not given.smoke), folder,
                            given.pairs, given.window, given.warm, repeats=0 if given.smoke else pairs.REPEATS_PER_PAIR)
        run = Run(bench, given, root, machine.facts(root, given.bin))
        run.all(given.chosen)
        print(run.save(), end="")
        failed = any("error" in result for by_peer in run.found["results"].values() for result in by_peer.values())
        return 1 if failed else 0
    except Trouble as trouble:
        say(f"bench-compare.sh: {trouble}")
        return 1
    finally:
        processes.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
