"""The few requests that need no load generator: one send, and very many topics.

Frames as in client/protocol/WIRE.md, with JSON headers.
"""

import json
import socket
import struct
import time

from machine import Trouble

SEND_MESSAGE_V2 = 310
CREATE_TOPIC = 17
# Codes of a reply that mean stored: done, and not yet at the disk or a slave.
STORED = (0, 10, 11, 12)
# Requests that wait for their answer when there are many.
WINDOW = 64


def _frame(code, opaque, fields, body=b""):
    head = {"code": code, "language": "JAVA", "version": 493, "opaque": opaque, "flag": 0, "extFields": fields}
    header = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body


class Connection:
    """A connection to a broker."""

    def __init__(self, address, timeout=10.0):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")

    def close(self):
        self.input.close()
        self.socket.close()

    def answer(self):
        """Code and remark of the next reply."""
        length, header_length = struct.unpack(">II", self._exactly(8))
        header_length &= 0x00FF_FFFF
        head = json.loads(self._exactly(header_length))
        self._exactly(length - 4 - header_length)
        return head["code"], head.get("remark")

    def _exactly(self, size):
        data = self.input.read(size)
        if data is None or len(data) < size:
            raise ConnectionError("the broker closed the connection")
        return data

    def many(self, requests):
        """Sends requests, `(code, fields, body)` each, with some in flight; every answer must be good."""
        waiting = 0
        for number, (code, fields, body) in enumerate(requests):
            self.socket.sendall(_frame(code, number, fields, body))
            waiting += 1
            if waiting == WINDOW:
                self._good()
                waiting -= 1
        for _ in range(waiting):
            self._good()

    def _good(self):
        code, remark = self.answer()
        if code not in STORED:
            raise Trouble(f"a broker refused with code {code}: {remark}")


def send(topic, queue=0, body=b"x" * 1024):
    """A send of one message."""
    fields = {
        "a": "bench", "b": topic, "c": "TBW102", "d": "4", "e": str(queue), "f": "0",
        "g": str(int(time.time() * 1000)), "h": "0", "i": "", "j": "0", "k": "false", "m": "false",
    }
    return SEND_MESSAGE_V2, fields, body


def create(topic, queues):
    """A topic, or a change of it."""
    fields = {
        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": str(queues), "writeQueueNums": str(queues),
        "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
    }
    return CREATE_TOPIC, fields, b""


def first_send(address, alive, limit_s):
    """Tries to send until a message is stored, and says when that was (`time.monotonic`).

    `alive` raises when the broker has ended.
    """
    deadline = time.monotonic() + limit_s
    reason = "nothing listens"
    while time.monotonic() < deadline:
        alive()
        try:
            connection = Connection(address, timeout=5.0)
        except OSError:
            time.sleep(0.001)
            continue
        try:
            code, fields, body = send("first-send")
            connection.socket.sendall(_frame(code, 1, fields, body))
            code, reason = connection.answer()
            if code in STORED:
                return time.monotonic()
        except OSError as error:
            reason = str(error)
        finally:
            connection.close()
        time.sleep(0.002)
    raise Trouble(f"{address} stored no message within {limit_s:.0f} s: {reason}")
