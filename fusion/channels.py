"""Message channels between the three processes.

Each process has one `Inbox`, a Unix socket in the run folder, and one `Outbox` for each neighbour.
`multiprocessing.Queue` would be shorter, but a reader that is killed while it waits leaves the
queue's lock taken and its successor waits for ever. A socket belongs to nobody once its owner is
dead: the sender gets an error, connects to the successor and goes on.

What is promised: messages of one sender arrive in order; `put` never blocks; an essential message
that `put` accepted arrives as long as the receiver lives and its session does. What the receiver
had taken in when it was killed is lost, as its state is. What was still here goes to the successor,
before anything that is put later, so a receiver ignores messages about sessions that it does not
know. Senders learn of a restart from `ServiceStatus.restart_count` and send the successor what it
has to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path

from fusion import metrics, tasks
from fusion.errors import ChannelFullError
from fusion.messages import PROVISIONAL, Message, SessionEnded, SessionStarted

logger = logging.getLogger(__name__)

READ_TIMEOUT = 5  # seconds of silence in the middle of a message or of the greeting
RECONNECT_INTERVAL = 0.05  # of a sender that has something to say and finds nobody
CHECK_INTERVAL = 5.0  # of an idle outbox, for whether it is still wanted
LINES_APART = 60.0  # between two lines in the log about a neighbour that takes nothing
ESSENTIAL_FACTOR = 4  # essential messages may exceed the capacity so many times

# What reading a connection raises when its peer is gone, unknown or talks nonsense. The last five
# are those that unpickling raises (see the documentation of `pickle`).
_BROKEN = (OSError, EOFError, AuthenticationError)
_MALFORMED = (pickle.UnpicklingError, AttributeError, ImportError, IndexError, ValueError)


class Backlog:
    """Messages that wait to be sent, and which of them gives way when there are too many.

    Pure bookkeeping: no lock, no I/O. It never holds more than `capacity` messages unless all of
    them are essential, and never more than `ESSENTIAL_FACTOR * capacity`, one end for each session
    that the receiver knows aside.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._messages: deque[Message] = deque()
        self._introduced: set[str] = set()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Message) -> None:
        """Append a message. When full, a provisional one gives way: the oldest of the same session,
        else the oldest of all, else the new one itself if it is provisional.

        A session's end takes the place of all that still waits for that session, and is always
        taken; nothing is left of a session that the receiver does not know. Raises
        ChannelFullError for another essential message when there is no room left at all.
        """
        if isinstance(message, SessionEnded):
            self._end(message)
            return
        if len(self._messages) >= self._capacity and not self._make_room(message.session):
            if isinstance(message, PROVISIONAL):
                metrics.DROPS.labels("provisional message").inc()
                return
            if len(self._messages) >= ESSENTIAL_FACTOR * self._capacity:
                raise ChannelFullError(
                    f"A neighbouring process has left {len(self._messages)} messages unread; "
                    "it hangs or is far too slow for this many clients."
                )
        self._messages.append(message)

    def take(self) -> Message:
        """Remove and return the oldest message."""
        message = self._messages.popleft()
        if isinstance(message, SessionStarted):
            self._introduced.add(message.session)
        return message

    def _end(self, message: SessionEnded) -> None:
        waiting = [m for m in self._messages if m.session != message.session]
        self._messages = deque(waiting)
        if message.session in self._introduced:
            self._introduced.discard(message.session)
            self._messages.append(message)

    def _make_room(self, session: str) -> bool:
        provisional = [i for i, m in enumerate(self._messages) if isinstance(m, PROVISIONAL)]
        if not provisional:
            return False
        own = (i for i in provisional if self._messages[i].session == session)
        del self._messages[next(own, provisional[0])]
        metrics.DROPS.labels("provisional message").inc()
        return True


class Inbox:
    """The receiving end, in an event loop: one for each process, any number of senders.

    When `capacity` messages wait to be read, the senders' sockets are left unread, so that their
    backlogs fill and their policy decides what gives way. Made and used in one event loop.
    """

    def __init__(self, address: str, authkey: bytes, capacity: int = 256) -> None:
        self._authkey = authkey
        self._messages: asyncio.Queue[Message] = asyncio.Queue(capacity)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(address).unlink(missing_ok=True)  # of a predecessor that was killed
        self._socket.bind(address)
        self._socket.listen()
        self._socket.setblocking(False)
        self._peers: set[asyncio.Task[None]] = set()
        self._accepting = tasks.start(self._accept(), "inbox")

    async def get(self, timeout: float) -> Message | None:
        """The next message, or None when none comes within `timeout` seconds."""
        if not self._messages.empty():
            return self._messages.get_nowait()
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._messages.get(), max(timeout, 0.0))
        return None

    async def close(self) -> None:
        """Hang up on every sender. What was received but not read is dropped."""
        ended = [self._accepting, *self._peers]
        for task in ended:
            task.cancel()
        await asyncio.wait(ended)
        self._socket.close()

    async def _accept(self) -> None:
        while True:
            try:
                peer, _ = await asyncio.get_running_loop().sock_accept(self._socket)
            except OSError as error:  # such as: too many open files
                logger.error("cannot take a connection: %s", error)
                await asyncio.sleep(1.0)
                continue
            # A task each: a peer that connects and says nothing holds up only itself.
            task = tasks.start(self._receive(peer), "inbox-peer")
            self._peers.add(task)
            task.add_done_callback(self._peers.discard)

    async def _receive(self, peer: socket.socket) -> None:
        with peer:
            try:
                await tasks.in_thread("inbox-greeting", lambda: self._greet(peer))
                peer.setblocking(False)
                reader, writer = await asyncio.open_unix_connection(sock=peer)
                with contextlib.closing(writer):
                    while True:
                        await self._messages.put(await _read_message(reader))
            except _BROKEN as error:
                logger.debug("a sender is gone: %r", error)
            except _MALFORMED as error:
                logger.error("dropped a sender that sent no message: %r", error)

    def _greet(self, peer: socket.socket) -> None:
        with _connection(peer) as connection:
            deliver_challenge(connection, self._authkey)
            answer_challenge(connection, self._authkey)


