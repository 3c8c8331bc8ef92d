"""Process 2: transcripts in, reply text out.

Each session has a `Conversation`, each reply a `Generation` that runs in a thread of its own and
can be stopped at any token. Replies to speculations are made before the commit, which adopts the
one that is already under way, or complete.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from fusion import metrics, tasks, watchdog
from fusion.channels import Inbox, Outbox
from fusion.child_process import child_process
from fusion.errors import ModelError
from fusion.links import Links
from fusion.logs import about, without_quotes
from fusion.messages import (
    Commit,
    Interruption,
    Message,
    Prefill,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    ReplyThinking,
    SessionChanged,
    SessionEnded,
    SessionStarted,
    Speculation,
    Spoken,
    Wish,
    Withdrawal,
)
from fusion.receiving import neighbour_is_ready, received
from fusion.selection import LANGUAGE_MODELS, Pick, module
from fusion.settings import Settings
from fusion.status import Phase, Service
from language_models.announcer import ModelAnnouncer
from language_models.automatic import AutomaticModel, Started, is_automatic
from language_models.base import ChatMessage, Finish, GenerationRequest, LanguageModel, Thinking
from language_models.conversation import Conversation
from language_models.generations import HEAD_START, Generation, Generations, Priority
from language_models.library_errors import as_model_errors, guarded_stream
from language_models.reply_filter import ReplyFilter
from language_models.speed import ReplyClock, SpeedWatch, turn_cost

logger = logging.getLogger(__name__)

# How often the neighbours are told that a model still thinks.
_THINKING_INTERVAL = 1.0


@dataclass
class _ChatSession:
    """A session as the language model knows it."""

    conversation: Conversation
    # A reply that was complete before its revision was committed.
    ready: Generation | None = None
    max_tokens: int = 0


class LanguageModelService:
    """Turn messages about sessions into generations, and generations into messages.

    `send` takes what the transcription server and the voice are told; it is called from several
    threads and must not block. `now` is the time of day where the people are.
    `tell_speed` takes the tokens a second of each reply, 0 where there were too few to tell.
    """

    def __init__(
        self,
        model: LanguageModel,
        settings: Settings,
        send: Callable[[Message], None],
        now: Callable[[], datetime] = datetime.now,
        tell_speed: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._tell_speed = tell_speed
        self._now = now
        self._settings = settings
        self._send = send
        self._lock = threading.RLock()
        self._clients: dict[str, _ChatSession] = {}
        self._generations = Generations(model.max_concurrent)
        self._meter = metrics.QueueMeter("generations")
        self._successor: LanguageModel | None = None

    def handle(self, message: Message) -> None:
        """Take one message from the transcription server."""
        with self._lock:
            if isinstance(message, SessionStarted):
                prompt = message.system_prompt or self._settings.system_prompt
                conversation = Conversation(prompt, message.history, self._now())
                self._clients[message.session] = _ChatSession(
                    conversation, max_tokens=message.max_tokens
                )
                return
            client = self._clients.get(message.session)
            if client is None:
                return
            if isinstance(message, SessionEnded):
                self._stop(message.session)
                del self._clients[message.session]
            elif isinstance(message, SessionChanged):
                self._change(client, message)
            else:
                self._handle_turn(client, message)
            self._start_what_may()

    def replace_model(self, model: LanguageModel) -> None:
        """Let another model answer, with the conversations as they are, once no reply is made.

        The model that it replaces is closed.
        """
        with self._lock:
            self._successor = model
            retired = self._take_over()
        if retired is not None:
            retired.close()

    def _take_over(self) -> LanguageModel | None:
        """Let the successor answer if nothing is being made; returns the model that it replaces."""
        if self._successor is None or self._generations.running:
            return None
        retired, self._model, self._successor = self._model, self._successor, None
        metrics.change_model(self._model.name)
        logger.info("from now on %s answers", self._model.name)
        return retired

    def close(self) -> None:
        """Give up everything and release the model."""
        self.forget_all()
        for model in filter(None, (self._model, self._successor)):
            model.close()

    def forget_all(self) -> None:
        """No session lives on: give up everything that is under way."""
        with self._lock:
            for session in list(self._clients):
                self._stop(session)
            self._clients.clear()

    def _change(self, client: _ChatSession, message: SessionChanged) -> None:
        prompt = message.system_prompt or self._settings.system_prompt
        client.max_tokens = message.max_tokens
        if message.history is None:
            client.conversation.instruct(prompt)
        else:
            client.conversation = Conversation(prompt, message.history)

    def _handle_turn(self, client: _ChatSession, message: Message) -> None:
        if isinstance(message, Prefill):
            self._add(message.session, message.turn, 0, message.text, Priority.PREFILL)
        elif isinstance(message, Speculation):
            client.ready = None
            self._add(
                message.session, message.turn, message.revision, message.text, Priority.SPECULATIVE
            )
        elif isinstance(message, Commit):
            self._commit(client, message)
        elif isinstance(message, Withdrawal):
            client.ready = None
            found = self._generations.find(message.session, message.turn, message.revision)
            if found is not None:
                self._generations.stop(found)
        elif isinstance(message, Interruption):
            self._stop(message.session, turn=message.turn)
        elif isinstance(message, Spoken):
            client.conversation.answer(message.turn, message.text)

    def _commit(self, client: _ChatSession, message: Commit) -> None:
        if message.wish is None or message.wish.aside is None:
            client.conversation.ask(message.turn, message.text)
        ready, client.ready = client.ready, None
        if ready is not None and (ready.turn, ready.revision) == (message.turn, message.revision):
            client.conversation.answer(message.turn, ready.text)
            return
        found = self._generations.find(message.session, message.turn, message.revision)
        if found is not None and not found.cancellation.requested:
            found.priority = Priority.COMMITTED
            return
        self._stop(message.session, turn=message.turn)
        key = (message.session, message.turn, message.revision)
        self._add(*key, message.text, Priority.COMMITTED, message.wish)

    def _add(
        self,
        session: str,
        turn: int,
        revision: int,
        question: str,
        priority: Priority,
        wish: Wish | None = None,
    ) -> None:
        self._generations.add(Generation(session, turn, revision, question, priority, wish=wish))

    def _stop(self, session: str, turn: int | None = None) -> None:
        for generation in self._generations.of_session(session):
            if turn is None or generation.turn == turn:
                self._generations.stop(generation)

    def _start_what_may(self) -> None:
        while (generation := self._generations.next()) is not None:
            self._meter.left(generation.since)
            tasks.thread("generation", self._run, generation).start()
        self._meter.holds(len(self._generations.waiting))

    # -- in a generation's own thread ----------------------------------------------------------

    def _run(self, generation: Generation) -> None:
        try:
            self._generate(generation)
        except ModelError as error:
            self._fail(generation, error)
        finally:
            with self._lock:
                self._generations.finished(generation)
                retired = self._take_over()
                self._start_what_may()
            if retired is not None:
                retired.close()

    def _generate(self, generation: Generation) -> None:
        messages = self._prompt(generation)
        if messages is None:
            return
        if generation.priority == Priority.PREFILL:
            with as_model_errors(self._model.name), metrics.model_call("prefill"):
                self._model.prefill(messages, generation.cancellation)
            return
        request = GenerationRequest(
            messages=tuple(messages),
            max_tokens=self._most_tokens(generation),
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
        )
        reply = ReplyFilter(request.max_tokens)
        began = time.monotonic()
        clock = ReplyClock()
        cut = self._read(generation, request, reply, clock)
        self._tell_speed(clock.speed())
        if not generation.cancellation.requested:
            self._grow(generation, reply.finish(cut=cut))
            if not reply.text:
                raise ModelError(reply.why_empty(cut=cut))
            metrics.called("generation", time.monotonic() - began)
            self._complete(generation, reply.text)

    def _read(
        self,
        generation: Generation,
        request: GenerationRequest,
        reply: ReplyFilter,
        clock: ReplyClock,
    ) -> bool:
        """Read the model's stream through the filter; whether it ended for want of tokens."""
        told = -math.inf
        stream = guarded_stream(self._model, request, generation.cancellation)
        with contextlib.closing(stream):
            while not reply.ended:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    return end.value is Finish.LENGTH
                now = time.monotonic()
                if isinstance(piece, Thinking):
                    reply.think()
                else:
                    clock.piece(now)
                    self._grow(generation, reply.push(piece))
                if reply.thinking and now - told >= _THINKING_INTERVAL:
                    told = now
                    self._tell(generation, ReplyThinking(*_key(generation), now))
        return False

    def _prompt(self, generation: Generation) -> list[ChatMessage] | None:
        """The prompt, or None if nobody wants the reply any more.

        The lock is not held while tokens are counted: a server may take a second for that, and
        other people's interruptions must not wait for it.
        """
        with self._lock:
            client = self._clients.get(generation.session)
            if client is None or generation.cancellation.requested:
                return None
            conversation = client.conversation
            conversation.tell_time(generation.turn, self._now())
            copy = self._basis(conversation, generation.wish)
        messages = copy.prompt(
            generation.turn,
            generation.question,
            self._count_tokens,
            self._settings.max_prompt_tokens,
        )
        with self._lock:
            conversation.forget_as(copy)
        return messages

    def _basis(self, conversation: Conversation, wish: Wish | None) -> Conversation:
        """What a reply is made from: the conversation, or what the client wants instead of it."""
        if wish is None:
            return conversation.copy()
        if wish.aside is None:
            return conversation.copy(wish.system_prompt)
        prompt = wish.system_prompt or conversation.system_prompt
        return Conversation(prompt, wish.aside)

    def _most_tokens(self, generation: Generation) -> int:
        wanted = generation.wish.max_tokens if generation.wish is not None else 0
        with self._lock:
            client = self._clients.get(generation.session)
            wanted = wanted or (client.max_tokens if client is not None else 0)
        return wanted or self._settings.max_new_tokens

    def _count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        with as_model_errors(self._model.name):
            return self._model.count_tokens(messages)

    def _grow(self, generation: Generation, piece: str) -> None:
        if not piece:
            return
        with self._lock:
            generation.pieces += 1
            self._tell(generation, ReplyText(*_key(generation), piece, time.monotonic()))
            if generation.pieces == HEAD_START:
                self._start_what_may()

    def _complete(self, generation: Generation, text: str) -> None:
        with self._lock:
            if generation.cancellation.requested:
                return
            generation.text = text
            client = self._clients[generation.session]
            if generation.priority == Priority.COMMITTED:
                client.conversation.answer(generation.turn, generation.text)
            else:
                client.ready = generation
            ended = ReplyEnded(*_key(generation), generation.text, time.monotonic())
            self._tell(generation, ended)

    def _fail(self, generation: Generation, error: ModelError) -> None:
        """End the turn; speculation that failed is done again when its turn is committed."""
        extra = about(generation.session, generation.turn)
        logger.warning("a reply failed: %s", without_quotes(str(error)), extra=extra)
        with self._lock:
            if generation.priority == Priority.COMMITTED:
                self._tell(generation, ReplyFailed(*_key(generation), str(error)))
            else:
                self._generations.stop(generation)

    def _tell(self, generation: Generation, message: Message) -> None:
        """Nothing is said of a generation that was stopped."""
        with self._lock:
            if generation.priority != Priority.PREFILL and not generation.cancellation.requested:
                self._send(message)


