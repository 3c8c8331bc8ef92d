"""The PyTorch model on a GPU: CUDA graphs and batching, with random weights.

They show whether the machinery is right and need no download; how fast it is, `benchmarks/gpu`
says. What a model says is tested on CPU, in test_transformers.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers import PreTrainedTokenizerFast as FastTokenizer

from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.transformers import TransformersModel
from language_models.transformers_batch import Batch

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

DEVICE = "cuda"
SLOTS = 3
CONTEXT = 512
END = 256
VOCABULARY = 257

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def weights(config: Any, dtype: Any) -> Any:
    """A model with random weights, the same each time."""
    torch.manual_seed(1)
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.generation_config.eos_token_id = END
    return model.eval()


def small_weights() -> Any:
    """Computed in float32, so that two ways to the same numbers agree to the last word."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.2,  # large enough that the tokens of a reply differ
        eos_token_id=END,
        bos_token_id=None,
    )
    return weights(config, torch.float32)


def byte_tokenizer() -> Any:
    """One token for each byte."""
    alphabet = {character: n for n, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(BPE(vocab={**alphabet, "<end>": END}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return FastTokenizer(tokenizer_object=tokenizer, eos_token="<end>", chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def model() -> Iterator[TransformersModel]:
    settings = Settings(max_clients=SLOTS, max_prompt_tokens=400, torch_compile=True)
    model = TransformersModel(small_weights(), byte_tokenizer(), settings)
    model.warm_up()
    yield model
    model.close()


def run(model: TransformersModel, question: str, tokens: int = 32) -> str:
    request = GenerationRequest((ChatMessage("user", question),), tokens)
    return "".join(model.stream(request, Cancellation()))


def greedy(batch: Batch, slot: int, ids: list[int], tokens: int) -> list[int]:
    batch.keep_common(slot, ids, whole=False)
    logits = None
    while batch.length(slot) < len(ids):
        logits = batch.read(slot, ids)
    assert logits is not None
    made = [int(logits.argmax())]
    while len(made) < tokens:
        made.append(int(batch.step({slot: made[-1]})[slot].argmax()))
    return made


def test_a_compiled_step_gives_the_tokens_of_a_plain_one() -> None:
    weights = small_weights()
    ids = list(b"It was a bright cold day in April, and the clocks were striking")
    plain = greedy(Batch(weights, SLOTS, CONTEXT, compiled=False), 1, ids, 40)
    compiled = greedy(Batch(weights, SLOTS, CONTEXT, compiled=True), 1, ids, 40)
    assert len(set(plain)) > 5
    assert compiled == plain


def test_every_step_is_a_cuda_graph_and_compiled_once(model: TransformersModel) -> None:
    run(model, "How are you?", 8)
    before = counters["stats"]["unique_graphs"]
    texts = together(model, ["One?", "Two, then?", "And what is three?"])
    run(model, "A last question, longer than those before it, to see that nothing changes.")
    assert all(texts.values())
    assert counters["stats"]["unique_graphs"] == before
    assert counters["inductor"]["cudagraph_skips"] == 0


def together(model: TransformersModel, questions: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda q=question: texts.update({q: run(model, q)}))
        for question in questions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return texts


def test_three_at_once_get_what_each_gets_alone(model: TransformersModel) -> None:
    questions = ["What is blue?", "Where does the river end?", "Who was here before us?"]
    alone = {question: run(model, question) for question in questions}
    assert len(set(alone.values())) == 3
    assert together(model, questions) == alone


def test_cancelling_frees_the_gpu(model: TransformersModel) -> None:
    cancellation = Cancellation()
    request = GenerationRequest((ChatMessage("user", "Go on and on."),), 100)
    for number, _ in enumerate(model.stream(request, cancellation)):
        if number == 2:
            cancellation.request()
    deadline = time.monotonic() + 5
    while model._worker._running:
        assert time.monotonic() < deadline, "the job still runs"
        time.sleep(0.01)
