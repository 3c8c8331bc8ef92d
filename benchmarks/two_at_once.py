"""Two people who are answered at once: when the second has a first clause, and what that costs.

    python -m benchmarks.two_at_once --repeats 10

One reply is under way when another is begun. Both ways, with the first pausing for the second's
first clause and without, take turns in one run: quote the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time

from benchmarks.figures import median
from fusion.models import lookup
from fusion.settings import Settings
from language_models import pacing
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.generations import HEAD_START
from language_models.llama_cpp import LlamaCpp

QUESTIONS = (
    "Tell me a long story about a king, a river and a bridge.",
    "Name many colours, and say where they are found.",
)


def arrivals(model: LlamaCpp, question: str, times: list[float], begun: threading.Event) -> None:
    """Note when each piece of a reply comes."""
    messages = (ChatMessage("system", Settings().system_prompt), ChatMessage("user", question))
    for _ in model.stream(GenerationRequest(messages, 80), Cancellation()):
        times.append(time.monotonic())
        if len(times) == HEAD_START + 2:
            begun.set()


def trial(model: LlamaCpp) -> tuple[float, float]:
    """Seconds to the second one's first clause, and the longest gap in the first one's words."""
    first: list[float] = []
    second: list[float] = []
    begun = threading.Event()
    threads = [
        threading.Thread(target=arrivals, args=(model, question, times, event))
        for question, times, event in zip(
            QUESTIONS, (first, second), (begun, threading.Event()), strict=True
        )
    ]
    threads[0].start()
    begun.wait()
    start = time.monotonic()
    threads[1].start()
    for thread in threads:
        thread.join()
    clause = second[min(HEAD_START, len(second)) - 1] - start
    return clause, max(b - a for a, b in itertools.pairwise(first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--llm", default="smollm2-135m")
    arguments = parser.parse_args()
    settings = Settings(max_clients=2, llm=arguments.llm)
    model = LlamaCpp(lookup.resolve(settings.llm, "llm", settings.cache_folder), settings)
    model.warm_up()
    trial(model)
    found: dict[str, list[tuple[float, float]]] = {"paced": [], "not paced": []}
    for _ in range(arguments.repeats):
        for name, results in found.items():
            pacing.HEAD_START = HEAD_START if name == "paced" else 1 << 30
            results.append(trial(model))
    for name, results in found.items():
        clause, gap = (median([result[part] for result in results]) for part in (0, 1))
        print(
            f"{name:10} second's first clause {clause:.2f} s, longest gap of the first {gap:.2f} s"
        )
    model.close()


if __name__ == "__main__":
    main()
