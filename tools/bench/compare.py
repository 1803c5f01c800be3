"""Compares our broker with real RocketMQ brokers; `tools/bench-compare.sh` says how to use it."""

import os
import sys

import lifecycle
import machine
import pairs
import report
import rows
import setup
from machine import Fatal, Trouble, say
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


def options(arguments):
    """Command line and environment."""
    parser = setup.parser("bench-compare.sh")
    parser.add_argument("--rows", default="", type=setup.names)
    parser.add_argument("--peers", default="", type=setup.names)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    given.pairs = setup.number(parser, "PAIRS", 1 if given.smoke else 5, int)
    given.window = setup.number(parser, "WINDOW", 0.3 if given.smoke else 3)
    given.warm = setup.number(parser, "WARM_UP", 0.2 if given.smoke else 20)
    given.floor = os.environ.get("FLOOR") or ""
    if given.floor and not os.access(given.floor, os.X_OK):
        parser.error(f"FLOOR: {given.floor} is no program; cargo build --release -p benches --example floor makes it")
    given.peers = given.peers or (["self"] if given.smoke else list(PEERS))
    setup.check_peers(parser, given.peers)
    try:
        given.chosen = rows.chosen(given.rows or (SMOKE_ROWS if given.smoke else []))
    except ValueError as error:
        parser.error(str(error))
    # Last, as it may build them.
    given.bin = setup.binaries(parser)
    return given


def main():
    given = options(sys.argv[1:])

    def measure(folder):
        given.out = setup.results(folder) if given.smoke else setup.results()
        bench = setup.bench(folder, given.bin, given.pairs, given.window, given.warm, given.smoke)
        run = Run(bench, given, setup.ROOT, machine.facts(setup.ROOT, given.bin))
        run.all(given.chosen)
        print(run.save(), end="")
        failed = any("error" in result for by_peer in run.found["results"].values() for result in by_peer.values())
        return 1 if failed else 0

    return setup.run("bench-compare", measure)


if __name__ == "__main__":
    sys.exit(main())
