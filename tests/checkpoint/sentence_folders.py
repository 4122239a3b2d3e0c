"""A tiny sentence embedder in a folder, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from everlong.model.sentence_encoder import EncoderConfig, SentenceEncoder, encoder_names

WORDS = [
    *("the", "a", "cat", "dog", "sat", "on", "mat", "ran", "home", "red", "blue", "sun", "rain"),
    *("to", "and", "was", "[UNK]"),
]
MARKS = ["[PAD]", "[CLS]", "[SEP]"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS) + len(MARKS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_N", "type": "sentence_transformers.models.Normalize"},
]
POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_folder(folder: Path, seed: int = 0) -> Path:
    """Write one with random weights."""
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "modules.json", MODULES)
    write_json(folder / "1_Pooling" / "config.json", POOLING)
    config = EncoderConfig(CONFIG["vocab_size"], 32, 48, 2, 4, 24)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    encoder = SentenceEncoder(config)
    parameters = dict(encoder.named_parameters())
    weights = {
        theirs: parameters[ours].detach() + 0.1 * torch.randn_like(parameters[ours])
        for ours, theirs in encoder_names(config).items()
    }
    # Published files have a pooler and a buffer of positions, which are of no use here.
    weights["pooler.dense.weight"] = torch.zeros(32, 32)
    weights["embeddings.position_ids"] = torch.arange(24)[None]
    save_file(weights, folder / "model.safetensors")
    vocabulary = {word: i for i, word in enumerate([*MARKS, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.add_special_tokens(MARKS)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
