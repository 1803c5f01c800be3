"""The brokers that are measured: ours, a real RocketMQ, and the floor; each with its own folder, each killed in the end."""

import ctypes
import os
import shutil
import socket
import subprocess
import time

import machine
import processes
import remoting
from machine import GIB, MIB, Trouble

READY_LIMIT_S = 120.0
# Maven downloads a RocketMQ before its first start.
DOWNLOAD_LIMIT_S = 900.0
HEAP = "2g"
# What RocketMQ's own start script asks of the JVM, with half of a smaller heap for young objects too.
STOCK_JVM = ("-Xmn1g -XX:+UseG1GC -XX:G1HeapRegionSize=16m -XX:G1ReservePercent=25 -XX:InitiatingHeapOccupancyPercent=30 "
             "-XX:SoftRefLRUPolicyMSPerMB=0 -XX:-OmitStackTraceInFastThrow -XX:-UseLargePages")
PRETOUCH = "-XX:+AlwaysPreTouch"
# Key of the command line: name, version for control/run.sh, keys of broker.conf.
PEERS = {
    "5-file": ("file consume queue", "5", []),
    "5-rocksdb": ("RocksDB consume queue", "5", ["storeType=defaultRocksDB"]),
    "4.9.7": ("file consume queue", "4.9.7", []),
}
# A store of which more than this is allocated gives old log back…
KEPT_BYTES = 2 * GIB
# …but neither the segment in use nor the next ones, nor the ends of any, where times are read.
KEPT_SEGMENTS = 2
KEPT_ENDS = MIB
_FALLOC_PUNCH_HOLE_KEEP_SIZE = 3
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def free_port():
    """A free port whose neighbours are free too: brokers listen two below and one above as well."""
    for _ in range(200):
        with socket.socket() as main, socket.socket() as below, socket.socket() as above:
            main.bind(("127.0.0.1", 0))
            port = main.getsockname()[1]
            try:
                below.bind(("127.0.0.1", port - 2))
                above.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise Trouble("found no free port with free neighbours")


