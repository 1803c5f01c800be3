"""Rows that no load alone makes: start, memory, recovery, very many queues, very many topics."""

import os
import time

import machine
import remoting
from machine import GIB, MIB, CpuWatch, say
from pairs import arguments
from rows import MANY_QUEUES
from servers import STOCK_JVM, Ours, Peer

IDLE_S = 10.0
TOPICS_THERE = 5_000
RECOVERED_BYTES = GIB
REPEATS_MOST = 3
QUEUES_PER_TOPIC = 4
RECOVERY_LIMIT_S = 300.0
# Nothing is flushed and nothing of the index kept, so that all of the log is read again.
UNFLUSHED_OURS = ["flush_interval_ms=60000", "checkpoint_interval_ms=600000", f"checkpoint_log_bytes={16 * GIB}"]
UNFLUSHED_THEIRS = ["flushIntervalCommitLog=60000", "flushCommitLogThoroughInterval=600000",
                    "flushIntervalConsumeQueue=60000", "flushConsumeQueueThoroughInterval=600000"]


class Lifecycle:
    """Starts brokers of its own, ours and those of one peer, one at a time where it can."""

    def __init__(self, bench, root, binaries):
        self.bench = bench
        self.root = root
        self.binaries = binaries
        self.smoke = bench.window < 1

    def server(self, key, settings=(), pretouch=False):
        """A broker that is not started yet; `key` is that of a peer, or `ours`."""
        folder = os.path.join(self.bench.folder, key)
        if key in ("ours", "self"):
            return Ours(self.binaries, folder, settings, name=key)
        # Without touching its heap first it starts faster than with its own script.
        jvm = {} if pretouch else {"jvm": STOCK_JVM}
        return Peer(self.root, key, folder, settings, **jvm)

    def run(self, row, key):
        """The pairs of a row."""
        say(f"{row.title}: ours and {key}")
        if row.name == "topics":
            return self.topics(key)
        measure = {
            "memory": self.idle,
            "start": self.started,
            "recovery": lambda key: self.recovered(key, UNFLUSHED_OURS if key in ("ours", "self") else UNFLUSHED_THEIRS),
            "recovery-default": lambda key: self.recovered(key, []),
        }[row.name]

        most = self.bench.pairs if row.name == "start" else min(self.bench.pairs, REPEATS_MOST)
        return self.bench.repeat(row.name, lambda: self.watched(measure, "ours"), lambda: self.watched(measure, key), most)

    def watched(self, measure, key):
        self.bench.ready()
        watch = CpuWatch([])
        sample, server = measure(key)
        try:
            watch.pids = server.pids
            sample["others_cores"], sample["kernel_cores"] = watch.cores()
        finally:
            server.remove()
        return sample

    def started(self, key):
        server = self.server(key).start()
        return {"seconds": server.until_it_stores()}, server

    def idle(self, key):
        server = self.server(key, pretouch=True).start()
        server.until_it_stores()
        time.sleep(0.2 if self.smoke else IDLE_S)
        return {"mib": sum(machine.rss_anon(pid) for pid in server.pids) / MIB}, server

    def recovered(self, key, settings):
        server = self.server(key, settings).start()
        plain = server.until_it_stores()
        server.until_registered(self.bench.generator.program)
        wanted = 32 * MIB if self.smoke else RECOVERED_BYTES
        sent = 0
        while sent < wanted:
            report = self.bench.generator.run(
                server, arguments(server, ("send", "-c", "4", "-w", "4", "--batch", "32"), "recovered"), 0.001, 0.5)
            sent += report["messages"] * 1024
        server.kill()
        server.start()
        seconds = server.until_it_stores(RECOVERY_LIMIT_S)
        beyond = max(seconds - plain, 0.001) / (sent / GIB)
        return {"seconds": seconds, "plain_start_seconds": plain, "gib": sent / GIB, "seconds_per_gib": beyond}, server

    def topics(self, key):
        """Creating topics where many are."""
        there = 50 if self.smoke else TOPICS_THERE
        servers = {name: self.server(name, pretouch=True).start() for name in ("ours", key)}
        made = dict.fromkeys(servers, 0)

        def requests(name, most, seconds):
            deadline = time.monotonic() + seconds
            for _ in range(most):
                if time.monotonic() > deadline:
                    return
                made[name] += 1
                yield remoting.create(f"topic-{made[name]}", QUEUES_PER_TOPIC)

        def create(name, most, seconds):
            connection = remoting.Connection(servers[name].broker, timeout=60.0)
            try:
                connection.many(requests(name, most, seconds))
            finally:
                connection.close()

        def once(name):
            self.bench.ready()
            watch = CpuWatch([pid for server in servers.values() for pid in server.pids])
            before, first, begun = machine.ticks(servers[name].pid), made[name], time.monotonic()
            # Not for ever: a fast broker would soon have many more topics than the other.
            create(name, there // 5, self.bench.window)
            seconds, count = time.monotonic() - begun, made[name] - first
            others, kernel = watch.cores()
            used = (machine.ticks(servers[name].pid) - before) / machine.TICKS
            return {"rate": count / seconds, "cpu_us": used * 1e6 / count or None, "messages": count,
                    "others_cores": others, "kernel_cores": kernel}

        try:
            for name, server in servers.items():
                server.until_it_stores()
                create(name, there, 600.0)
            return self.bench.repeat("topics", lambda: once("ours"), lambda: once(key))
        finally:
            for server in servers.values():
                server.remove()

    def many_queues(self, queues=MANY_QUEUES):
        """Ours with few queues and with very many: two brokers, two topics each, a generator a topic."""
        say(f"ours with 4 and with {queues:,} queues")
        few, many = (Ours(self.binaries, os.path.join(self.bench.folder, name), name=name) for name in ("few", "many"))
        try:
            for server, count in ((few, 4), (many, queues)):
                server.start().until_it_stores()
                server.until_registered(self.bench.generator.program)
                connection = remoting.Connection(server.broker)
                connection.many(remoting.create(f"half-{half}", count // 2) for half in range(2))
                connection.close()
                time.sleep(1)  # Until the name server has heard of them.
            loads = [["send", "-c", "2", "-w", "16", "-t", f"half-{half}"] for half in range(2)]

            def once(server, other):
                self.bench.ready(few, many)
                return self.bench.generator.sample(server, loads, self.bench.window, other.pids)

            for server, other in ((few, many), (many, few)):
                # Every queue gets messages before it counts.
                self.bench.generator.sample(server, loads, min(4.0, 4 * self.bench.window), other.pids)
            return self.bench.repeat("many-queues", lambda: once(few, many), lambda: once(many, few))
        finally:
            few.remove()
            many.remove()

    def memory_many(self, queues=MANY_QUEUES):
        """Anonymous memory of ours with a message in each of very many queues of very many topics."""
        say(f"anonymous memory with {queues:,} queues")
        self.bench.ready()
        server = self.server("ours").start()
        try:
            server.until_it_stores()
            topics = queues // QUEUES_PER_TOPIC
            connection = remoting.Connection(server.broker, timeout=60.0)
            connection.many(remoting.create(f"topic-{number}", QUEUES_PER_TOPIC) for number in range(topics))
            connection.many(remoting.send(f"topic-{number}", queue)
                            for number in range(topics) for queue in range(QUEUES_PER_TOPIC))
            connection.close()
            time.sleep(0.2 if self.smoke else IDLE_S)
            sample = {"mib": sum(machine.rss_anon(pid) for pid in server.pids) / MIB, "others_cores": 0.0}
            return {"pairs": [{"ours": sample, "theirs": sample}], "discarded": 0, "disturbed": 0}
        finally:
            server.remove()
