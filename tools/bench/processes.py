"""Processes that end when this program ends, whatever ends it."""

import ctypes
import os
import signal
import subprocess

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running = []


def _child():
    """Ctrl-C is for this program alone, which then ends the others in order."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()


def start(command, environment=None, **streams):
    """Starts a process; `streams` as for `subprocess.Popen`."""
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, preexec_fn=_child, **streams)
    _running.append(process)
    return process


def kill(process):
    """Ends a process at once, if it has not ended, and forgets it."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    if process in _running:
        _running.remove(process)


def kill_all():
    """Ends everything that was started."""
    for process in list(_running):
        kill(process)


def end_on_signals():
    """SIGTERM and Ctrl-C end this program as an exception does, so that it cleans up."""
    def end(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
