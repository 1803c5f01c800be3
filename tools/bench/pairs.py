"""Two brokers in turns under the same load: A B, B A, A B, and so on."""

import machine
from load import disturbed
from machine import say

# Others disturb a quiet machine now and then, and a busy one always.
REPEATS_PER_PAIR = 2
WARM_OURS_S = 2.0
# What is pulled later: so many messages a second for two seconds.
FILL_RATE = 40_000
FULL_LOAD = ("send", "-c", "4", "-w", "16")


class Bench:
    """How a run measures: the generator, the page cache, and the lengths of things."""

    def __init__(self, generator, page_cache, folder, pairs, window, warm, repeats=REPEATS_PER_PAIR):
        self.generator = generator
        self.page_cache = page_cache
        self.folder = folder
        self.pairs = pairs
        self.window = window
        self.warm = warm
        self.repeats = repeats

    def ready(self, *servers):
        """Before every measurement: the same disk and memory for everyone."""
        for server in servers:
            server.trim()
        machine.check_disk(self.folder)
        self.page_cache.fill()

    def repeat(self, name, mine, other, wanted=None):
        """Calls `mine` and `other`, each of which returns a sample, in turns: one first and then the other
        one, until there are enough undisturbed pairs, or too many were disturbed."""
        wanted = wanted or self.pairs
        pairs, discarded, kept_disturbed = [], 0, 0
        while len(pairs) < wanted:
            if len(pairs) % 2 == 0:
                ours = mine()
                theirs = other()
            else:
                theirs = other()
                ours = mine()
            if disturbed(ours, theirs):
                if discarded < self.repeats * wanted:
                    discarded += 1
                    continue
                kept_disturbed += 1
            pairs.append({"ours": ours, "theirs": theirs})
        if discarded:
            say(f"  {name}: {discarded} pairs discarded because others used the processor")
        return {"pairs": pairs, "discarded": discarded, "disturbed": kept_disturbed}


def arguments(server, load, topic):
    """The arguments of `mqtool bench` for a load."""
    place = ["--broker", server.broker] if server.name == "floor" else []
    return [*load, *place, "-t", topic]


def fill(bench, server, row):
    """Gives a row something to pull."""
    load = arguments(server, ("send", "--rate", str(FILL_RATE), "--batch", "32"), row.topic)
    bench.generator.run(server, load, 0.5, 2.0 if bench.window >= 1 else 0.3)


def compare(bench, ours, theirs, row):
    """The pairs of a row."""
    say(f"{row.title}: ours and {theirs.name}")
    seconds = row.seconds(bench.window)
    for server, warm in ((theirs, bench.warm), (ours, min(WARM_OURS_S, bench.warm))):
        bench.ready(ours, theirs)
        if row.reads:
            fill(bench, server, row)
        # At full load, so that a compiler that learns while running has learnt.
        load = FULL_LOAD if row.rate else row.load
        bench.generator.run(server, arguments(server, load, row.topic), 0.05, warm)

    def once(server, other):
        bench.ready(ours, theirs)
        return bench.generator.sample(server, [arguments(server, row.load, row.topic)], seconds, other.pids)

    return bench.repeat(row.name, lambda: once(ours, theirs), lambda: once(theirs, ours))
