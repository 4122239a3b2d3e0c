import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.sentence_folder import open_sentence_folder
from everlong.engine.embedders import ModelEmbedder, SentenceEmbedder, Vectors
from everlong.errors import CheckpointError, EngineStoppedError
from tests.checkpoint.sentence_folders import write_folder, write_json
from tests.engine.tiny import tiny_llm

TEXTS = [
    "the cat sat",
    "",
    "a dog ran home to the red mat and the blue sun was on the rain and the cat and the dog sat",
    "the rain",
    "a cat ran",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    return write_folder(tmp_path / "tiny-encoder")


@pytest.fixture
def embedder(folder: Path) -> Iterator[SentenceEmbedder]:
    embedder = SentenceEmbedder(folder)
    yield embedder
    embedder.close()


def one_by_one(folder: Path, texts: list[str]) -> Vectors:
    """The plain way: every window alone, long texts as the mean of their windows by tokens."""
    opened = open_sentence_folder(folder)
    rows = []
    for windows in opened.tokenizer.windows(texts):
        parts = [
            len(ids) * opened.encoder(torch.tensor([ids]), torch.tensor([len(ids)]))[0]
            for ids in windows
        ]
        rows.append(torch.nn.functional.normalize(sum(parts), dim=-1))  # type: ignore[arg-type]
    return torch.stack(rows).numpy()


def test_vectors_of_a_folder(folder: Path, embedder: SentenceEmbedder) -> None:
    wanted = one_by_one(folder, TEXTS)
    for vectors in (embedder.documents(TEXTS), embedder.queries(TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), embedder.dimensions)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert ((vectors * wanted).sum(1) > 0.999).all()
    assert embedder.documents([]).shape == (0, embedder.dimensions)


def test_many_texts_keep_their_order(folder: Path, embedder: SentenceEmbedder) -> None:
    texts = [TEXTS[i % len(TEXTS)] for i in range(203)]
    wanted = one_by_one(folder, TEXTS)
    vectors = embedder.documents(texts)
    for i, vector in enumerate(vectors):
        assert vector @ wanted[i % len(TEXTS)] > 0.999


def test_prompts_go_before_queries_and_documents(folder: Path) -> None:
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "the ", "document": "a "}},
    )
    embedder = SentenceEmbedder(folder)
    queries, documents = embedder.queries(["cat"]), embedder.documents(["cat"])
    embedder.close()
    write_json(folder / "config_sentence_transformers.json", {})
    plain = one_by_one(folder, ["the cat", "a cat"])
    assert queries[0] @ plain[0] > 0.999
    assert documents[0] @ plain[1] > 0.999


def test_a_query_does_not_wait_for_all_documents(
    embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    begun, may_go_on = threading.Event(), threading.Event()
    encode = embedder._encode

    def slowly(ids: list[list[int]]) -> torch.Tensor:
        order.append(len(ids))
        begun.set()
        may_go_on.wait(10)
        return encode(ids)

    monkeypatch.setattr(embedder, "_encode", slowly)
    documents = threading.Thread(target=embedder.documents, args=([TEXTS[2]] * 100,))
    documents.start()
    begun.wait(10)
    query = threading.Thread(target=embedder.queries, args=(["cat"],))
    query.start()
    while embedder._jobs.queue[0][0] != 0:  # until the query is asked for
        pass
    may_go_on.set()
    query.join(10)
    documents.join(10)
    assert order.index(1) == 1, "the query came after the step that was running"
    assert len(order) > 10


def test_names_differ_when_vectors_do(folder: Path, tmp_path: Path) -> None:
    names = []
    for path in (folder, write_folder(tmp_path / "other" / folder.name, seed=1)):
        embedder = SentenceEmbedder(path)
        names.append(embedder.name)
        embedder.close()
    assert names[0] != names[1]
    assert all(re.fullmatch(r"tiny-encoder [0-9a-f]{32}", name) for name in names)


def test_a_closed_embedder_says_so(folder: Path) -> None:
    embedder = SentenceEmbedder(folder)
    embedder.close()
    embedder.close()
    with pytest.raises(EngineStoppedError, match="the embedder is closed"):
        embedder.queries(["cat"])


def test_no_such_encoder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="run: everlong pull minilm-l6"):
        SentenceEmbedder("minilm-l6")


def test_the_words_of_a_model() -> None:
    llm = tiny_llm("float32")
    embedder = ModelEmbedder(llm)
    texts = ["a small model", "", "words of its own <|im_end|>", "\ud800"]
    vectors = embedder.documents(texts)
    assert np.array_equal(vectors, embedder.queries(texts))
    assert vectors.shape == (4, embedder.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 0], atol=1e-5)
    table = llm.engine.call(lambda runner: runner.model.embed_tokens.weight.numpy()).result()
    llm.close()
    ranks = np.arange(len(table)) + 1
    shared = np.linalg.svd(table / np.sqrt(ranks)[:, None], full_matrices=False)[2][0]
    for text, vector in zip(texts[::2], vectors[::2], strict=True):
        words = {texts[0]: " a small model", texts[2]: " words of its own im_end"}[text]
        ids = llm.tokenizer.encode(words, special=False, bos=False)
        wanted = sum(ranks[i] / (ranks[i] + 1000) * table[i] for i in ids)
        wanted = wanted - (wanted @ shared) * shared
        assert vector @ wanted / np.linalg.norm(wanted) == pytest.approx(1, abs=1e-5)
    again = tiny_llm("bf16")
    assert ModelEmbedder(again).name != embedder.name
    again.close()


def test_real_embedders_find_what_is_meant() -> None:
    try:
        path = resolve("minilm-l6")
    except CheckpointError as error:
        pytest.skip(str(error))
    embedder = SentenceEmbedder(path)
    documents = embedder.documents(["She paints at the weekend.", "The train leaves at noon."])
    (query,) = embedder.queries(["What are her hobbies?"])
    embedder.close()
    assert query @ documents[0] > query @ documents[1] + 0.1
