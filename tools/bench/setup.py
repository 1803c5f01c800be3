"""What both programs begin and end with: environment, programs, a scratch folder, everything killed."""

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile

import machine
import processes
from load import Generator
from machine import PageCache, Trouble, say
from pairs import REPEATS_PER_PAIR, Bench
from servers import PEERS

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; --help explains\n")


def parser(program):
    return Parser(prog=program, add_help=False, allow_abbrev=False)


def names(text):
    return [name for name in text.split(",") if name]


def number(options, name, default, kind=float):
    """A positive number from the environment."""
    text = os.environ.get(name) or str(default)
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e6:
        options.error(f"{name}: expected a number above 0, not {text!r}")
    return value


def binaries(options):
    """The folder of our programs; without BIN the release build, which is made first."""
    folder = os.environ.get("BIN") or ""
    if not folder:
        script = ". tools/env.sh && cargo build --release --workspace --bins --locked >&2 && target_dir"
        built = subprocess.run(["bash", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if built.returncode:
            options.error("our programs cannot be built, see above; BIN names a folder that has them")
        folder = os.path.join(built.stdout.strip(), "release")
    for name in ("mqbroker", "mqnamesrv", "mqtool"):
        if not os.access(os.path.join(folder, name), os.X_OK):
            options.error(f"BIN: {folder} has no program {name}; cargo build --release --workspace --bins makes it")
    return folder


def check_peers(options, peers):
    """Ends the program when there is no such peer, or no Java for it."""
    unknown = [name for name in peers if name not in PEERS and name != "self"]
    if unknown:
        options.error(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)} and self, a second broker of ours")
    if set(peers) & set(PEERS):
        for tool in ("java", "mvn"):
            if not shutil.which(tool):
                options.error(f"{tool} is missing: the real RocketMQ needs it")


def results(otherwise=os.path.join(ROOT, "benches", "results")):
    """The folder for what was found, which the environment may name; made if it is missing."""
    folder = os.environ.get("OUT") or otherwise
    os.makedirs(folder, exist_ok=True)
    return folder


def run(program, measure):
    """Calls `measure` with a scratch folder. The exit code: 1 after a sentence when it cannot go on."""
    try:
        with _scratch(program) as folder:
            return measure(folder)
    except (Trouble, OSError) as trouble:
        say(f"{program}.sh: {trouble}")
        return 1


@contextlib.contextmanager
def _scratch(name):
    """A folder that goes at the end, as everything does that was started."""
    processes.end_on_signals()
    folder = tempfile.mkdtemp(prefix=f"{name}.")
    try:
        machine.check_disk(folder)
        yield folder
    finally:
        processes.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


def bench(folder, bin_folder, pairs, window, warm, smoke):
    """How this run measures."""
    return Bench(Generator(bin_folder), PageCache(folder, wanted=not smoke), folder, pairs, window, warm,
                 repeats=0 if smoke else REPEATS_PER_PAIR)
