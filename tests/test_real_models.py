"""Real checkpoints beside the reference implementation, in float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import everlong
from everlong.checkpoint.catalog import resolve
from everlong.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="the reference is in the dev extra")
pytest.importorskip("gguf", reason="the reference reads GGUF files with it (dev extra)")

PROMPT = "def fibonacci(n):\n    "
STORY = "Once upon a time, in a small village by the sea, there lived"


def smollm2() -> Path:
    named = os.environ.get("EVERLONG_SMOLLM2_GGUF")
    try:
        return Path(named) if named else resolve("smollm2-135m")
    except CheckpointError as missing:
        pytest.skip(str(missing))


def qwen() -> Path:
    named = os.environ.get("EVERLONG_QWEN_GGUF")
    if not named:
        pytest.skip("EVERLONG_QWEN_GGUF names no file")
    return Path(named)


def reference_tokens(gguf: Path, prompt: list[int], count: int) -> list[int]:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    with torch.no_grad():
        done = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            repetition_penalty=1.0,
        )
    return done[0, len(prompt) :].tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [smollm2, qwen])
def test_greedy_tokens_equal_the_reference(model: Any) -> None:
    gguf = model()
    with everlong.load(gguf, weights="float32") as llm:
        # min_new_tokens forbids the end of sequence there; here its ids are ruled out.
        bias = dict.fromkeys(llm.tokenizer.eos_token_ids, -100.0)
        prompt = llm.tokenizer.encode(PROMPT if model is qwen else STORY)
        ours = llm.generate([prompt], temperature=0, max_tokens=200, logit_bias=bias)[0]
    assert list(ours.token_ids) == reference_tokens(gguf, prompt, 200)


def test_packed_weights_answer_as_the_exact_ones() -> None:
    """The 4-bit path continues real text as float32 does, nearly token for token."""
    gguf = smollm2()
    with everlong.load(gguf) as llm, everlong.load(gguf, weights="float32") as exact:
        ids = llm.tokenizer.encode(STORY + (" and the sea was calm that morning." * 3))
        a, b = llm.logits(ids).log_softmax(-1), exact.logits(ids).log_softmax(-1)
        assert (b.exp() * (b - a)).sum(-1).mean() < 0.005  # Kullback-Leibler, nats
        assert (a.argmax(-1) == b.argmax(-1)).float().mean() > 0.9
        answer = llm.chat(
            [{"role": "user", "content": "What is the capital of Germany?"}],
            temperature=0,
            max_tokens=20,
        )
        assert "Berlin" in answer.text
