#!/usr/bin/env python3
"""The checker of `mqtool torture`: reads the histories of one store, reads the broker, and decides.

It shares no code with the broker: it has its own client of the remoting protocol, so that a mistake
of a codec cannot hide itself. Standard library only. Format and rules: HISTORY.md.

    checker.py HISTORY [--broker IP:PORT]

The last line of standard output is the verdict as JSON. Exit code: 0 all rules hold, 1 one is
broken, 2 it cannot be decided.
"""

import bisect
import collections
import json
import os
import socket
import struct
import sys
import zlib

NOTHING_THERE = (19, 20, 21)
KEY_QUERIES = 400
VIEWS = 100
RED_MAX = 50


class Broker:
    """One connection, one request at a time, JSON headers."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opaque = 0

    def take(self, size):
        chunks = []
        while size:
            chunk = self.socket.recv(min(size, 1 << 20))
            if not chunk:
                raise ConnectionError("the broker closed the connection")
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def ask(self, code, fields):
        self.opaque += 1
        header = {"code": code, "language": "PYTHON", "version": 479, "opaque": self.opaque,
                  "flag": 0, "extFields": {name: str(value) for name, value in fields.items()},
                  "serializeTypeCurrentRPC": "JSON"}
        header = json.dumps(header, separators=(",", ":")).encode()
        self.socket.sendall(struct.pack(">ii", 4 + len(header), len(header)) + header)
        while True:
            size, mark = struct.unpack(">II", self.take(8))
            rest = self.take(size - 4)
            if mark >> 24:
                raise ValueError("a reply that is not JSON")
            length = mark & 0xFFFFFF
            reply = json.loads(rest[:length])
            if reply["flag"] & 1 and reply["opaque"] == self.opaque:
                return reply["code"], reply.get("extFields") or {}, rest[length:], reply.get("remark")

    def offset(self, code, topic, queue):
        code, fields, _, remark = self.ask(code, {"topic": topic, "queueId": queue})
        if code:
            raise LookupError(f"code {code}: {remark}")
        return int(fields["offset"])

    def max(self, topic, queue):
        return self.offset(30, topic, queue)

    def min(self, topic, queue):
        return self.offset(31, topic, queue)

    def committed(self, group, topic, queue):
        code, fields, _, remark = self.ask(
            14, {"consumerGroup": group, "topic": topic, "queueId": queue})
        if code == 22:
            return 0
        if code:
            raise LookupError(f"code {code}: {remark}")
        return int(fields["offset"])

    def commit(self, group, topic, queue, offset):
        code, _, _, remark = self.ask(15, {"consumerGroup": group, "topic": topic,
                                           "queueId": queue, "commitOffset": offset})
        if code:
            raise LookupError(f"code {code}: {remark}")

    def pull(self, group, topic, queue, offset):
        code, fields, body, remark = self.ask(11, {
            "consumerGroup": group, "topic": topic, "queueId": queue, "queueOffset": offset,
            "maxMsgNums": 1024, "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0,
            "subscription": "*", "subVersion": 0, "expressionType": "TAG"})
        if code in NOTHING_THERE:
            return int(fields["nextBeginOffset"]), []
        if code:
            raise LookupError(f"code {code}: {remark}")
        return int(fields["nextBeginOffset"]), list(records(body))

    def by_key(self, topic, key):
        code, _, body, remark = self.ask(12, {
            "topic": topic, "key": key, "maxNum": 32, "beginTimestamp": 0,
            "endTimestamp": 1 << 62, "_UNIQUE_KEY_QUERY": "true"})
        if code == 22:
            return []
        if code:
            raise LookupError(f"code {code}: {remark}")
        return list(records(body))

    def view(self, log_offset):
        code, _, body, remark = self.ask(33, {"offset": log_offset})
        return (None, f"code {code}: {remark}") if code else (next(records(body)), None)


Record = collections.namedtuple("Record", "topic queue offset log_offset id body_ok")


def records(body):
    """The stored messages of a reply, in RocketMQ's layout."""
    at = 0
    while at < len(body):
        size, magic, crc, queue, _flag, offset, log_offset, sys_flag, _born = struct.unpack_from(
            ">IIIiiqqiq", body, at)
        if magic not in (0xDAA320A7, 0xDAA320AB) or size < 91 or at + size > len(body):
            raise ValueError(f"no record at {at} of a reply: size {size}, magic {magic:#x}")
        place = at + 48 + (20 if sys_flag & 0x10 else 8) + 8 + (20 if sys_flag & 0x20 else 8) + 4 + 8
        (length,) = struct.unpack_from(">i", body, place)
        place += 4
        content = body[place:place + length]
        place += length
        if magic == 0xDAA320AB:
            (length,) = struct.unpack_from(">H", body, place)
            place += 2
        else:
            length = body[place]
            place += 1
        topic = body[place:place + length].decode()
        place += length
        (length,) = struct.unpack_from(">H", body, place)
        properties = body[place + 2:place + 2 + length].decode()
        if place + 2 + length != at + size:
            raise ValueError(f"the record at log offset {log_offset} does not end where it says")
        ident = ""
        for pair in properties.split("\x02"):
            if pair.startswith("UNIQ_KEY\x01"):
                ident = pair[9:]
        found = zlib.crc32(content) & 0x7FFFFFFF
        sound = found == crc and ident[10:] == f"{found:08x}"
        yield Record(topic, queue, offset, log_offset, ident, sound)
        at += size


