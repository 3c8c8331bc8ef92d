"""Our GPU kernels serve only where they compute what PyTorch does; CUDA graphs without a GPU."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.torch


def functions(**replaced: Any) -> Any:
    """PyTorch's own functions, some of them replaced, as if they were kernels."""
    from voices.whisperspeech import operations

    return SimpleNamespace(**{**vars(operations), **replaced}, FAILURES=(ArithmeticError,))


def a_little_off(name: str) -> Any:
    from voices.whisperspeech import operations

    right = getattr(operations, name)

    def wrong(*arguments: Any, **options: Any) -> Any:
        result = right(*arguments, **options)
        if result is None:  # `draw` changes what it is given
            arguments[3].add_(1)
            return None
        result[-1, -1] += 0.1 * result.abs().max()
        return result

    return wrong


def chosen(monkeypatch: pytest.MonkeyPatch, kernels: Any) -> Any:
    import torch

    from voices.whisperspeech.kernel_check import fastest_operations

    monkeypatch.setitem(sys.modules, "voices.whisperspeech.kernels", kernels)
    return fastest_operations(torch.device("cpu"))


def test_kernels_that_are_right_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = functions()
    assert chosen(monkeypatch, kernels) is kernels
    assert not caplog.records


@pytest.mark.parametrize("name", ["embed", "linear", "attend_own", "attend_source", "draw"])
def test_a_kernel_that_is_wrong_is_named_and_none_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    from voices.whisperspeech import operations

    with caplog.at_level(logging.WARNING):
        assert chosen(monkeypatch, functions(**{name: a_little_off(name)})) is operations
    assert f"({name}" in caplog.text


def test_a_cache_that_is_written_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from voices.whisperspeech import operations

    def forgetting(qkv: Any, keys: Any, values: Any, *more: Any) -> Any:
        return operations.attend_own(qkv, keys.clone(), values.clone(), *more)

    assert chosen(monkeypatch, functions(attend_own=forgetting)) is operations


@pytest.mark.parametrize(
    "error", [RuntimeError("no C compiler"), ArithmeticError("no C compiler"), OSError("no C")]
)
def test_a_kernel_that_cannot_be_made_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    from voices.whisperspeech import operations

    def fail(*_: Any, **__: Any) -> None:
        raise error

    assert chosen(monkeypatch, functions(draw=fail)) is operations
    assert "no C" in caplog.text


def test_without_triton_pytorch_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from voices.whisperspeech import operations

    assert chosen(monkeypatch, None) is operations
    assert "slower" in caplog.text


def test_the_first_run_of_a_size_is_recorded_and_later_ones_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from voices.whisperspeech.graphs import Graphs

    done: list[tuple[str, int]] = []

    def work(size: int) -> None:
        done.append(("run", size))

    graphs = Graphs(recorded=True)
    monkeypatch.setattr(
        graphs,
        "_record",
        lambda _, sizes: SimpleNamespace(replay=lambda: done.append(("replay", *sizes))),
    )
    for size in (2, 2, 4, 2):
        graphs.run(work, size)
    assert done == [("run", 2), ("replay", 2), ("run", 4), ("replay", 2)]
    assert [graphs.size(count, 6) for count in range(1, 7)] == [1, 2, 4, 4, 6, 6]
    assert graphs.sizes(6) == [1, 2, 4, 6]
    plain = Graphs(recorded=False)
    plain.run(work, 3)
    assert done[-1] == ("run", 3)
    assert plain.size(3, 6) == 3
    assert plain.sizes(6) == []


class Event:
    """A point in the GPU's work, which `reached` decides about."""

    def __init__(self) -> None:
        self.reached = False

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        self.reached = True


def test_results_are_delivered_in_order_and_few_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from voices.whisperspeech import in_flight

    events: list[Event] = []

    def event() -> Event:
        events.append(Event())
        return events[-1]

    monkeypatch.setattr(torch.cuda, "Event", event)
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *size, pin_memory=False, **more: empty(*size, **more)
    )
    seen: list[float] = []
    flight = in_flight.InFlight(SimpleNamespace(type="cuda"))
    for number in range(3):
        flight.add(torch.tensor([float(number)]), lambda host: seen.append(float(host[0])))
    flight.mark()
    flight.settle(3)
    assert seen == [0.0]  # waited for, as four were under way
    events[1].reached = True
    flight.settle(3)
    assert seen == [0.0, 1.0]  # was there anyway
    events[3].reached = True
    flight.settle(3)
    assert seen == [0.0, 1.0]  # nothing overtakes
    flight.settle(0)
    assert seen == [0.0, 1.0, 2.0]
    assert len(flight) == 0