def _key(generation: Generation) -> tuple[str, int, int]:
    return generation.session, generation.turn, generation.revision


async def _serve(settings: Settings, links: Links, stop: threading.Event) -> None:
    status = links.status
    beat = partial(status.beat, Service.LANGUAGE_MODEL)
    inbox = Inbox(links.transcription_queue, links.authkey)
    neighbours = [Outbox(path, links.authkey) for path in (links.llm_queue, links.audio_queue)]
    status.report(Service.LANGUAGE_MODEL, Phase.WAITING)
    if not await neighbour_is_ready(Service.TRANSCRIPTION, status, stop, beat):
        return
    status.report(Service.LANGUAGE_MODEL, Phase.LOADING)
    pick = links.choice.language_model
    automatic = AutomaticModel(settings, partial(load, pick=pick))
    if is_automatic(settings, pick.library):
        started = await watchdog.load("language model", automatic.start)
    else:
        model = await watchdog.load("language model", lambda: load(settings, pick))
        started = Started(model, model.name, pick.reason)

    if settings.measures_capacity and status.cost(Service.LANGUAGE_MODEL) is None:
        cost = await watchdog.load("language model", lambda: turn_cost(started.model, pick.library))
        status.report_cost(Service.LANGUAGE_MODEL, cost)

    def send(message: Message) -> None:
        for neighbour in neighbours:
            neighbour.offer(message)

    watch = automatic.watch(started)
    service = LanguageModelService(started.model, settings, send, tell_speed=watch.reply)
    announcer = ModelAnnouncer(neighbours[0].offer)
    announcer.announce(started.name, "", started.sentence())
    if started.coming is not None:
        work = (automatic, started, service, announcer, watch)
        tasks.thread("better-model", _improve, *work).start()
    status.report(Service.LANGUAGE_MODEL, Phase.READY)
    logger.info("ready: %s", started.model.name)
    restart_count = status.restart_count(Service.TRANSCRIPTION)
    async for message in received(inbox, stop, beat):
        if status.restart_count(Service.TRANSCRIPTION) != restart_count:
            # Its sessions died with it. The new ones are introduced only after this.
            restart_count = status.restart_count(Service.TRANSCRIPTION)
            service.forget_all()
            announcer.repeat()
        if message is not None:
            service.handle(message)
    service.close()
    for neighbour in neighbours:
        neighbour.close()
    await inbox.close()


def run(settings: Settings, links: Links) -> None:
    """The body of the process: load the model, then serve until asked to stop."""
    with child_process(Service.LANGUAGE_MODEL, links) as stop:
        tasks.run(_serve(settings, links, stop))


def _improve(
    automatic: AutomaticModel,
    started: Started,
    service: LanguageModelService,
    announcer: ModelAnnouncer,
    watch: SpeedWatch,
) -> None:
    """In a thread of its own: bring the better model and let it take over."""
    better = automatic.improve(started, announcer.announce)
    if better is not None:
        service.replace_model(better.model)
        watch.follow(better.name)
        announcer.announce(better.name, "", better.sentence())


def load(settings: Settings, pick: Pick) -> LanguageModel:
    """Load the language model that was chosen, and warm it up."""
    model: LanguageModel = module(LANGUAGE_MODELS, pick).load(settings)
    model.warm_up()
    metrics.serve_model(pick.library, model.name)
    return model
