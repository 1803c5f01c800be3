"""One measurement: `mqtool bench` runs, and this watches the machine meanwhile."""

import json
import os
import subprocess
import time

import machine
import processes
from machine import Trouble

# A measurement counts only if others used no more cores than this.
OTHERS_MOST_CORES = 0.3
# Within every run, before its window: connections are warm.
LEAD_IN_S = 0.5


class Generator:
    """The load generator, and what it can do."""

    def __init__(self, binaries):
        self.program = os.path.join(binaries, "mqtool")
        self.help = {}

    def _words(self, *verb):
        if verb not in self.help:
            done = subprocess.run([self.program, "bench", *verb, "--help"], capture_output=True, text=True, check=False)
            self.help[verb] = done.stdout if done.returncode == 0 else ""
        return self.help[verb]

    def knows(self, verb, option=""):
        """Whether it has a verb, with an option if given."""
        words = self._words(verb)
        return bool(words) and option in words

    def start(self, server, arguments, warm_up, seconds):
        command = [self.program, *server.target, "-o", "json", "--timeout", "10s", "bench", *arguments,
                   "--warm-up", f"{max(int(warm_up * 1000), 1)}ms", "--duration", f"{max(int(seconds * 1000), 1)}ms",
                   "--server-pid", str(server.pid)]
        return processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process, server, limit_s):
        """The report of a run. Refusals are part of it: RocketMQ refuses what has queued for too long."""
        try:
            out, words = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise Trouble(f"mqtool bench against {server.name} did not end within {limit_s:.0f} s") from None
        finally:
            processes.kill(process)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if not lines:
            server.alive()
            raise Trouble(f"mqtool bench against {server.name} failed: {words.strip()}")
        return json.loads(lines[-1])

    def run(self, server, arguments, warm_up, seconds):
        return self.finish(self.start(server, arguments, warm_up, seconds), server, warm_up + seconds + 60)

    def sample(self, server, loads, seconds, beside=()):
        """Measures once. Several loads run at the same time and count together; `beside` are processes of
        the other broker, which is idle."""
        written = machine.written(server.pid)
        watch = machine.CpuWatch([*server.pids, *beside])
        runs = [self.start(server, load, LEAD_IN_S if seconds >= 1 else 0.05, seconds) for load in loads]
        reports = [self.finish(run, server, seconds + 60) for run in runs]
        others, kernel = watch.cores()
        spent = time.monotonic() - watch.begun
        messages = sum(report.get("messages", 0) for report in reports)
        first = reports[0]

        def per_message(key):
            total = sum((report.get(key) or 0) * report.get("messages", 0) for report in reports)
            return total / messages if messages else None

        server_cpu = per_message("server_cpu_us_per_message")
        if server_cpu is not None:
            server_cpu /= len(reports)  # Each run saw the whole process.
        sent = messages * spent / seconds
        return {
            "rate": sum(report.get("messages_per_second", 0) for report in reports),
            "cpu_us": server_cpu or None,
            "generator_cpu_us": per_message("generator_cpu_us_per_message"),
            "p50_us": first.get("latency_p50_us"),
            "p99_us": first.get("latency_p99_us"),
            "p999_us": first.get("latency_p999_us"),
            "p9999_us": first.get("latency_p9999_us"),
            "max_us": first.get("latency_max_us"),
            "messages": messages,
            "refused": sum(report.get("refused", 0) for report in reports),
            "missed": sum(report.get("missed", 0) for report in reports),
            "lost": sum(report.get("lost", 0) for report in reports),
            "rss_anon_mib": machine.rss_anon(server.pid) / machine.MIB,
            "written_bytes_per_message": (machine.written(server.pid) - written) / sent if sent else None,
            "others_cores": others,
            "kernel_cores": kernel,
        }


def disturbed(*samples):
    return any(sample["others_cores"] > OTHERS_MOST_CORES for sample in samples)
