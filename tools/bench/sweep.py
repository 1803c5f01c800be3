"""One thing varied at a time: `tools/bench-sweep.sh` says how to use it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

import machine
import remoting
import setup
from load import disturbed
from machine import GIB, Fatal, Trouble, say
from report import number
from servers import Ours, Peer

COLUMNS = (
    ("rate", "messages/s"), ("mib_s", "MiB/s"), ("cpu_us", "CPU us/message"), ("p50_us", "p50 us"), ("p99_us", "p99 us"),
    ("p999_us", "p99.9 us"), ("rss_anon_mib", "RssAnon MiB"), ("written_bytes_per_message", "dirtied B/message"),
    ("generator_cpu_us", "generator us/message"), ("others_cores", "others, cores"),
)
# A record is a body and about so much more.
RECORD_OVERHEAD = 1.15
SYNC_LIMIT_S = 60.0


@dataclass(frozen=True)
class Point:
    """One setting of what an axis varies. `loads` run at the same time and count together."""

    label: str
    loads: tuple[tuple[str, ...], ...]
    size: int = 1024
    flush: str = "async"
    queues: int = 4
    backlog_bytes: int = 0
    slave: bool = False

    @property
    def own_brokers(self):
        """Whether it needs a broker that no other point has used."""
        return self.flush != "async" or self.queues != 4 or self.backlog_bytes or self.slave


def _send(connections, in_flight, *more):
    return (("send", "-t", "sweep", "-c", str(connections), "-w", str(in_flight), *more),)


def _size(label, size):
    # No more than 64 MiB in flight.
    connections, in_flight = (4, 16) if size <= 65536 else (4, 4) if size <= 1 << 20 else (2, 2)
    return Point(f"{label}, {connections} x {in_flight}", _send(connections, in_flight, "-s", str(size)), size=size)


def _queues(count):
    halves = tuple(("send", "-t", f"half-{half}", "-c", "2", "-w", "16") for half in range(2))
    return Point(f"{count:,}", halves, queues=count)


def _backlog(label, size):
    return Point(label, (("consume", "-t", "backlog", "-c", "4", "-w", "4"),), backlog_bytes=size)


AXES = {
    "size": [_size(*pair) for pair in (("128 B", 128), ("1 KiB", 1024), ("4 KiB", 4096), ("64 KiB", 65536),
                                       ("1 MiB", 1 << 20), ("4 MiB", 1 << 22))],
    "batch": [Point(str(batch), _send(4, 4, "-b", str(batch))) for batch in (1, 8, 32, 128)],
    "in-flight": [Point(f"{connections} x {each}", _send(connections, each))
                  for connections, each in ((1, 1), (1, 16), (4, 16), (4, 128))],
    "queues": [_queues(count) for count in (4, 1_000, 10_000, 100_000)],
    "consumers": [Point(str(count), (("deliver", "-t", f"deliver-{count}", "--consumers", str(count), "--rate", "2000"),))
                  for count in (1, 10, 100, 1000)],
    "backlog": [_backlog("0.1 GiB", GIB // 10), _backlog("1 GiB", GIB), _backlog("10 GiB", 10 * GIB)],
    "flush": [Point("async", _send(4, 16)), Point("sync", _send(4, 16), flush="sync")],
    "slaves": [Point("0", _send(4, 16)), Point("1", _send(4, 16), slave=True)],
    "header": [Point(kind, _send(4, 16, "--header", kind)) for kind in ("json", "binary")],
}


class Slave(Ours):
    """A slave of ours, found through the name server of its master."""

    def __init__(self, master, folder):
        super().__init__(master.binaries, folder, ["role=slave", "broker_id=1"], name="slave")
        self.namesrv = master.namesrv

    def commands(self):
        return super().commands()[1:]

    def until_in_sync(self, mqtool):
        deadline = time.monotonic() + SYNC_LIMIT_S
        while True:
            self.alive()
            done = subprocess.run([mqtool, *self.target, "ha", "status"], capture_output=True, text=True, check=False)
            if "in sync" in done.stdout:
                return
            if time.monotonic() > deadline:
                raise Trouble(f"the slave was not in sync within {SYNC_LIMIT_S:.0f} s: {done.stdout}{done.stderr}")
            time.sleep(0.1)


class Sweep:
    """Measures points and keeps what it finds."""

    def __init__(self, bench, given, facts):
        self.bench = bench
        self.given = given
        self.found = {"facts": facts, "method": {"windows": bench.pairs, "window_s": bench.window, "warm_s": bench.warm},
                      "points": []}

    def server(self, key, point):
        folder = os.path.join(self.bench.folder, key)
        if key == "ours":
            return Ours(self.given.bin, folder, ["flush=sync"] if point.flush == "sync" else [])
        return Peer(setup.ROOT, key, folder, ["flushDiskType=SYNC_FLUSH"] if point.flush == "sync" else [])

    def all(self):
        for key in ("ours", *self.given.peers):
            for axis in self.given.axes:
                self.axis(key, axis)

    def axis(self, key, axis):
        """All points of an axis on one kind of broker."""
        server = None
        try:
            for point in AXES[axis]:
                say(f"{axis} {point.label}: {key}")
                try:
                    self.possible(key, point)
                    if server is None or point.own_brokers:
                        if server:
                            server.remove()
                        server = self.server(key, point).start().until_registered(self.bench.generator.program)
                    sample = self.point(server, point)
                except Fatal:
                    raise
                except Trouble as trouble:
                    say(f"  skipped: {trouble}")
                    sample = {"skipped": str(trouble)}
                    if server:
                        server.remove()
                    server = None
                self.found["points"].append({"axis": axis, "point": point.label, "broker": key, **sample})
                self.save()
        finally:
            if server:
                server.remove()

    def possible(self, key, point):
        """Raises when a point cannot be measured here."""
        verb = point.loads[0][0]
        if not self.bench.generator.knows(verb):
            raise Trouble(f"mqtool bench has no {verb!r} yet")
        if point.slave and key != "ours":
            raise Trouble("only ours is measured with a slave")
        free = machine.check_disk(self.bench.folder)
        needed = point.backlog_bytes * RECORD_OVERHEAD + machine.DISK_LEAST_BYTES + 2 * GIB
        if point.backlog_bytes and free < needed:
            raise Trouble(f"{needed / GIB:.0f} GiB of disk must be free and {free / GIB:.0f} GiB are")

    def point(self, server, point):
        """The medians of some windows."""
        slave = None
        try:
            if point.slave:
                slave = Slave(server, os.path.join(self.bench.folder, "slave"))
                slave.start().until_in_sync(self.bench.generator.program)
            self.prepare(server, point)
            warm = self.bench.warm if server.name != "ours" else min(self.bench.warm, 2.0)
            self.sample(server, point, warm, slave)
            samples, left = [], self.bench.pairs * (1 + self.bench.repeats)
            while len(samples) < self.bench.pairs:
                left -= 1
                sample = self.sample(server, point, self.bench.window, slave)
                if disturbed(sample) and left > 0:
                    continue
                samples.append(sample)
        finally:
            if slave:
                slave.remove()
        known = {key: [sample[key] for sample in samples if sample[key] is not None] for key in samples[0]}
        middle = {key: median(values) if values else None for key, values in known.items()}
        middle["mib_s"] = middle["rate"] * point.size / machine.MIB
        return middle

    def sample(self, server, point, seconds, slave):
        if not point.backlog_bytes:
            server.trim()
            if slave:
                slave.trim()
        machine.check_disk(self.bench.folder)
        self.bench.page_cache.fill()
        beside = slave.pids if slave else []
        return self.bench.generator.sample(server, [list(load) for load in point.loads], seconds, beside)

    def prepare(self, server, point):
        """Queues and messages that a point needs."""
        if point.loads[0][2].startswith("half-"):
            connection = remoting.Connection(server.broker, timeout=60.0)
            connection.many(remoting.create(f"half-{half}", point.queues // 2) for half in range(2))
            connection.close()
            time.sleep(1)  # Until the name server has heard of them.
        wanted = point.backlog_bytes if self.bench.window >= 1 else min(point.backlog_bytes, 32 * machine.MIB)
        sent = 0
        while sent < wanted:
            machine.check_disk(self.bench.folder)
            load = ["send", "-t", "backlog", "-c", "4", "-w", "4", "-b", "32"]
            sent += self.bench.generator.run(server, load, 0.001, 0.5)["messages"] * 1024

    def save(self):
        """Writes sweep.json and sweep.md."""
        with open(os.path.join(self.given.out, "sweep.json"), "w", encoding="utf-8") as file:
            json.dump(self.found, file, indent=1)
            file.write("\n")
        text = self.markdown()
        with open(os.path.join(self.given.out, "sweep.md"), "w", encoding="utf-8") as file:
            file.write(text)
        return text

    def markdown(self):
        facts, how = self.found["facts"], self.found["method"]
        out = ["# BasaltMQ, one thing varied at a time", "", "Made by `tools/bench-sweep.sh`; do not edit.", "",
               f"{facts['date']}; {facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, Linux {facts['kernel']}; "
               f"{facts['basaltmq']}, commit {facts['commit']}; {facts['java']}.", "",
               "4 connections x 16 sends in flight, 1 KiB bodies, 4 queues, JSON headers, asynchronous flush, no slave, unless the "
               f"point says otherwise; batches and pulls are 4 x 4 in flight. Medians of {how['windows']} windows of "
               f"{number(how['window_s'])} s. Many queues are those of two topics with a generator each. A backlog is pulled from "
               "its begin while it is in the page cache as far as it fits. Latencies of consumers are those of delivery at "
               "2,000 messages a second."]
        for axis in self.given.axes:
            points = [point for point in self.found["points"] if point["axis"] == axis]
            if not points:
                continue
            out += ["", f"## {axis}", "", "| " + " | ".join([axis, "broker", *(label for _, label in COLUMNS)]) + " |",
                    "|" + "---|" * (len(COLUMNS) + 2)]
            for point in points:
                cells = [point["skipped"] if "skipped" in point else number(point["rate"]),
                         *(number(point.get(key)) for key, _ in COLUMNS[1:])]
                out.append("| " + " | ".join([point["point"], point["broker"], *cells]) + " |")
        return "\n".join(out) + "\n"


def options(arguments):
    """Command line and environment."""
    parser = setup.parser("bench-sweep.sh")
    parser.add_argument("--axes", default="", type=setup.names)
    parser.add_argument("--peers", default="", type=setup.names)
    given = parser.parse_args(arguments)
    given.windows = setup.number(parser, "WINDOWS", 3, int)
    given.window = setup.number(parser, "WINDOW", 3)
    given.warm = setup.number(parser, "WARM_UP", 10)
    given.axes = given.axes or list(AXES)
    unknown = [axis for axis in given.axes if axis not in AXES]
    if unknown:
        parser.error(f"no axis {', '.join(unknown)}; there are {', '.join(AXES)}")
    setup.check_peers(parser, given.peers)
    if "self" in given.peers:
        parser.error("a sweep of ours needs no second broker of ours")
    # Last, as it may build them.
    given.bin = setup.binaries(parser)
    return given


def main():
    given = options(sys.argv[1:])

    def measure(folder):
        given.out = setup.results()
        bench = setup.bench(folder, given.bin, given.windows, given.window, given.warm, smoke=given.window < 1)
        sweep = Sweep(bench, given, machine.facts(setup.ROOT, given.bin))
        bench.page_cache.fill()
        sweep.all()
        print(sweep.save(), end="")
        return 0

    return setup.run("bench-sweep", measure)


if __name__ == "__main__":
    sys.exit(main())