class Message:
    __slots__ = ("topic", "queue", "epoch", "invoked", "outcome", "offset", "done", "producer")

    def __init__(self, topic, queue, epoch, invoked, producer):
        self.topic, self.queue, self.epoch, self.invoked = topic, queue, epoch, invoked
        self.producer = producer
        self.outcome, self.offset, self.done = "?", None, None


class History:
    """Everything that the threads of a run have noted."""

    def __init__(self, directory):
        self.head = {}
        self.messages = {}
        self.events = []  # (time, order, kind, …): what binds offsets to messages, or ends do
        self.deaths = {}  # epoch -> (time, nemesis)
        self.ends_of_brokers = []
        self.masters = []  # (time, broker): who takes messages from then on, in a cluster
        self.begins = {}  # epoch -> time
        self.ends = collections.defaultdict(dict)  # epoch -> queue -> (min, max)
        self.groups = {}  # group -> list of (time, kind, …)
        self.topics = {}
        self.key_queries = []
        self.drained = None
        self.red = []
        for name in sorted(os.listdir(directory)):
            if name.endswith(".log"):
                with open(os.path.join(directory, name), encoding="utf-8") as lines:
                    self.read(name[:-4], lines)
        self.events.sort(key=lambda event: event[:2])
        self.ends_of_brokers.sort()

    def read(self, name, lines):
        group = name
        messages, events = self.messages, self.events
        for line in lines:
            field = line.split()
            kind = field[0]
            if kind == "I":
                messages[field[3]] = Message(
                    field[4], int(field[5]), int(field[2]), int(field[1]), name)
            elif kind == "O":
                message = messages[field[2]]
                message.outcome, message.offset, message.done = "O", int(field[3]), int(field[1])
                events.append((message.done, 1, "ack", (message.topic, message.queue),
                               message.offset, field[2]))
            elif kind in "NU":
                message = messages[field[2]]
                message.outcome, message.done = kind, int(field[1])
            elif kind == "R":
                at = (field[3], int(field[4]))
                ids = field[6].split(",")
                events.append((int(field[1]), 1, "read", at, int(field[5]), ids))
                self.groups[group].append((int(field[1]), "R", at, int(field[5]), ids))
            elif kind == "S":
                at = (field[3], int(field[4]))
                self.groups[group].append((int(field[1]), "S", at, int(field[5]), None))
            elif kind in "CK":
                at = (field[3], int(field[4]))
                self.groups[group].append((int(field[1]), kind, at, int(field[5]), int(field[2])))
            elif kind == "Q":
                at = (field[3], int(field[4]))
                self.groups[group].append(
                    (int(field[1]), "Q", at, int(field[5]), (int(field[2]), int(field[6]))))
            elif kind == "W":
                self.broken(2, f"{group} read {field[3]}/{field[4]} at {field[5]}: {field[6]}")
            elif kind == "Y":
                self.key_queries.append((int(field[1]), int(field[2]), field[3], field[4]))
            elif kind == "G":
                group = field[1]
                self.groups[group] = []
            elif kind == "M":
                at, time, epoch = (field[3], int(field[4])), int(field[1]), int(field[2])
                self.ends[epoch][at] = (int(field[5]), int(field[6]))
                events.append((time, 0, "end", at, int(field[6]), epoch))
            elif kind == "B":
                self.begins[int(field[2])] = int(field[1])
            elif kind == "P":
                self.masters.append((int(field[1]), field[3]))
            elif kind == "X":
                self.deaths[int(field[2])] = (int(field[1]), field[3])
                self.ends_of_brokers.append(int(field[1]))
            elif kind == "V":
                self.ends_of_brokers.append(int(field[1]))
            elif kind == "T":
                self.topics[field[3]] = int(field[4])
            elif kind == "D":
                self.drained = int(field[1])
            elif kind == "H":
                self.head[field[1]] = field[2]
            else:
                raise ValueError(f"{name}: a line of unknown kind: {line.strip()}")

    def broken(self, rule, what):
        if len(self.red) < RED_MAX:
            self.red.append({"rule": rule, "what": what})

    def master_at(self, time):
        """Who was master then, as far as anybody had been told."""
        found = bisect.bisect_right(self.masters, time, key=lambda master: master[0])
        return self.masters[found - 1][1] if found else None

    def may_lose(self, epoch):
        """Whether what ended this time of the broker may take acknowledged messages."""
        _, nemesis = self.deaths.get(epoch, (0, "kill"))
        return self.head.get("mode") == "async" and nemesis in ("cut", "eio")


