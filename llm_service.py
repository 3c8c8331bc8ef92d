"""Process 2: transcripts in, reply text out.

Each session has a `Conversation`, each reply a `Generation` that runs in a thread of its own and
can be stopped at any token. Replies to speculations are made before the commit, which adopts the
one that is already under way, or complete.
"""

from __future__ import annotations

import logging
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
    SessionChanged,
    SessionEnded,
    SessionStarted,
    Speculation,
    Spoken,
    ToolResult,
    Wish,
    Withdrawal,
)
from fusion.receiving import neighbour_is_ready, received
from fusion.selection import LANGUAGE_MODELS, Pick, module
from fusion.settings import Settings
from fusion.status import Phase, Service
from fusion.tools import NO_TOOLS, Tool, ToolOffer
from language_models.announcer import ModelAnnouncer
from language_models.automatic import AutomaticModel, Started, is_automatic
from language_models.base import ChatMessage, LanguageModel
from language_models.conversation import Conversation
from language_models.generations import HEAD_START, Generation, Generations, Priority
from language_models.library_errors import as_model_errors
from language_models.prompts import size_in_prompt, with_tools
from language_models.replying import CALL_TOKENS, Replying
from language_models.speed import SpeedWatch, turn_cost
from language_models.tool_calls import NoServerTools, ServerTools, ToolCalls, server_tools_of

logger = logging.getLogger(__name__)


@dataclass
class _ChatSession:
    """A session as the language model knows it."""

    conversation: Conversation
    # A reply that was complete before its revision was committed.
    ready: Generation | None = None
    max_tokens: int = 0
    tools: ToolOffer = NO_TOOLS
    language: str = ""


