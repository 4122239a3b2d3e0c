"""Commands around models: pull, convert, grow, tokenizer, fertility, corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

Texts = str | tuple[str, ...]
Format = Literal["float32", "float16", "bfloat16"]

_SAMPLE = "The quick brown fox jumps over the lazy dog. Every model starts with some words.\n" * 4


def pull(model: str) -> None:
    """Fetch a model, checksums verified, and print where it is.

    Args:
        model: smollm2-135m, hf:ORG/NAME, hf:ORG/NAME:FILE.gguf, or a path.
    """
    from everlong.checkpoint.catalog import pull as fetch
    from everlong.checkpoint.progress import terminal_progress

    with terminal_progress() as progress:
        path = fetch(model, progress)
    print(path)


def convert(
    source: str, folder: Path, dtype: Format = "bfloat16", *, step: int | None = None
) -> None:
    """Write a model in the Hugging Face layout.

    Args:
        source: name, folder or GGUF file; or folder of a run of everlong train, of which
            an adapter is written in PEFT's layout.
        folder: new folder to write.
        dtype: number format of the weights.
        step: of a run, the checkpoint after that step, such as the one with the lowest held-out
            loss; default: the last one, of a run that stopped early the best one.
    """
    from everlong.checkpoint import open_checkpoint
    from everlong.checkpoint.catalog import resolve
    from everlong.checkpoint.export import export
    from everlong.checkpoint.progress import terminal_progress
    from everlong.errors import ConfigError
    from everlong.training.models import export_run, is_run

    if is_run(Path(source)):
        found = export_run(Path(source), folder, step=step, dtype=dtype, say=_told)
        print(f"{folder}: the model after step {found:,}")
        return
    if step is not None:
        raise ConfigError(f"{source} is no run of everlong train, so it has no step {step}")
    checkpoint = open_checkpoint(resolve(source))
    with terminal_progress() as progress:
        export(
            checkpoint,
            folder,
            dtype=dtype,
            progress=lambda done, total: progress(folder.name, done, total),
        )
    print(folder)


def _told(text: str) -> None:
    print(text, file=sys.stderr)


def grow(
    model: str,
    folder: Path,
    *,
    layers: int | None = None,
    heads: int | None = None,
    dtype: Format = "bfloat16",
) -> None:
    """Write a deeper or wider model that computes the same, to be trained further.

    Args:
        model: name, folder or GGUF file; or folder of a run of everlong train.
        folder: new folder to write, in the Hugging Face layout.
        layers: of the grown model; default: as many as it has.
        heads: query heads of it; default: as many as it has.
        dtype: number format of the weights.
    """
    from everlong.checkpoint.export import export_trained
    from everlong.errors import ConfigError
    from everlong.files import refuse_used
    from everlong.model.growth import grow as grown_weights
    from everlong.model.growth import grown_config, logits_change
    from everlong.training.models import open_dense

    if layers is None and heads is None:
        raise ConfigError("say to how many --layers or --heads it grows")
    refuse_used(folder)
    opened = open_dense(model)
    config = grown_config(opened.config, layers, heads)
    weights = grown_weights(opened.config, opened.weights, config)
    tokens = opened.tokenizer.encode(_SAMPLE)[: config.max_position]
    change = logits_change(opened.config, opened.weights, config, weights, tokens)
    export_trained(config, weights, opened.tokenizer, folder, dtype=dtype)
    print(
        f"{opened.config.num_layers} layers of {opened.config.num_heads} heads became "
        f"{config.num_layers} of {config.num_heads}; logits changed by {change:.1e} at most"
    )
    print(folder)


def tokenizer(folder: Path, *, texts: Texts, vocab_size: int = 8192) -> None:
    """Train a byte-level BPE tokenizer, and tell how many tokens words take.

    Args:
        folder: new folder to write, with tokenizer.json and a chat template.
        texts: files, folders and patterns, one or a list; a .jsonl has a text in each line.
        vocab_size: tokens in all.
    """
    from everlong.data.corpora import Corpus, texts_of
    from everlong.files import refuse_used
    from everlong.tokenizer import train_tokenizer
    from everlong.tokenizer.fertility import fertility_of

    refuse_used(folder)
    corpus = Corpus("texts", _paths(texts))
    trained = train_tokenizer(texts_of(corpus), vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save(folder)
    found = fertility_of(trained, texts_of(corpus))
    print(
        f"{trained.vocab_size:,} tokens; {found.per_word:.2f} tokens a word and "
        f"{found.bytes_each:.2f} bytes a token of these texts"
    )
    print(folder)


def fertility(model: str, *, texts: Texts) -> None:
    """Tell how many tokens a tokenizer takes for words of each language.

    Args:
        model: whose tokenizer it is: name, folder or GGUF file.
        texts: .tsv or .jsonl files (.gz too) with lang and text in each line, one or a list.
    """
    from rich.console import Console

    from everlong.apps.tables import fertility_table
    from everlong.data.languages import by_language
    from everlong.tokenizer.fertility import fertility_of
    from everlong.training.models import tokenizer_of

    own = tokenizer_of(model)
    found = {
        language: fertility_of(own, lines)
        for language, lines in sorted(by_language(_paths(texts)).items())
    }
    Console().print(fertility_table(found))


def corpus(folder: Path) -> None:
    """Write texts that need no download: Python's manual, questions about it, its source; and the
    system's manual pages and licences.

    Args:
        folder: for manual.jsonl, answers.jsonl and code.jsonl, and held-out parts of each; and for
            pages.jsonl and licences.jsonl, where the system has some.
    """
    from everlong.data.python_texts import write_python_texts
    from everlong.data.system_texts import write_system_texts

    for name, letters in (write_python_texts(folder) | write_system_texts(folder)).items():
        print(f"{folder / name}.jsonl: {letters:,} letters")


def _paths(texts: Texts) -> tuple[Path, ...]:
    return tuple(map(Path, (texts,) if isinstance(texts, str) else texts))
