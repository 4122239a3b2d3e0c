import json
from pathlib import Path
from typing import Any

import pytest

from everlong.errors import CheckpointError, UnsupportedError
from everlong.tokenizer import ChatTemplate, Tokenizer, load_tokenizer

TEXTS = ["Hello world! 123", "  naïve 北京 😀", "<|im_start|>user\nhi<|im_end|>", ""]


@pytest.fixture
def folder(trained: Tokenizer, tmp_path: Path) -> Path:
    trained.save(tmp_path)
    return tmp_path


def _change(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **changes}))


def test_what_is_saved_is_what_is_loaded(trained: Tokenizer, folder: Path):
    loaded = load_tokenizer(folder)
    assert loaded.fingerprint() == trained.fingerprint()
    assert loaded.vocab_size == trained.vocab_size == 400
    assert loaded.eos_token_ids == trained.eos_token_ids
    assert [loaded.encode(text) for text in TEXTS] == [trained.encode(text) for text in TEXTS]
    chat = [{"role": "user", "content": "hi"}]
    assert loaded.encode_chat(chat) == trained.encode_chat(chat)


@pytest.mark.parametrize("real", ["trained", "smollm2", "qwen"])
def test_transformers_loads_what_is_saved(
    real: str, tmp_path: Path, request: pytest.FixtureRequest
):
    transformers = pytest.importorskip("transformers")
    tokenizer: Tokenizer = request.getfixturevalue(real)
    tokenizer.save(tmp_path)
    oracle = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert oracle.encode(text) == ids
        assert oracle.decode(ids) == tokenizer.decode(ids, skip_special=False)
    chat = [{"role": "system", "content": "Be <b>."}, {"role": "user", "content": "hi 北京"}]
    expected = oracle.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert tokenizer.encode_chat(chat) == list(expected)
    assert oracle.eos_token_id in tokenizer.eos_token_ids


def test_ids_that_end_a_turn(folder: Path):
    assert load_tokenizer(folder).eos_token_ids == {0, 2}
    _change(folder / "config.json", eos_token_id=7)
    assert load_tokenizer(folder).eos_token_ids == {0, 2, 7}
    _change(folder / "generation_config.json", eos_token_id=[8, 9, 10**6])
    assert load_tokenizer(folder).eos_token_ids == {0, 2, 8, 9}
    _change(folder / "generation_config.json", eos_token_id=["</s>"])
    with pytest.raises(CheckpointError, match="must be token ids"):
        load_tokenizer(folder)


def test_bos_follows_the_configuration(folder: Path):
    path = folder / "tokenizer_config.json"
    plain = load_tokenizer(folder).encode("a")
    _change(path, bos_token="<|im_start|>")
    assert load_tokenizer(folder).encode("a") == plain
    _change(path, bos_token={"content": "<|im_start|>"}, add_bos_token=True)
    with_bos = load_tokenizer(folder)
    assert with_bos.bos_token_id == 1
    assert with_bos.encode("a") == [1, *plain]
    assert with_bos.encode("a", bos=False) == plain
    assert with_bos.encode("a", special=False) == [1, *plain]
    with_bos.save(folder)
    assert load_tokenizer(folder).encode("a") == [1, *plain], "tokenizer.json adds it itself now"
    _change(path, add_bos_token=False)
    assert load_tokenizer(folder).encode("a") == plain


def test_older_files_name_special_tokens_elsewhere(folder: Path):
    (folder / "tokenizer_config.json").unlink()
    _change(folder / "special_tokens_map.json", bos_token={"content": "<|im_start|>"})
    loaded = load_tokenizer(folder)
    assert loaded.bos_token_id == 1
    assert loaded.chat_template is None


def test_tokens_that_only_the_configuration_lists(folder: Path):
    entry = {"content": "<extra>", "special": True, "normalized": False}
    _change(folder / "tokenizer_config.json", added_tokens_decoder={"400": entry})
    loaded = load_tokenizer(folder)
    assert loaded.encode("<extra>") == [400]
    assert loaded.is_special(400)
    assert loaded.vocab_size == 401
    for wrong in ({"900": entry}, {"x": entry}, {"400": {}}, {"400": None}):
        _change(folder / "tokenizer_config.json", added_tokens_decoder=wrong)
        with pytest.raises(CheckpointError, match=r"added_tokens_decoder|gives '<extra>' the id"):
            load_tokenizer(folder)


def test_where_the_chat_template_comes_from(folder: Path):
    path = folder / "tokenizer_config.json"
    both = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    _change(path, chat_template=both)
    template = load_tokenizer(folder).chat_template
    assert (template.source, template.tools_source) == ("one", "two")
    (folder / "chat_template.jinja").write_text("from {{ eos_token }}")
    template = load_tokenizer(folder).chat_template
    assert template.render([{"role": "user"}]) == "from <|im_end|>"
    (folder / "chat_template.jinja").unlink()
    _change(path, chat_template=[{"template": "unnamed"}])
    with pytest.raises(CheckpointError, match="name and template"):
        load_tokenizer(folder)


def test_two_templates_are_saved(trained: Tokenizer, tmp_path: Path):
    template = ChatTemplate("one", tools_source="two")
    Tokenizer(trained._backend, chat_template=template).save(tmp_path)
    loaded = load_tokenizer(tmp_path).chat_template
    assert (loaded.source, loaded.tools_source) == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}'),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b"[" * 100_000),
        ("generation_config.json", b"\xff"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, content: bytes):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_tokenizer(folder)


def test_a_missing_tokenizer_is_explained(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json$"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(CheckpointError, match="convert it once"):
        load_tokenizer(tmp_path)


def test_a_kind_that_is_not_implemented(folder: Path):
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(UnsupportedError, match="WordPiece"):
        load_tokenizer(folder)
