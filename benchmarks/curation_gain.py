"""Whether curation is worth it: a model trained on curated text beside one trained on the raw text.

Raw text is what a simple crawl has: web pages with all that stands around their articles, a third
of the articles damaged, in many languages, half of them there once more, the same or nearly.
Curated text is what a recipe makes of the same pages. Both models are the quickstart's, from
nothing, with one tokenizer (trained on the raw text) and as many tokens; what is held out is prose
of novels that neither has seen.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import curation_documents
from everlong.config import format_config, load_config
from everlong.data.corpora import Corpus, texts_of
from everlong.evaluation.provenance import ROOT
from everlong.files import atomic_write
from everlong.training.recipe import ModelSource, Recipe, Validation
from everlong.training.run_files import outcome_of

Say = Callable[[str], None]

_RECIPE = """
run: RUN
sources:
  - {name: pages, paths: [PAGES]}
steps:
  - kind: exact_duplicates
  - kind: language
    keep: [en]
  - kind: gopher_quality
  - kind: gopher_repetition
  - kind: c4_quality
  - kind: hard_blocks
  - kind: near_duplicates
"""
_NOT_TEXT = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL)
_WORDS = re.compile(r"\S+")


def measure(data: Path, documents: int, seeds: int, say: Say) -> dict[str, Any]:
    """Train on raw and on curated text with some seeds.

    Args:
        data: folder of the public data.
        documents: of the crawl, before half of them are repeated.
        seeds: runs of each kind.
        say: told how far it is.

    Returns:
        Held-out losses in nats by kind, and how many letters each kind has.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpora = {"raw": folder / "raw.jsonl", "curated": folder / "curated" / "documents"}
        _crawl(data, folder, documents)
        recipe = _RECIPE.replace("RUN", str(folder / "curated"))
        path = folder / "recipe.yaml"
        path.write_text(recipe.replace("PAGES", str(folder / "pages")), encoding="utf-8")
        _everlong("curate", str(path))
        held_out = folder / "held-out.jsonl"
        _write(held_out, _novels(data))
        letters = {
            name: sum(map(len, texts_of(Corpus(name, (path,))))) for name, path in corpora.items()
        }
        say(f"{letters['raw']:,} letters, of which {letters['curated']:,} are kept")
        tokenizer: str | None = None
        losses: dict[str, list[float]] = {name: [] for name in corpora}
        for seed in range(seeds):
            for name, corpus in corpora.items():
                run = folder / f"{name}-{seed}"
                _train(run, corpus, held_out, tokenizer, seed)
                tokenizer = tokenizer or str(run / "tokenizer")
                outcome = outcome_of(run)
                assert outcome is not None
                losses[name].append(next(iter(outcome["validation"].values())))
                say(f"{name}, seed {seed}: {losses[name][-1]:.3f} nats a token")
    gain = mean(losses["raw"]) - mean(losses["curated"])
    say(f"curated text is better by {gain:.3f} nats a token")
    return {"losses": losses, "letters": letters, "gain": gain}


def _train(run: Path, corpus: Path, held_out: Path, tokenizer: str | None, seed: int) -> None:
    given = load_config(Recipe, ROOT / "recipes" / "quickstart" / "1-pretrain.yaml")
    phases = tuple(replace(phase, weights={"text": 1.0}) for phase in given.phases)
    recipe = replace(
        given,
        run=run,
        model=ModelSource(shape=given.model.shape, tokenizer=tokenizer),
        corpora=(Corpus("text", (corpus,)),),
        validation=Validation((Corpus("novels", (held_out,)),), given.steps, 65536),
        phases=phases,
        seed=seed,
    )
    path = run.with_suffix(".yaml")
    atomic_write(path, format_config(recipe).encode())
    _everlong("train", str(path))


def _everlong(*command: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "everlong.cli", *command], check=True, stdout=subprocess.DEVNULL
    )


def _crawl(data: Path, folder: Path, documents: int) -> None:
    """Pages as files, and what is left of each when its tags are taken off."""
    curation_documents.write(data, folder / "documents.jsonl", documents, 0)
    chance = random.Random(0)
    found = [json.loads(line) for line in (folder / "documents.jsonl").open(encoding="utf-8")]
    pages = [one["page"] for one in found if one["kind"] != "chapter"]
    pages += [_copied(page, chance) for page in chance.sample(pages, len(pages) // 2)]
    chance.shuffle(pages)
    (folder / "pages").mkdir()
    for number, page in enumerate(pages):
        (folder / "pages" / f"{number:06}.html").write_text(page, encoding="utf-8")
    _write(folder / "raw.jsonl", (unescape(_NOT_TEXT.sub("", page)) for page in pages))


def _copied(page: str, chance: random.Random) -> str:
    """The same page, or with a few of its article's words changed."""
    if chance.random() < 0.5:
        return page
    begin, end = page.index("<article>"), page.index("</article>")
    words = _WORDS.findall(page[begin:end])
    swap = {chance.choice(words): chance.choice(words) for _ in range(len(words) // 100)}
    plain = {a: b for a, b in swap.items() if not re.search("[<>]", a + b)}
    article = _WORDS.sub(lambda one: plain.get(one[0], one[0]), page[begin:end])
    return page[:begin] + article + page[end:]


def _novels(data: Path) -> Iterator[str]:
    with gzip.open(data / "lm_eval" / "lambada_openai.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            yield one["context"] + one["continuation"]


def _write(path: Path, texts: Iterator[str]) -> None:
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts), encoding="utf-8")
