"""What is compared: every row, its load, and what is wanted of it."""

from dataclasses import dataclass

# Samples that the highest quantile needs.
QUANTILE_SAMPLES = 100_000
MANY_QUEUES = 100_000


@dataclass(frozen=True)
class Metric:
    """A figure of a measurement."""

    label: str
    unit: str
    more_is_better: bool = False


METRICS = {
    "cpu_us": Metric("CPU per message", "us"),
    "rate": Metric("rate", "/s", more_is_better=True),
    "p50_us": Metric("p50", "us"),
    "p99_us": Metric("p99", "us"),
    "p999_us": Metric("p99.9", "us"),
    "p9999_us": Metric("p99.99", "us"),
    "seconds": Metric("time", "s"),
    "seconds_per_gib": Metric("time per GiB", "s"),
    "mib": Metric("anonymous memory", "MiB"),
}


@dataclass(frozen=True)
class Goal:
    """What is wanted of a metric: so many times better than RocketMQ, at most so many times the floor
    (or another measurement of ours), at most so much."""

    metric: str
    better: float | None = None
    floor: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the comparison. `load` are arguments of `mqtool bench`; rows without one are made by
    `lifecycle`."""

    name: str
    title: str
    goals: tuple[Goal, ...]
    load: tuple[str, ...] = ()
    flush: str = "async"
    rate: int | None = None
    reads: bool = False
    floor: bool = False

    @property
    def verb(self):
        return self.load[0] if self.load else ""

    @property
    def topic(self):
        return f"bench-{self.name}"

    def seconds(self, window):
        """A window long enough for the quantiles that are wanted."""
        long = any(goal.metric == "p9999_us" for goal in self.goals)
        return max(window, 1.02 * QUANTILE_SAMPLES / self.rate) if long and window >= 1 else window


def _send(connections, in_flight, *more):
    return ("send", "-c", str(connections), "-w", str(in_flight), *more)


def _open(rate):
    goals = (Goal("p50_us", 2), Goal("p99_us"), Goal("p999_us", 3), Goal("p9999_us", 3))
    return Row(f"open-{rate}", f"send, open loop, {rate:,} a second", goals, _send(4, 1024, "--rate", str(rate)), rate=rate)


def _sync(connections, in_flight, wanted):
    goals = (Goal("rate", wanted), Goal("p50_us"), Goal("cpu_us"))
    return Row(f"sync-{connections}x{in_flight}", f"send, sync flush, {connections} x {in_flight}", goals,
               _send(connections, in_flight), flush="sync")


ROWS = (
    Row("send-1x64", "send, 1 connection x 64, a write each", (Goal("cpu_us", 5), Goal("rate", 3.5)),
        _send(1, 64, "--write-each"), floor=True),
    Row("send-4x16", "send, 4 x 16", (Goal("cpu_us", 5, floor=1.6), Goal("rate")), _send(4, 16), floor=True),
    Row("batch-32", "send, batches of 32, 4 x 4", (Goal("cpu_us", 4, floor=1.6), Goal("rate")),
        _send(4, 4, "--batch", "32"), floor=True),
    Row("pull-32", "pull of 32, 4 x 4", (Goal("cpu_us", 5, floor=2), Goal("rate")),
        ("consume", "-c", "4", "-w", "4", "--batch", "32"), reads=True, floor=True),
    Row("ping-pong", "send, one at a time", (Goal("p50_us", 2), Goal("cpu_us")), _send(1, 1)),
    _open(5_000),
    _open(20_000),
    Row("deliver", "send to a waiting consumer", (Goal("p50_us", 5), Goal("p99_us")), ("deliver",)),
    _sync(1, 1, 3),
    _sync(64, 1, 2),
    _sync(8, 64, 3),
    Row("many-queues", f"send, 4 x 16, to {MANY_QUEUES:,} queues instead of 4", (Goal("cpu_us", floor=1.3),)),
    Row("topics", "creation of topics with 5,000 there", (Goal("rate", 20),)),
    Row("memory", "idle, 10 s after its start", (Goal("mib", 20),)),
    Row("memory-many", f"with {MANY_QUEUES:,} queues, a message in each", (Goal("mib", limit=300),)),
    Row("start", "process start to first stored send", (Goal("seconds", 10),)),
    Row("recovery", "kill -9 to first stored send, nothing flushed, beyond a plain start", (Goal("seconds_per_gib", 5),)),
    Row("recovery-default", "kill -9 to first stored send, a GiB sent, default settings", (Goal("seconds"),)),
)


def chosen(names):
    """The rows of these names, all if there are none."""
    unknown = sorted(set(names) - {row.name for row in ROWS})
    if unknown:
        raise ValueError(f"no row {', '.join(unknown)}; there are {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not names or row.name in names]
