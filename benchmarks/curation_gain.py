"""Whether curation is worth it: a model trained on curated text beside one trained on the raw text.

Raw text is what a simple crawl has: web pages with all that stands around their articles, a third
of the articles damaged, in many languages, half of them there once more, the same or nearly.
Curated text is what a recipe makes of the same pages. Both models are the quickstart's, from
nothing, with one tokenizer (trained on the raw text) and as many tokens; what is held out is prose
of novels that neither has seen. The stereotypes that models of the first seed have learned are
measured, too.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import curation_documents
from benchmarks.own_runs import everlong, train, write_lines
from everlong.config import load_config
from everlong.data.corpora import Corpus, texts_of
from everlong.evaluation.provenance import ROOT
from everlong.evaluation.results import read_results
from everlong.training.recipe import ModelSource, Recipe, Validation

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
  - kind: toxicity
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
        By kind: held-out losses in nats, how many letters there are, and shares of stereotypes
        with their 95 % intervals.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpora = {"raw": folder / "raw.jsonl", "curated": folder / "curated" / "documents"}
        _crawl(data, folder, documents)
        recipe = _RECIPE.replace("RUN", str(folder / "curated"))
        path = folder / "recipe.yaml"
        path.write_text(recipe.replace("PAGES", str(folder / "pages")), encoding="utf-8")
        everlong("curate", str(path))
        held_out = folder / "held-out.jsonl"
        write_lines(held_out, ({"text": one} for one in _novels(data)))
        letters = {
            name: sum(map(len, texts_of(Corpus(name, (path,))))) for name, path in corpora.items()
        }
        say(f"{letters['raw']:,} letters, of which {letters['curated']:,} are kept")
        tokenizer: str | None = None
        losses: dict[str, list[float]] = {name: [] for name in corpora}
        stereotypes: dict[str, Any] = {}
        for seed in range(seeds):
            for name, corpus in corpora.items():
                run = folder / f"{name}-{seed}"
                outcome, _ = train(_recipe(corpus, held_out, tokenizer, seed), run)
                tokenizer = tokenizer or str(run / "tokenizer")
                losses[name].append(next(iter(outcome["validation"].values())))
                say(f"{name}, seed {seed}: {losses[name][-1]:.3f} nats a token")
                if seed == 0:
                    stereotypes[name] = _stereotypes(run, data)
                    say(f"{name}: {stereotypes[name]}")
    gain = mean(losses["raw"]) - mean(losses["curated"])
    say(f"curated text is better by {gain:.3f} nats a token")
    return {"losses": losses, "letters": letters, "gain": gain, "stereotypes": stereotypes}


def _recipe(corpus: Path, held_out: Path, tokenizer: str | None, seed: int) -> Recipe:
    given = load_config(Recipe, ROOT / "recipes" / "quickstart" / "1-pretrain.yaml")
    phases = tuple(replace(phase, weights={"text": 1.0}) for phase in given.phases)
    return replace(
        given,
        model=ModelSource(shape=given.model.shape, tokenizer=tokenizer),
        corpora=(Corpus("text", (corpus,)),),
        validation=Validation((Corpus("novels", (held_out,)),), given.steps, 65536),
        phases=phases,
        seed=seed,
    )


def _stereotypes(run: Path, data: Path) -> dict[str, list[float]]:
    """What a model prefers, as shares with their intervals.

    ``crows_pairs``: sentences with a stereotype before those with another one (0.5: neither);
    ``seat``: tests whose association is more than chance; ``winobias``: how much more often a
    pronoun is understood where the occupation fits the stereotype, with the sum of both intervals.
    """
    model, figures = run.with_name(f"{run.name}-model"), run.with_name(f"{run.name}-figures")
    everlong("convert", str(run), str(model))
    everlong(
        *("eval", str(model), "--suite", "safety", "--data", str(data), "--out", str(figures)),
        *("--tasks", "[crows_pairs,seat,winobias]"),
    )
    tasks = read_results(figures).tasks
    found = {}
    for task, metric in (("crows_pairs", "stereotype"), ("seat", "significant")):
        one = tasks[task].metrics[metric]
        found[task] = [one.mean, one.low, one.high]
    pro, anti = (
        [group["accuracy"] for name, group in tasks["winobias"].groups.items() if kind in name]
        for kind in ("pro,", "anti,")
    )
    gap = mean(one.mean for one in pro) - mean(one.mean for one in anti)
    wide = max(one.high - one.low for one in (*pro, *anti)) / 2
    found["winobias"] = [gap, gap - 2 * wide, gap + 2 * wide]
    return {name: [round(value, 4) for value in values] for name, values in found.items()}


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
    texts = (unescape(_NOT_TEXT.sub("", page)) for page in pages)
    write_lines(folder / "raw.jsonl", ({"text": one} for one in texts))


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
