"""What the machine tells: CPU of processes and of others, memory, disk; and the page cache, filled
before measuring.

On a virtual machine that hands free memory back to its host, the first touch of a page costs several
times what it costs on bare metal, for every broker alike, which hides differences. So free memory is
kept low: a sparse file is read, whose pages fill the page cache without any disk, and brokers then
recycle pages that the machine already has.
"""

import os
import shutil
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
MIB = 1 << 20
# So much more free memory than after the last time, and the page cache is filled again…
FREE_MORE_BYTES = GIB
# …until steps of this size in a row leave hardly less free: the kernel then reuses the pages that it has, though it
# may keep some GiB free for ever. One step can deceive: others free memory too.
FILL_STEP_BYTES = GIB // 2
FILL_LEAST_PART = 0.25
FILL_VAIN_STEPS = 4
# Less free disk than this ends the run: other people live on it too.
DISK_LEAST_BYTES = 4 * GIB
# Above this share RocketMQ deletes messages whatever their age, and a little later both refuse them.
DISK_MOST_PERCENT = 84
KERNEL_THREAD = 0x0020_0000


class Trouble(Exception):
    """Something that ends a row, in one sentence."""


class Fatal(Trouble):
    """Something that ends the run."""


def say(text):
    """Words for whoever waits; results go to standard output."""
    print(text, file=sys.stderr, flush=True)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _stat(pid):
    """Fields of /proc/PID/stat behind the name, which may hold anything."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def ticks(pid, children=False):
    """User and system time of a process, and of its ended children if asked."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15 if children else 13])


def _kernel_ticks():
    """Time of all kernel threads: writing back and reclaiming, on behalf of the brokers."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = _stat(name)
            except OSError:
                continue  # It has ended meanwhile.
            if int(fields[6]) & KERNEL_THREAD:
                total += int(fields[11]) + int(fields[12])
    return total


class CpuWatch:
    """How many cores were used by others than the known processes, this one and its children."""

    def __init__(self, pids):
        self.pids = list(pids)
        self.begun = time.monotonic()
        self.before = self._now()

    def _now(self):
        cpu = [int(field) for field in read("/proc/stat").split("\n", 1)[0].split()[1:]]
        # user, nice, system, irq, softirq
        busy = cpu[0] + cpu[1] + cpu[2] + cpu[5] + cpu[6]
        known = sum(ticks(pid) for pid in self.pids) + ticks(os.getpid(), children=True)
        return busy, known, _kernel_ticks()

    def cores(self):
        """Since the beginning: cores of others, and of kernel threads."""
        seconds = max(time.monotonic() - self.begun, 1e-3) * TICKS
        busy, known, kernel = (now - then for now, then in zip(self._now(), self.before))
        return max(busy - known - kernel, 0) / seconds, kernel / seconds


def rss_anon(pid):
    """Anonymous memory of a process in bytes; mapped files would inflate its whole resident size."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def written(pid):
    """Bytes that a process has made dirty or written to the device."""
    for line in read(f"/proc/{pid}/io").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def memory(name):
    """A line of /proc/meminfo, in bytes."""
    for line in read("/proc/meminfo").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


class PageCache:
    """Keeps free memory low by reading holes of a sparse file."""

    def __init__(self, folder, wanted=True):
        self.path = os.path.join(folder, "holes")
        self.wanted = wanted
        self.position = 0
        self.fills = 0
        self.reached = 0
        if wanted:
            with open(self.path, "wb") as file:
                file.truncate(1 << 43)

    def fill(self):
        """Fills the page cache when much memory is free."""
        if not self.wanted or memory("MemFree") < self.reached + FREE_MORE_BYTES:
            return
        self.fills += 1
        begun = time.monotonic()
        first = self.position
        buffer = bytearray(4 * MIB)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.position)
            free = memory("MemFree")
            vain = 0
            while vain < FILL_VAIN_STEPS:
                goal = self.position + FILL_STEP_BYTES
                while self.position < goal:
                    self.position += file.readinto(buffer)
                before, free = free, memory("MemFree")
                vain = 0 if before - free > FILL_LEAST_PART * FILL_STEP_BYTES else vain + 1
        self.reached = free
        size = (self.position - first) / GIB
        say(f"  page cache filled with {size:.1f} GiB in {time.monotonic() - begun:.0f} s, {free / GIB:.1f} GiB are free")


def check_disk(folder):
    """Ends the run before it fills the disk."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    percent = 100 * used / max(used + free, 1)
    if free < DISK_LEAST_BYTES:
        raise Fatal(f"{folder} has {free / GIB:.1f} GiB free and must keep {DISK_LEAST_BYTES / GIB:.0f} GiB; "
                      "set TMPDIR to a larger disk")
    if percent > DISK_MOST_PERCENT:
        raise Fatal(f"{percent:.0f} % of the disk of {folder} are used; above {DISK_MOST_PERCENT} % brokers "
                      "begin to delete and refuse messages; set TMPDIR to a larger disk")
    return free


def _output(*command, cwd=None):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (done.stdout or done.stderr).strip()


def facts(root, binaries):
    """What the figures depend on."""
    model = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    commit = _output("git", "log", "-1", "--format=%h", cwd=root)
    if commit != "unknown" and _output("git", "status", "--porcelain", "--untracked-files=no", cwd=root):
        commit += " with changes"
    java = _output("java", "-version").splitlines()[0] if shutil.which("java") else "none"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": os.cpu_count(),
        "cpu": model[0] if model else "unknown",
        "memory_gib": round(memory("MemTotal") / GIB, 1),
        "kernel": os.uname().release,
        "commit": commit,
        "basaltmq": _output(os.path.join(binaries, "mqbroker"), "--version"),
        "java": java,
    }
