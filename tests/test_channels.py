"""Channels: order, what gives way, and readers that are killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.channels import ESSENTIAL_FACTOR, Backlog, Inbox, Outbox
from fusion.errors import ChannelFullError
from fusion.messages import (
    PROVISIONAL,
    Commit,
    Message,
    Prefill,
    SessionEnded,
    SessionStarted,
    Speculation,
    Withdrawal,
)

KEY = b"a key of this test"
SPAWN = multiprocessing.get_context("spawn")


def commit(turn: int, session: str = "a", text: str = "") -> Commit:
    return Commit(session, turn, 1, text)


def speculation(turn: int, session: str = "a") -> Speculation:
    return Speculation(session, turn, 1, "")


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "queue")


@pytest.fixture
def outbox(address: str) -> Iterator[Outbox]:
    result = Outbox(address, KEY, capacity=8)
    yield result
    result.close(0.1)


async def drain(inbox: Inbox, until: Message, timeout: float = 10.0) -> list[Message]:
    """Everything up to and including the message `until`."""
    received: list[Message] = []
    deadline = time.monotonic() + timeout
    while not received or received[-1] != until:
        assert time.monotonic() < deadline, f"{until} did not come, only {received[-3:]}"
        message = await inbox.get(0.1)
        if message is not None:
            received.append(message)
    return received


# -- the policy ----------------------------------------------------------------------------------

messages = st.builds(
    lambda kind, session, turn: kind(session, turn),
    st.sampled_from(
        [
            lambda s, t: Prefill(s, t, "words"),
            lambda s, t: Speculation(s, t, 1, "words"),
            lambda s, t: Commit(s, t, 1, "words"),
            lambda s, t: Withdrawal(s, t, 1),
        ]
    ),
    st.sampled_from("abc"),
    st.integers(1, 99),
)


@given(st.integers(1, 5), st.lists(st.one_of(messages, st.just("take")), max_size=80))
def test_essential_messages_are_never_dropped_and_order_is_kept(
    capacity: int, steps: list[Message | str]
) -> None:
    backlog, accepted, out = Backlog(capacity), [], []
    waiting_essential = 0
    for step in steps:
        if isinstance(step, str):
            if len(backlog):
                out.append(backlog.take())
                waiting_essential -= not isinstance(out[-1], PROVISIONAL)
            continue
        essential = not isinstance(step, PROVISIONAL)
        try:
            backlog.add(step)
        except ChannelFullError:
            assert essential
            assert waiting_essential == ESSENTIAL_FACTOR * capacity
            continue
        accepted.append(step)
        waiting_essential += essential
        assert len(backlog) <= max(capacity, waiting_essential)
    while len(backlog):
        out.append(backlog.take())
    assert [m for m in out if not isinstance(m, PROVISIONAL)] == [
        m for m in accepted if not isinstance(m, PROVISIONAL)
    ]
    remaining = iter(accepted)
    assert all(any(m is a for a in remaining) for m in out), "the order changed"


def test_the_sessions_own_older_proposal_gives_way_first() -> None:
    backlog = Backlog(3)
    for message in (speculation(1, "b"), speculation(1, "a"), commit(1, "b"), speculation(2, "a")):
        backlog.add(message)
    assert [backlog.take() for _ in range(3)] == [
        speculation(1, "b"),
        commit(1, "b"),
        speculation(2),
    ]


def test_the_oldest_proposal_of_another_session_gives_way_next() -> None:
    backlog = Backlog(2)
    for message in (speculation(1, "b"), speculation(1, "c"), commit(1, "a")):
        backlog.add(message)
    assert [backlog.take(), backlog.take()] == [speculation(1, "c"), commit(1, "a")]


def test_a_new_proposal_gives_way_to_a_backlog_of_commits() -> None:
    backlog = Backlog(2)
    for message in (commit(1), commit(2), speculation(3)):
        backlog.add(message)
    assert len(backlog) == 2


def started(session: str) -> SessionStarted:
    return SessionStarted(session, "key", "localhost", "en", "", "")


def test_nothing_is_left_of_a_session_that_ended_before_the_receiver_heard_of_it() -> None:
    backlog = Backlog(2)
    for number in range(1000):
        backlog.add(started(str(number)))
        backlog.add(speculation(1, str(number)))
        backlog.add(SessionEnded(str(number)))
    assert len(backlog) == 0


def test_the_end_of_a_known_session_takes_the_place_of_what_waits_for_it() -> None:
    backlog = Backlog(1)
    backlog.add(started("a"))
    assert backlog.take() == started("a")
    backlog.add(commit(1, "b"))
    for turn in range(ESSENTIAL_FACTOR - 1):
        backlog.add(commit(turn, "a"))
    with pytest.raises(ChannelFullError):
        backlog.add(commit(9, "b"))
    backlog.add(SessionEnded("a"))
    assert [backlog.take(), backlog.take()] == [commit(1, "b"), SessionEnded("a")]
    assert len(backlog) == 0


# -- the sockets -----------------------------------------------------------------------------------


async def test_messages_arrive_in_order_and_soon(address: str, outbox: Outbox) -> None:
    inbox = Inbox(address, KEY)
    sent = [commit(n) for n in range(1, 201)]
    for message in sent:
        outbox.put(message)
        await asyncio.sleep(0.002)
    assert await drain(inbox, sent[-1]) == sent
    started = time.monotonic()
    for n in range(100):
        outbox.put(commit(n))
        assert await inbox.get(1.0) == commit(n)
    assert (time.monotonic() - started) / 100 < 0.02  # far above what it takes: a shared machine
    await inbox.close()


async def test_get_returns_none_at_its_timeout(address: str) -> None:
    inbox = Inbox(address, KEY)
    assert await inbox.get(0.01) is None
    assert await inbox.get(-1.0) is None
    await inbox.close()


async def test_messages_wait_for_a_receiver_that_starts_later(address: str, outbox: Outbox) -> None:
    outbox.put(commit(1))
    await asyncio.sleep(0.2)
    inbox = Inbox(address, KEY)
    assert await inbox.get(5.0) == commit(1)
    await inbox.close()


async def test_a_slow_reader_loses_proposals_but_no_commit(address: str) -> None:
    inbox, outbox = Inbox(address, KEY, capacity=4), Outbox(address, KEY, capacity=8)
    padding = "x" * 100_000  # so that few messages fit into the socket's own buffer
    sent: list[Message] = []
    for turn in range(1, 13):
        sent += [Speculation("a", turn, 1, padding), commit(turn, text=padding)]
    for message in sent:
        outbox.put(message)
        await asyncio.sleep(0.005)
    received = await drain(inbox, sent[-1])
    assert [m for m in received if isinstance(m, Commit)] == sent[1::2]
    assert len(received) < len(sent), "nothing was under pressure"
    outbox.close()
    await inbox.close()


async def test_a_stopped_reader_is_an_error_in_the_end(outbox: Outbox) -> None:
    for turn in range(ESSENTIAL_FACTOR * 8):
        outbox.put(commit(turn))
    with pytest.raises(ChannelFullError, match="neighbouring process"):
        for turn in range(2):  # the sending thread may hold one more
            outbox.put(commit(turn))


async def test_what_a_stopped_reader_leaves_no_room_for_is_logged_once(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    taken = [outbox.offer(commit(turn)) for turn in range(ESSENTIAL_FACTOR * 8 + 100)]
    assert taken.count(False) >= 99
    assert caplog.text.count("unread") == 1


async def test_close_delivers_what_is_left(address: str, outbox: Outbox) -> None:
    for turn in range(8):
        outbox.put(commit(turn))
    inbox = Inbox(address, KEY)
    await asyncio.to_thread(outbox.close, 5.0)
    assert [await inbox.get(1.0) for _ in range(8)] == [commit(turn) for turn in range(8)]
    await inbox.close()


async def test_strangers_and_nonsense_leave_the_inbox_working(
    address: str, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(address, KEY)
    with pytest.raises(Exception, match="digest"):
        await asyncio.to_thread(Client, address, family="AF_UNIX", authkey=b"wrong")
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as rude:
        silent.connect(address)
        rude.connect(address)
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        insiders = [
            await asyncio.to_thread(Client, address, family="AF_UNIX", authkey=KEY)
            for _ in range(3)
        ]
        insiders[0].send_bytes(b"no pickle")
        insiders[1].send({"not": "a message"})
        insiders[2].send_bytes(pickle.dumps(commit(1))[:-4])
        for insider in insiders:
            with pytest.raises((EOFError, ConnectionError)):
                await asyncio.to_thread(insider.recv)  # hung up on
        outbox.put(commit(7))
        assert await inbox.get(5.0) == commit(7)
    assert caplog.text.count("dropped a sender") == len(insiders)
    await inbox.close()


def read_some(address: str, report: Connection) -> None:
    """A reader that says what it got, and then waits for more."""

    async def read() -> None:
        inbox = Inbox(address, KEY)
        report.send(os.getpid())
        while True:
            message = await inbox.get(5.0)
            if message is not None:
                report.send(message)

    asyncio.run(read())


async def test_the_successor_of_a_killed_reader_gets_later_messages(
    address: str, outbox: Outbox
) -> None:
    for round_ in range(3):
        ours, theirs = SPAWN.Pipe()
        reader = SPAWN.Process(target=read_some, args=(address, theirs))
        reader.start()
        assert ours.poll(30)
        pid = ours.recv()
        outbox.put(commit(round_))
        assert ours.poll(10), "the successor hears nothing"
        assert ours.recv() == commit(round_)
        os.kill(pid, signal.SIGKILL)  # while it waits in `get`
        reader.join(10)
        assert reader.exitcode == -signal.SIGKILL


async def test_a_message_cut_off_by_the_readers_death_goes_to_the_successor(
    address: str, outbox: Outbox
) -> None:
    big = commit(1, text="x" * 4_000_000)  # more than a socket holds: its sending blocks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        outbox.put(big)
        peer, _ = listener.accept()
        connection = Connection(peer.detach())
        deliver_challenge(connection, KEY)
        answer_challenge(connection, KEY)
        assert connection.poll(5)
        os.read(connection.fileno(), 1000)
        connection.close()
    inbox = Inbox(address, KEY)
    assert await inbox.get(10.0) == big
    await inbox.close()