class LanguageModelService:
    """Turn messages about sessions into generations, and generations into messages.

    `send` takes what the transcription server and the voice are told; it is called from several
    threads and must not block. `now` is the time of day where the people are.
    `tell_speed` takes the tokens a second of each reply, 0 where there were too few to tell.
    `server_tools` are offered beside those of the client.
    """

    def __init__(
        self,
        model: LanguageModel,
        settings: Settings,
        send: Callable[[Message], None],
        now: Callable[[], datetime] = datetime.now,
        tell_speed: Callable[[float], None] = lambda _: None,
        server_tools: ServerTools | None = None,
    ) -> None:
        self._model = model
        self.tell_speed = tell_speed
        self._now = now
        self._settings = settings
        self._send = send
        self._lock = threading.RLock()
        self._clients: dict[str, _ChatSession] = {}
        self._generations = Generations(model.max_concurrent)
        self._meter = metrics.QueueMeter("generations")
        self._successor: LanguageModel | None = None
        self._tool_calls = ToolCalls(server_tools or NoServerTools(), settings.tool_timeout)

    def handle(self, message: Message) -> None:
        """Take one message from the transcription server."""
        with self._lock:
            if isinstance(message, SessionStarted):
                prompt = message.system_prompt or self._settings.system_prompt
                conversation = Conversation(prompt, message.history, self._now())
                self._clients[message.session] = _ChatSession(
                    conversation,
                    max_tokens=message.max_tokens,
                    tools=message.tools,
                    language=message.language,
                )
                return
            if isinstance(message, ToolResult):
                self._tool_calls.deliver(message)
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
        client.max_tokens, client.tools = message.max_tokens, message.tools
        if message.history is None:
            client.conversation.instruct(prompt)
        else:
            client.conversation = Conversation(prompt, message.history)

    def _handle_turn(self, client: _ChatSession, message: Message) -> None:
        if isinstance(message, Prefill):
            self._add(message, Priority.PREFILL)
        elif isinstance(message, Speculation):
            client.ready = None
            self._add(message, Priority.SPECULATIVE)
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
            found.commit()
            return
        self._stop(message.session, turn=message.turn)
        self._add(message, Priority.COMMITTED)

    def _add(self, message: Prefill | Speculation | Commit, priority: Priority) -> None:
        key, trace = (message.session, message.turn, 0), getattr(message, "trace", "")
        generation = Generation(*key, message.text, priority, trace=trace)
        if not isinstance(message, Prefill):
            generation.revision, generation.language = message.revision, message.language
        if isinstance(message, Commit):
            generation.wish = message.wish
        self._generations.add(generation)

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
        if generation.priority != Priority.PREFILL:
            Replying(self, generation, self._model, self._settings, self._tool_calls).make()
            return
        tools = self._tool_calls.offered(self.offer(generation))
        messages = self.prompt(generation, (), tools)
        if messages is not None:
            with as_model_errors(self._model.name), metrics.model_call("prefill"):
                self._model.prefill(messages, generation.cancellation, tools)

    # -- what a reply in the making asks for (`replying.ReplyHost`) ------------------------------

    def prompt(
        self, generation: Generation, exchange: Sequence[ChatMessage], tools: tuple[Tool, ...]
    ) -> list[ChatMessage] | None:
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
        if not self._model.takes_tools:
            copy.forget_exchanges()
        if tools:
            copy.instruct(with_tools(copy.system_prompt))
        messages = copy.prompt(
            generation.turn,
            generation.question,
            partial(self._count_tokens, tools),
            self._settings.prompt_tokens(tools=bool(tools)) - (CALL_TOKENS if tools else 0),
            exchange,
            size_in_prompt(tools),
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

    def offer(self, generation: Generation) -> ToolOffer:
        """What of its client's tools a reply may call."""
        with self._lock:
            client = self._clients.get(generation.session)
        if client is None or not (self._model.takes_tools and self._settings.max_tool_tokens):
            return ToolOffer(choice="none")
        wish = generation.wish
        return client.tools if wish is None or wish.tools is None else wish.tools

    def language(self, generation: Generation) -> str:
        """The language of a session, as a code; "" where it is not known."""
        with self._lock:
            client = self._clients.get(generation.session)
        return "" if client is None else client.language

    def most_tokens(self, generation: Generation) -> int:
        """The longest reply."""
        wanted = generation.wish.max_tokens if generation.wish is not None else 0
        with self._lock:
            client = self._clients.get(generation.session)
            wanted = wanted or (client.max_tokens if client is not None else 0)
        return wanted or self._settings.max_new_tokens

    def _count_tokens(self, tools: tuple[Tool, ...], messages: Sequence[ChatMessage]) -> int:
        with as_model_errors(self._model.name):
            return self._model.count_tokens(messages, tools)

    def grow(self, generation: Generation, piece: str) -> None:
        """The reply goes on with these words."""
        if not piece:
            return
        with self._lock:
            self.tell(generation, generation.grow(piece, time.monotonic()))
            if generation.pieces == HEAD_START:
                self._start_what_may()

    def note_exchange(self, generation: Generation, exchange: Sequence[ChatMessage]) -> None:
        """Remember what tools did, also where the reply is interrupted later."""
        with self._lock:
            client = self._clients.get(generation.session)
            if client is not None:
                client.conversation.exchange(generation.turn, exchange)

    def complete(self, generation: Generation, answer: str, text: str) -> None:
        """All of it was told: `text`, of which the model remembers `answer` beside the calls."""
        with self._lock:
            if generation.cancellation.requested:
                return
            generation.text = answer
            client = self._clients[generation.session]
            if generation.priority == Priority.COMMITTED:
                client.conversation.answer(generation.turn, answer)
            else:
                client.ready = generation
            self.tell(generation, ReplyEnded(*generation.key, text, time.monotonic()))

    def _fail(self, generation: Generation, error: ModelError) -> None:
        """End the turn; speculation that failed is done again when its turn is committed."""
        extra = about(generation.session, generation.turn)
        logger.warning("a reply failed: %s", without_quotes(str(error)), extra=extra)
        with self._lock:
            if generation.priority == Priority.COMMITTED:
                self.tell(generation, ReplyFailed(*generation.key, str(error)))
            else:
                self._generations.stop(generation)

    def tell(self, generation: Generation, message: Message) -> None:
        """Nothing is said of a generation that was stopped."""
        with self._lock:
            if generation.priority != Priority.PREFILL and not generation.cancellation.requested:
                self._send(message)


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
    server_tools = server_tools_of(settings)
    service = LanguageModelService(
        started.model, settings, send, tell_speed=watch.reply, server_tools=server_tools
    )
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
    await server_tools.close()
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