class Check:
    def __init__(self, history):
        self.history = history
        self.bound = collections.defaultdict(dict)  # queue -> offset -> (id, acked?, time)
        self.lost = {}  # id -> queue
        self.cut_offsets = collections.defaultdict(set)
        self.rewritten = 0
        self.window_us = 0
        self.scanned = {}  # queue -> offset -> id
        self.log_offsets = {}
        self.regress = 0
        self.duplicates = 0

    def broken(self, rule, what):
        self.history.broken(rule, what)

    def bind(self):
        """Rules 3, 1 and 7 over time: an offset has one message, and what was acknowledged or
        read is below the end of its queue ever after."""
        epochs = sorted(self.history.begins)
        before = dict(zip(epochs[1:], epochs))
        for time, _, kind, at, offset, what in self.history.events:
            if kind == "ack":
                self.bind_one(at, offset, what, time, True)
            elif kind == "read":
                for place, ident in enumerate(what, offset):
                    self.bind_one(at, place, ident, time, False)
            else:
                self.end(at, offset, before.get(what))

    def bind_one(self, at, offset, ident, time, acked):
        queue = self.bound[at]
        old = queue.get(offset)
        if old is None:
            queue[offset] = (ident, acked, time)
            if offset in self.cut_offsets[at]:
                self.cut_offsets[at].discard(offset)
                self.rewritten += 1
        elif old[0] != ident:
            self.broken(3, f"{at}: offset {offset} held {old[0]} and then {ident}")
        elif acked and not old[1]:
            queue[offset] = (ident, True, time)

    def end(self, at, end, before):
        """A queue ended at `end` when the broker began."""
        if before is None:
            return
        queue = self.bound[at]
        gone = [offset for offset in queue if offset >= end]
        if not gone:
            return
        if self.history.may_lose(before):
            cut_us, _ = self.history.deaths[before]
            for offset in gone:
                ident, acked, time = queue.pop(offset)
                self.lost[ident] = at
                self.cut_offsets[at].add(offset)
                if acked:
                    self.window_us = max(self.window_us, cut_us - time)
            return
        first = min(gone)
        ident, acked, _ = queue[first]
        rule, verb = (1, "acknowledged") if acked else (7, "read")
        self.broken(rule, f"{at}: {len(gone)} messages that were {verb} or follow one are gone "
                          f"after epoch {before}: the queue ends at {end}; first {ident} at {first}")

    def outcomes(self):
        """Rules 1 and 12: key queries found what was readable; the window is what it may be."""
        for time, epoch, ident, found in self.history.key_queries:
            # A disk that fails or is gone hides messages from the query that ran into it.
            died, _ = self.history.deaths.get(epoch, (time + 1, ""))
            if found == "missing" and time < died and ident not in self.lost:
                self.broken(1, f"{ident} was read and could not be found by its unique id")
        allowed = int(self.history.head.get("window_ms", 10_000)) * 1_000
        if self.window_us > allowed:
            self.broken(1, f"a message acknowledged {self.window_us} us before a cut was lost")

    def offsets(self):
        """Rule 6: committed offsets do not go back further than they may, nor beyond the end."""
        regress_us = int(self.history.head.get("regress_ms", 1_500)) * 1_000
        for group, events in self.history.groups.items():
            by_queue = collections.defaultdict(list)
            for event in events:
                by_queue[event[2]].append(event)
            for at, events in by_queue.items():
                self.offsets_of(group, at, events, regress_us)

    def offsets_of(self, group, at, events, regress_us):
        known = []  # (time, offset): what the group's offset was at least
        last_epoch = None
        for time, kind, _, offset, more in events:
            if kind == "K":
                known.append((time, offset))
            if kind != "Q":
                continue
            epoch, end = more
            if offset > end:
                self.broken(6, f"{group} {at}: committed {offset}, the queue ends at {end}")
            new_epoch = last_epoch is not None and epoch != last_epoch
            if known:
                latest = known[-1][1]
                floor = latest
                if self.history.masters:
                    # A session may begin at the other broker, which follows the first one.
                    floor = next((one for when, one in reversed(known)
                                  if self.arrived(when, time, regress_us)), 0)
                elif new_epoch:
                    died = self.history.deaths.get(last_epoch, (time, ""))[0]
                    sure = [one for when, one in known if when <= died - regress_us]
                    floor = sure[-1] if sure else 0
                    if self.history.may_lose(last_epoch):
                        floor = min(floor, end)
                self.regress = max(self.regress, latest - offset)
                if offset < min(floor, end):
                    self.broken(6, f"{group} {at}: committed {floor}, in epoch {epoch} it is {offset}")
            if self.history.masters:
                # A master that was a slave may have the last second's offsets in memory only.
                known = [(when, min(one, offset)) for when, one in known] + [(time, offset)]
            elif new_epoch or last_epoch is None:
                # What a broker has after its start is on the disk; what it lost then stays lost.
                known = [(0, offset)]
            last_epoch = epoch

    def arrived(self, when, time, regress_us):
        """Whether what was committed at either broker of a cluster must be at both by this time."""
        ends, begins = self.history.ends_of_brokers, sorted(self.history.begins.values())
        after = bisect.bisect_left(ends, when)
        # The broker may have kept it to itself, and ended; the note of the end comes a little before.
        if any(abs(end - when) < regress_us for end in ends[max(0, after - 1):after + 1]):
            return False
        back = bisect.bisect_left(begins, ends[after - 1]) if after else len(begins)
        if back < len(begins) and when <= begins[back]:
            # There is no master, or one that is cut off: it keeps this to itself for ever.
            if any(nemesis == "split" for died, nemesis in self.history.deaths.values()
                   if died == ends[after - 1]):
                return False
        # After a break they need up to a second to find each other, and then one to pass it on.
        breaks = sorted(ends + begins)
        at = bisect.bisect_left(breaks, when)
        together = breaks[at - 1] + regress_us if at else 0
        while at < len(breaks) and breaks[at] <= time:
            if breaks[at] - max(when, together) >= regress_us:
                return True
            together = breaks[at] + regress_us
            at += 1
        return time - max(when, together) >= regress_us

    def deposed(self):
        """Rule 3 of a cluster: what was sent when another broker had been promoted, and to one
        that was not the master, is not acknowledged."""
        history = self.history
        if not history.masters:
            return
        per_broker = int(history.head["producers_max"])
        for ident, message in history.messages.items():
            if message.outcome != "O":
                continue
            broker = "ab"[int(ident[:2], 16) // per_broker]
            master = history.master_at(message.invoked)
            # A broker that is promoted takes messages before the answer to the promotion arrives,
            # but nobody sends to it then.
            if broker != master:
                self.broken(3, f"{ident} was sent to broker {broker} at {message.invoked} us and "
                               f"acknowledged; the master was {master}")

    def scan(self, broker):
        """Reads every queue from its first to its last offset as a new group. Rules 1, 2, 4, 7."""
        group = f"torture-check-{os.getpid()}"
        if self.history.masters:
            # Groups come into being at the master, where the first scan is; the slave has it then.
            group = "torture-check"
        for topic, queues in self.history.topics.items():
            for queue in range(queues):
                try:
                    self.scan_queue(broker, group, (topic, queue))
                except LookupError as error:
                    self.broken(1, f"topic {topic} was created and cannot be read: {error}")

    def scan_queue(self, broker, group, at):
        low, high = broker.min(*at), broker.max(*at)
        found = self.scanned[at] = {}
        offset = low
        while offset < high:
            after, page = broker.pull(group, *at, offset)
            if not page:
                self.broken(4, f"{at}: nothing at offset {offset}, the queue ends at {high}")
                if after <= offset:
                    break
                offset = after
                continue
            for record in page:
                if (record.topic, record.queue) != at:
                    self.broken(2, f"{at}: a record of {record.topic}/{record.queue}")
                if record.offset != offset:
                    self.broken(4, f"{at}: offset {record.offset} follows, not {offset}")
                    offset = record.offset
                if not record.body_ok:
                    self.broken(2, f"{at}: the body at offset {offset} is not that of {record.id}")
                found[record.offset] = record.id
                self.log_offsets[record.id] = record.log_offset
                offset += 1
        if high > low:
            broker.commit(group, *at, high)
            stored = broker.committed(group, *at)
            if stored != high:
                self.broken(6, f"{at}: a new group committed {high} and reads {stored}")

    def compare(self):
        """The scan against the histories. Rules 1, 2, 3, 5, 7."""
        history = self.history
        seen = {}
        for at, found in self.scanned.items():
            below = self.smallest_ends(at)
            for offset, ident in found.items():
                message = history.messages.get(ident)
                if message is None:
                    self.broken(2, f"{at}: nobody sent {ident} at offset {offset}")
                    continue
                if (message.topic, message.queue) != at:
                    self.broken(2, f"{at}: {ident} was sent to {message.topic}/{message.queue}")
                if message.outcome == "N":
                    self.broken(2, f"{at}: {ident} at offset {offset} had been refused")
                if ident in seen:
                    self.broken(2, f"{at}: {ident} is at {offset} and at {seen[ident]}")
                seen[ident] = offset
                if ident in self.lost:
                    self.broken(3, f"{at}: {ident} was lost, and is back at {offset}")
                elif offset >= below(message.epoch):
                    self.broken(3, f"{at}: {ident} of epoch {message.epoch} is at {offset}; the "
                                   "queue had a smaller end after that")
        for at, bound in self.bound.items():
            found = self.scanned.get(at, {})
            for offset, (ident, acked, _) in bound.items():
                there = found.get(offset)
                if there != ident:
                    rule, verb = (1, "acknowledged") if acked else (7, "read")
                    self.broken(rule, f"{at}: {ident} was {verb} at offset {offset}, there is "
                                      f"{there or 'nothing'}")
        return seen

    def smallest_ends(self, at):
        """The smallest end of the queue at any start after an epoch."""
        smallest, ends = float("inf"), {}
        for epoch in sorted(self.history.begins, reverse=True):
            ends[epoch] = smallest
            if at in self.history.ends[epoch]:
                smallest = min(smallest, self.history.ends[epoch][at][1])
        return lambda epoch: ends.get(epoch, float("inf"))

    def order(self):
        """Rule 4: a send that began after another's answer comes behind it."""
        lanes = collections.defaultdict(list)
        for ident, message in self.history.messages.items():
            if message.outcome == "O" and ident not in self.lost:
                lanes[message.producer, message.topic, message.queue].append((message, ident))
        for (producer, topic, queue), sends in lanes.items():
            answered = sorted(sends, key=lambda send: send[0].done)
            begun = sorted(sends, key=lambda send: send[0].invoked)
            place, highest = 0, -1
            for message, ident in begun:
                while place < len(answered) and answered[place][0].done < message.invoked:
                    highest = max(highest, answered[place][0].offset)
                    place += 1
                if message.offset <= highest:
                    self.broken(4, f"{topic}/{queue}: {ident} of {producer} got {message.offset}, "
                                   f"an earlier one had {highest}")

    def delivery(self):
        """Rule 5: each group has read everything; what it read twice has a reason."""
        for group, events in self.history.groups.items():
            read = collections.defaultdict(dict)
            session = collections.defaultdict(set)
            for _, kind, at, first, ids in events:
                if kind == "S":
                    session[at] = set()
                if kind != "R":
                    continue
                for offset, ident in enumerate(ids, first):
                    if offset in session[at]:
                        self.broken(5, f"{group} {at}: offset {offset} came twice in one session")
                    session[at].add(offset)
                    self.duplicates += read[at].get(offset) == ident
                    read[at][offset] = ident
            for at, found in self.scanned.items():
                missed = [offset for offset, ident in found.items()
                          if read[at].get(offset) != ident]
                if missed:
                    self.broken(5, f"{group} {at}: {len(missed)} messages were never delivered, "
                                   f"the first at offset {min(missed)}")

    def lookups(self, broker, seen):
        """Rule 1 by unique id and by log offset, over a sample that has the newest whole."""
        acked = [ident for ident, message in self.history.messages.items()
                 if message.outcome == "O" and ident in seen]
        step = max(1, len(acked) // KEY_QUERIES)
        newest = sorted(acked, key=lambda one: self.history.messages[one].done)[-KEY_QUERIES // 4:]
        for ident in set(acked[::step]) | set(newest):
            message = self.history.messages[ident]
            if all(record.id != ident for record in broker.by_key(message.topic, ident)):
                self.broken(1, f"{ident} of {message.topic} is not found by its unique id")
        step = max(1, len(acked) // VIEWS)
        for ident in acked[::step]:
            record, reason = broker.view(self.log_offsets[ident])
            if record is None or record.id != ident:
                self.broken(1, f"{ident} is not found by its log offset: {reason}")


def main(arguments):
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    history = History(arguments[0])
    check = Check(history)
    check.bind()
    check.outcomes()
    check.offsets()
    check.order()
    check.deposed()
    if "--broker" in arguments:
        broker = Broker(arguments[arguments.index("--broker") + 1])
        check.scan(broker)
        seen = check.compare()
        if history.drained is not None:
            check.delivery()
        check.lookups(broker, seen)
    acked = sum(message.outcome == "O" for message in history.messages.values())
    lost = sum(history.messages[ident].outcome == "O" for ident in check.lost
               if ident in history.messages)
    verdict = {"red": history.red, "acked": acked, "lost": lost,
               "scanned": sum(map(len, check.scanned.values())), "window_us": check.window_us,
               "rewritten": check.rewritten, "duplicates": check.duplicates,
               "regress": check.regress}
    print(json.dumps(verdict))
    return 1 if history.red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