async def _read_message(reader: asyncio.StreamReader) -> Message:
    """Read what `Connection.send_bytes` of a sender wrote: a message after its length.

    Raises one of `_BROKEN` when the sender is gone, one of `_MALFORMED` for anything else.
    """
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    if size < 0:
        raise ValueError("a message of more than 2 GiB")
    message = pickle.loads(await reader.readexactly(size))
    if not isinstance(message, Message):
        raise ValueError(f"not a message: {type(message).__name__}")
    return message


class Outbox:
    """The sending end of the channel to one receiver.

    A thread of its own connects when there is something to send, and again when the receiver was
    restarted; until then messages wait in a `Backlog` of `capacity`.
    """

    def __init__(self, address: str, authkey: bytes, capacity: int = 256) -> None:
        self._address = address
        self._authkey = authkey
        self._backlog = Backlog(capacity)
        self._meter = metrics.QueueMeter(f"{current_process().name} to {Path(address).name}")
        self._changed = threading.Condition()
        self._sending = False
        self._closed = False
        self._next_line_at = 0.0
        self._socket: socket.socket | None = None
        self._thread = tasks.thread("outbox", self._run)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Queue a message without blocking; see `Backlog.add` for what happens when it is full.

        Raises ChannelFullError when an essential message finds no room.
        """
        with self._changed:
            self._backlog.add(message)
            self._meter.holds(len(self._backlog))
            self._changed.notify_all()

    def offer(self, message: Message) -> bool:
        """As `put`, but False when there is no room, with a line in the log now and then.

        For what nobody could do anything about: the neighbour that takes no messages hangs, and is
        ended and started again.
        """
        try:
            self.put(message)
        except ChannelFullError as error:
            metrics.DROPS.labels("channel full").inc()
            now = time.monotonic()
            if now >= self._next_line_at:
                logger.error("%s", error)
                self._next_line_at = now + LINES_APART
            return False
        return True

    def close(self, timeout: float = 1.0) -> None:
        """Send what is left, for at most `timeout` seconds, and hang up."""
        with self._changed:
            self._changed.wait_for(lambda: not self._backlog and not self._sending, timeout)
            self._closed = True
            self._changed.notify_all()
            if self._socket is not None:
                _shut_down(self._socket)
        self._thread.join(timeout)

    def _run(self) -> None:
        connection: Connection | None = None
        for payload in self._payloads():
            sent = False
            while not sent and not self._closed:
                try:
                    connection = connection or self._connect()
                    connection.send_bytes(payload)
                    sent = True
                except _BROKEN as error:
                    # Nothing of a message whose sending failed was received whole: it goes again.
                    logger.debug("nobody reads %s: %r", self._address, error)
                    if connection is not None:
                        connection.close()
                        connection = None
                    else:
                        time.sleep(RECONNECT_INTERVAL)
        if connection is not None:
            connection.close()

    def _payloads(self) -> Iterator[bytes]:
        """Messages, ready to be sent, until the outbox is closed."""
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                while not self._backlog and not self._closed:
                    self._changed.wait(CHECK_INTERVAL)
                if self._closed:
                    return
                message = self._backlog.take()
                self._meter.holds(len(self._backlog))
                self._sending = True
            yield pickle.dumps(message, pickle.HIGHEST_PROTOCOL)

    def _connect(self) -> Connection:
        """Raises one of `_BROKEN` when nobody listens, or somebody who does not know the key."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(peer.close)
            peer.settimeout(READ_TIMEOUT)
            peer.connect(self._address)
            connection = _connection(peer)
            undo.callback(connection.close)
            answer_challenge(connection, self._authkey)
            deliver_challenge(connection, self._authkey)
            undo.pop_all()
        with self._changed:
            if self._socket is not None:
                self._socket.close()
            self._socket = peer  # kept for `close`, which another thread calls
        return connection


def _connection(peer: socket.socket) -> Connection:
    """A message connection over a duplicate of the socket, whose reads do not wait for ever.

    The socket stays the caller's, to end the connection from another thread.
    """
    peer.setblocking(True)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", READ_TIMEOUT, 0))
    return Connection(os.dup(peer.fileno()))


def _shut_down(each: socket.socket) -> None:
    """End a connection that another thread may be reading or writing; that thread closes it."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