class Server:
    """A broker with its name server, one process or two. `pid` is the broker's."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.port = free_port()
        self.names_port = free_port()
        self.broker = f"127.0.0.1:{self.port}"
        self.namesrv = f"127.0.0.1:{self.names_port}"
        self.processes = []
        self.begun = 0.0
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    @property
    def pid(self):
        """The broker's process, which is started last."""
        return self.processes[-1].pid

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    @property
    def target(self):
        """How the load generator finds it."""
        return ["-n", self.namesrv]

    def commands(self):
        """Command lines and their environment, the broker's last."""
        raise NotImplementedError

    def start(self):
        """Starts the processes and does not wait for them."""
        self.begun = time.monotonic()
        for command, environment in self.commands():
            with open(os.path.join(self.folder, os.path.basename(command[0]) + ".log"), "ab") as log:
                # RocketMQ stops when its input ends; nothing is ever written to it.
                started = processes.start(command, environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
            self.processes.append(started)
        return self

    def alive(self):
        """Raises when a process has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise Trouble(f"{self.name} ended with {process.returncode}: {self.last_words()}")

    def last_words(self):
        logs = [os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(".log")]
        lines = [line for log in logs for line in machine.read(log).splitlines()[-6:] if line.strip()]
        return " | ".join(lines)[-1500:] or "it said nothing"

    def until_it_stores(self, limit_s=READY_LIMIT_S):
        """Waits for the first message that it stores; seconds since its start."""
        return remoting.first_send(self.broker, self.alive, limit_s) - self.begun

    def until_registered(self, mqtool, limit_s=READY_LIMIT_S):
        """Waits until clients find it through its name server."""
        deadline = time.monotonic() + limit_s
        while True:
            self.alive()
            done = subprocess.run([mqtool, *self.target, "topic", "create", "ready", "--queues", "1"],
                                  capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return self
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name} did not register within {limit_s:.0f} s: {done.stderr.strip()}")
            time.sleep(0.05)

    def kill(self):
        """Ends it as a crash does. Its folder stays."""
        for process in self.processes:
            processes.kill(process)
        self.processes.clear()

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def segments(self):
        """Files of the commit log, oldest first."""
        for folder, _, files in os.walk(self.folder):
            if os.path.basename(folder) == "commitlog":
                return sorted(os.path.join(folder, name) for name in files if name.isdigit())
        return []

    def log_end(self):
        """The segment that is written: the newest of which more than its first pages was modified."""
        segments = self.segments()
        return max(range(len(segments)), key=lambda index: os.stat(segments[index]).st_mtime_ns, default=0)

    def trim(self):
        """Gives the disk of old segments back, behind the broker's back: it has no cause to read them."""
        segments = self.segments()
        allocated = sum(os.stat(path).st_blocks * 512 for path in segments)
        if allocated < KEPT_BYTES:
            return
        for path in segments[:max(self.log_end() - KEPT_SEGMENTS + 1, 0)]:
            size = os.stat(path).st_size
            with open(path, "r+b") as file:
                length = size - 2 * KEPT_ENDS
                if length > 0 and _libc.fallocate(file.fileno(), _FALLOC_PUNCH_HOLE_KEEP_SIZE, KEPT_ENDS, length):
                    raise Trouble(f"cannot give back the disk of {path}: {os.strerror(ctypes.get_errno())}")


class Ours(Server):
    """mqnamesrv and mqbroker with their defaults, except for the settings given."""

    def __init__(self, binaries, folder, settings=(), name="ours"):
        super().__init__(name, folder)
        self.binaries = binaries
        self.settings = list(settings)

    def commands(self):
        settings = [part for setting in self.settings for part in ("--set", setting)]
        names = [os.path.join(self.binaries, "mqnamesrv"), "--listen", self.namesrv]
        broker = [os.path.join(self.binaries, "mqbroker"), "--namesrv", self.namesrv, "--listen", self.broker,
                  "--advertise", "127.0.0.1", "--store", os.path.join(self.folder, "store"), *settings]
        return [(names, {}), (broker, {})]


class Peer(Server):
    """A RocketMQ: name server and broker in one process."""

    def __init__(self, root, key, folder, settings=(), jvm=f"{STOCK_JVM} {PRETOUCH}"):
        super().__init__(key, folder)
        self.script = os.path.join(root, "client/tests/interop/control/run.sh")
        _, self.version, keys = PEERS[key]
        self.settings = keys + list(settings)
        self.jvm = jvm

    def commands(self):
        ports = [f"namesrvPort={self.names_port}", f"listenPort={self.port}"]
        command = [self.script, os.path.join(self.folder, "store"), *ports, *self.settings]
        return [(command, {"CONTROL_HEAP": HEAP, "CONTROL_VERSION": self.version, "CONTROL_JVM": self.jvm})]

    def until_registered(self, mqtool, limit_s=DOWNLOAD_LIMIT_S):
        return super().until_registered(mqtool, limit_s)


class Floor(Server):
    """The least that a broker can do; it has no name server."""

    def __init__(self, program, folder):
        super().__init__("floor", folder)
        self.program = program

    @property
    def target(self):
        return []

    def commands(self):
        return [([self.program, "--listen", self.broker, "--dir", self.folder], {})]

    def until_registered(self, mqtool, limit_s=READY_LIMIT_S):
        deadline = time.monotonic() + limit_s
        log = os.path.join(self.folder, os.path.basename(self.program) + ".log")
        while "ready broker=" not in machine.read(log):
            self.alive()
            if time.monotonic() > deadline:
                raise Trouble(f"the floor was not ready within {limit_s:.0f} s: {self.last_words()}")
            time.sleep(0.02)
        return self


def rocketmq_version(root, key):
    """The version of a peer, from the jars that run it."""
    version = PEERS[key][1]
    if version != "5":
        return version
    pom = machine.read(os.path.join(root, "client/tests/interop/control/pom.xml"))
    return pom.partition("<rocketmq.version>")[2].partition("<")[0]
