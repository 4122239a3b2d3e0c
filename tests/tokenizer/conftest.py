"""Tokenizers that the tests share: a small one trained here, and the real ones where they are."""

import os
from pathlib import Path

import pytest

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.gguf import GGUFFile
from everlong.errors import CheckpointError
from everlong.tokenizer import Tokenizer, tokenizer_from_gguf, train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog. Don't they'll I'm 12345 times!",
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n",
    "Äpfel, Öl und Übermut; naïve façade; ¿qué?",
    "人工智能正在改变世界。今天天气很好，我们去公园散步吧。",
    "😀 👩‍👩‍👧 🇳🇴 ½ ①",
] * 20


@pytest.fixture(scope="session")
def trained() -> Tokenizer:
    return train_tokenizer(TEXTS, 400)


def _real(variable: str, name: str | None) -> Tokenizer:
    path = os.environ.get(variable)
    try:
        if not path and name:
            path = str(resolve(name))
    except CheckpointError:
        pass
    if not path:
        hint = f" or run: everlong pull {name}" if name else ""
        pytest.skip(f"no real model: set {variable}{hint}")
    return tokenizer_from_gguf(GGUFFile(Path(path)).metadata)


@pytest.fixture(scope="session")
def smollm2() -> Tokenizer:
    return _real("EVERLONG_SMOLLM2_GGUF", "smollm2-135m")


@pytest.fixture(scope="session")
def qwen() -> Tokenizer:
    return _real("EVERLONG_QWEN_GGUF", None)
