"""From pairs to a table: medians, ratios, and whether what is wanted is reached."""

import json
import os
from statistics import median

import chart
from load import OTHERS_MOST_CORES
from rows import METRICS, QUANTILE_SAMPLES, ROWS
from servers import HEAP, PEERS, STOCK_JVM, rocketmq_version

# The peers that decide: the better of them counts.
DECISIVE = ("5-file", "5-rocksdb")
FIGURES = (
    ("rate", "messages/s"), ("cpu_us", "CPU us/message"), ("p50_us", "p50 us"), ("p99_us", "p99 us"),
    ("p999_us", "p99.9 us"), ("p9999_us", "p99.99 us"), ("rss_anon_mib", "RssAnon MiB"),
    ("written_bytes_per_message", "dirtied B/message"), ("generator_cpu_us", "generator us/message"),
    ("others_cores", "others, cores"), ("kernel_cores", "kernel threads, cores"), ("refused", "refused"),
)


def number(value):
    """Three digits, and thousands with commas."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def values(result, side, metric):
    """A metric of every sample of one side that has it."""
    found = [pair[side].get(metric) for pair in (result or {}).get("pairs", [])]
    return [value for value in found if value is not None]


def middle(numbers):
    return median(numbers) if numbers else None


def ratios(result, metric, ours_is_better_above=True):
    """How many times better ours is, for each pair; below 1 it is worse."""
    found = []
    for pair in (result or {}).get("pairs", []):
        ours, theirs = pair["ours"].get(metric), pair["theirs"].get(metric)
        if not ours or not theirs:
            continue
        better = ours / theirs if METRICS[metric].more_is_better else theirs / ours
        found.append(better if ours_is_better_above else 1 / better)
    return found


def lines(results, rows=ROWS):
    """A line of the table for each goal of each row that has results."""
    return [_line(row, goal, results[row.name]) for row in rows if results.get(row.name) for goal in row.goals]


def _line(row, goal, by_peer):
    metric = METRICS[goal.metric]
    better = {}
    for peer, result in by_peer.items():
        found = ratios(result, goal.metric)
        if found and peer in (*PEERS, "self"):
            better[peer] = {"median": median(found), "least": min(found), "most": max(found)}
    ours = middle([value for result in by_peer.values() for value in values(result, "ours", goal.metric)])
    line = {
        "row": row.name, "title": row.title, "metric": goal.metric, "label": metric.label, "unit": metric.unit,
        "ours": ours, "wanted": goal.better, "floor_wanted": goal.floor, "limit": goal.limit,
        "peers": {peer: middle(values(result, "theirs", goal.metric)) for peer, result in by_peer.items() if peer in (*PEERS, "self")},
        "better": better,
        "errors": {peer: result["error"] for peer, result in by_peer.items() if "error" in result},
    }
    decisive = [peer for peer in DECISIVE if peer in better] or list(better)
    line["against"] = min(decisive, key=lambda peer: better[peer]["median"], default=None)
    # The floor, or for very many queues our own broker with few: what costs the least.
    base = "floor" if "floor" in by_peer else "many" if "many" in by_peer else None
    if base and goal.metric == "cpu_us":
        times = ratios(by_peer[base], goal.metric, ours_is_better_above=False)
        if base == "many":
            line["ours"] = middle(values(by_peer[base], "theirs", goal.metric))
            line["floor"] = middle(values(by_peer[base], "ours", goal.metric))
            times = [1 / value for value in times]
        else:
            line["floor"] = middle(values(by_peer[base], "theirs", goal.metric))
        line["floor_times"] = middle(times)
    line["reached"] = _reached(line, any(peer in better for peer in DECISIVE))
    return line


def _reached(line, decided):
    """yes, no, or - while something that decides was not measured; a miss is a miss at once."""
    tests = []
    if line["wanted"] is not None:
        tests.append(line["better"][line["against"]]["median"] >= line["wanted"] if decided else None)
    if line["floor_wanted"] is not None:
        times = line.get("floor_times")
        tests.append(times <= line["floor_wanted"] if times else None)
    if line["limit"] is not None:
        tests.append(line["ours"] <= line["limit"] if line["ours"] is not None else None)
    if False in tests:
        return "no"
    return "-" if None in tests or not tests else "yes"


def _times(line):
    if not line["against"]:
        return "-"
    found = line["better"][line["against"]]
    return f"{number(found['median'])} ({number(found['least'])} to {number(found['most'])})"


def _wanted(line):
    wanted = [f"{number(line['wanted'])} x" if line["wanted"] else "",
              f"at most {number(line['limit'])} {line['unit']}" if line["limit"] else ""]
    return ", ".join(word for word in wanted if word) or "-"


def _table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _peer_title(root, peer):
    if peer == "self":
        return "ours again"
    return f"RocketMQ {rocketmq_version(root, peer)}, {PEERS[peer][0]}"


def markdown(run, root):
    """The whole report."""
    found = run["table"]
    peers = [peer for peer in (*PEERS, "self") if any(peer in results for results in run["results"].values())]
    header = ["load", "metric", "ours", *(_peer_title(root, peer) for peer in peers),
              "times better than the better 5.x", "wanted", "floor", "ours / floor", "wanted", "reached"]
    rows = []
    for line in found:
        floor = number(line.get("floor_times"))
        rows.append([
            line["title"], f"{line['label']}, {line['unit']}", number(line["ours"]),
            *("failed" if peer in line["errors"] else number(line["peers"].get(peer)) for peer in peers),
            _times(line), _wanted(line), number(line.get("floor")), floor,
            f"at most {number(line['floor_wanted'])}" if line["floor_wanted"] else "-", line["reached"],
        ])
    out = ["# BasaltMQ and RocketMQ in one run", "", "Made by `tools/bench-compare.sh`; do not edit.", ""]
    out += _table(header, rows)
    out += ["", *method(run, root), "", "![times better than RocketMQ](compare.svg)", "", "## Figures", "",
            "Medians over the windows of each broker, beside each peer. They are those of this machine.", ""]
    out += _table(["load", "pair", "broker", *(label for _, label in FIGURES)], _figures(run["results"]))
    errors = sorted({f"- {line['title']}, {peer}: {reason}" for line in found for peer, reason in line["errors"].items()})
    if errors:
        out += ["", "## Failed", "", *errors]
    return "\n".join(out) + "\n"


def _figures(results):
    for row in ROWS:
        for peer, result in results.get(row.name, {}).items():
            if not row.load and row.name != "many-queues":
                continue
            for side in ("ours", "theirs"):
                name = {"ours": "ours", "theirs": peer}[side]
                if peer == "many":
                    name = {"ours": "4 queues", "theirs": "very many"}[side]
                yield [row.title, peer, name, *(number(middle(values(result, side, key))) for key, _ in FIGURES)]


def method(run, root):
    """What was done, in sentences."""
    facts, how = run["facts"], run["method"]
    every = [result for by_peer in run["results"].values() for result in by_peer.values()]
    discarded = sum(result.get("discarded", 0) for result in every)
    kept = sum(result.get("disturbed", 0) for result in every)
    cache = ("The page cache was filled before measuring and whenever 1 GiB more had become free, as the first touch of a page "
             f"that a virtual machine had handed back to its host costs more than all else ({how['page_cache_fills']} times)."
             if how["page_cache"] else "The page cache was not filled.")
    yield (f"{facts['date']}; {facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, Linux {facts['kernel']}; "
           f"{facts['basaltmq']}, commit {facts['commit']}; {facts['java']}.")
    yield ""
    yield (f"1 KiB bodies, 4 queues, JSON headers, asynchronous flush, loopback, unless a row says otherwise. Brokers take turns "
           f"(A B, B A, …) under one generator, `mqtool bench`, {how['pairs']} pairs a row, windows of {number(how['window_s'])} s, "
           f"longer where p99.99 needs {QUANTILE_SAMPLES:,} samples; medians of the pairs' ratios, range in parentheses. CPU is "
           f"that of the broker's process. RocketMQ is warmed up for {number(how['warm_s'])} s at full load before each row. "
           f"Latency at a fixed rate counts from the time at which a request was due. {cache}")
    yield ""
    yield (f"A pair during which others used more than {OTHERS_MOST_CORES} cores was discarded and repeated: {discarded}; "
           f"{kept} such pairs had to be kept.")
    yield ""
    yield (f"Ours: `mqnamesrv` and `mqbroker` with their defaults. RocketMQ: defaults, a heap of {HEAP} (its script asks for 8g) and "
           f"the JVM options of its script: `{STOCK_JVM} -XX:+AlwaysPreTouch`, without the last where its start is timed, in its "
           "favour; 4.9.7 is the newest 4.9 whose broker is published. Its name server runs in the same process; the memory of "
           "ours includes that of `mqnamesrv`. With sync flush both have that setting alone. Segments that nobody reads any more "
           "are emptied between windows, as the disk is small. The floor is `benches/examples/floor`: the least that a broker "
           "can do. The RocksDB consume queue is `storeType=defaultRocksDB`.")


def save(run, root, out):
    """Writes compare.json, compare.md and compare.svg."""
    run["table"] = lines(run["results"])
    with open(os.path.join(out, "compare.json"), "w", encoding="utf-8") as file:
        json.dump(run, file, indent=1)
        file.write("\n")
    text = markdown(run, root)
    with open(os.path.join(out, "compare.md"), "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(out, "compare.svg"), "w", encoding="utf-8") as file:
        file.write(chart.bars(run["table"], run["facts"]))
    return text
