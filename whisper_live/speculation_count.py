"""What became of a session's speculations, for a monitor. Pure."""

from __future__ import annotations

from fusion.messages import Commit, Message, Speculation, Withdrawal

BEGUN, USED, WASTED = "begun", "used", "wasted"


class SpeculationCount:
    """Follows what a session asks of the language model. Each that begins ends once."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # turn: revision

    def follow(self, message: Message) -> list[str]:
        """What the message makes of speculations: their fates, one for each."""
        if isinstance(message, Speculation):
            older = self._open.pop(message.turn, None)
            self._open[message.turn] = message.revision
            return [BEGUN] if older is None else [WASTED, BEGUN]
        if isinstance(message, Withdrawal):
            if self._open.get(message.turn, message.revision + 1) > message.revision:
                return []
            del self._open[message.turn]
            return [WASTED]
        if isinstance(message, Commit):
            over = [turn for turn in self._open if turn <= message.turn]
            mine = (message.turn, message.revision)
            return [USED if (turn, self._open.pop(turn)) == mine else WASTED for turn in over]
        return []

    def end(self) -> list[str]:
        """The session is over: what is open was for nothing."""
        wasted = [WASTED] * len(self._open)
        self._open.clear()
        return wasted
