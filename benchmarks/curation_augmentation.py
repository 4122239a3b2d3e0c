"""Whether documents that are made of others are worth it: by domain, on questions people asked.

A small model that has read Python's manual reads on in a domain: its documents alone, or with what
a step makes of them, as many tokens of both. What is held out are questions with answers that come
with the data, about documents that no arm has read; what is told is the loss of the answers alone.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from benchmarks.own_runs import everlong, train, write_lines
from everlong.config import load_config
from everlong.curation.augmentation.made import is_made
from everlong.curation.shards import documents_of
from everlong.data.corpora import Corpus
from everlong.data.python_texts import write_python_texts
from everlong.evaluation.provenance import ROOT
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation
from everlong.training.schedules import ScheduleConfig

Say = Callable[[str], None]
Asked = tuple[str, str]
"""A question and its answer."""

STEPS: Mapping[str, Mapping[str, Any]] = {
    "documents alone": {},
    "questions": {"kind": "questions"},
    "glossary": {"kind": "glossary"},
    "noise": {"kind": "noise"},
}
"""Arms: what is made of the documents."""
_NOT_LIBRARY = ("site-packages", "dist-packages", "test", "tests", "idlelib", "encodings")
_PHASE = Phase(80, 1.5e-3, 512, 16, {"domain": 1.0}, ScheduleConfig("wsd", warmup=5, decay=0.5))


@dataclass(frozen=True)
class Domain:
    """Documents of a domain, and what is asked about those that are held out."""

    kind: str
    """As the step of questions calls it."""
    documents: Sequence[str]
    asked: Sequence[Asked]
    source_code: bool = False
    """Whether documents are modules of Python."""


def measure(
    data: Path, folder: Path, domains: Sequence[str], seeds: int, say: Say
) -> dict[str, Any]:
    """Train every arm in every domain.

    Args:
        data: folder of the public data.
        folder: of the runs, which go on where they were.
        domains: names, of :data:`DOMAINS`.
        seeds: runs of each arm.
        say: told how far it is.

    Returns:
        By domain and arm, held-out losses of the answers in nats a token, and how many documents
        were made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = _base(folder)
    told: dict[str, Any] = {}
    for name in domains:
        domain = DOMAINS[name](data)
        asked = folder / f"{name}-asked-{_digest(domain.asked)}.jsonl"
        write_lines(asked, ({"prompt": one, "response": other} for one, other in domain.asked))
        say(f"{name}: {len(domain.documents):,} documents, {len(domain.asked):,} questions")
        arms: dict[str, dict[str, Any]] = {}
        for arm, step in STEPS.items():
            # Whatever is another begins anew: what is asked now must not be in what was read then.
            digest = _digest(domain.documents, domain.asked, step)
            place = folder / f"{name}-{arm.replace(' ', '-')}-{digest}"
            made = _curated(place, domain, step)
            losses = [_loss(place, base, asked, seed) for seed in range(seeds)]
            arms[arm] = {"losses": losses, "made": made}
            say(f"{name}, {arm}: {mean(losses):.3f} nats a token, {made:,} documents made")
        alone = mean(arms["documents alone"]["losses"])
        for found in arms.values():
            found["gain"] = alone - mean(found["losses"])
        told[name] = arms
    return told


def _base(folder: Path) -> Path:
    """The quickstart's first stage: a model that reads English, and nothing of the domains."""
    write_python_texts(folder / "python")
    given = load_config(Recipe, ROOT / "recipes" / "quickstart" / "1-pretrain.yaml")
    (name,) = given.phases[0].weights
    manual = Corpus(name, (folder / "python" / "manual.jsonl",))
    train(replace(given, corpora=(manual,), validation=Validation()), folder / "base")
    return folder / "base"


def _curated(place: Path, domain: Domain, step: Mapping[str, Any]) -> int:
    """Write an arm's documents; how many of them were made."""
    if not (place / "curated" / "lock.json").exists():
        texts = place / "texts"
        texts.mkdir(parents=True, exist_ok=True)
        if domain.source_code:
            for number, one in enumerate(domain.documents):
                (texts / f"{number:05}.py").write_text(one, encoding="utf-8")
        else:
            write_lines(texts / "texts.jsonl", ({"text": one} for one in domain.documents))
        more = {"domains": {"domain": domain.kind}} if step.get("kind") == "questions" else {}
        recipe = {
            "run": str(place / "curated"),
            "sources": [{"name": "domain", "paths": [str(texts)]}],
            "steps": [{"kind": "exact_duplicates"}, *([{**step, **more}] if step else [])],
        }
        (place / "curate.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        everlong("curate", str(place / "curate.yaml"))
    return sum(map(is_made, documents_of(place / "curated" / "documents")))


def _loss(place: Path, base: Path, asked: Path, seed: int) -> float:
    recipe = Recipe(
        run=Path(),
        model=ModelSource(checkpoint=str(base)),
        corpora=(Corpus("domain", (place / "curated" / "documents",)),),
        phases=(_PHASE,),
        validation=Validation((Corpus("asked", (asked,), "chat"),), _PHASE.steps, 65536),
        seed=seed,
        keep=1,
    )
    done, _ = train(recipe, place / f"run-{seed}")
    (loss,) = done["validation"].values()
    return float(loss)


def _digest(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _medical(data: Path) -> Domain:
    """Pages about diseases, each made of what its questions are answered with, by topic."""
    pages: dict[str, list[dict[str, str]]] = defaultdict(list)
    for one in _lines(data / "medquad" / "medquad.jsonl.gz"):
        if one["answer"] and one["focus"]:
            pages[one["focus"]].append(one)
    documents, asked = [], []
    for topic, parts in pages.items():
        if _held_out(topic):
            asked += [(one["question"], one["answer"][:1500]) for one in parts]
            continue
        sections = [f"## {one['qtype'].capitalize()}\n\n{one['answer']}" for one in parts]
        documents.append("\n\n".join([f"# {topic}", *sections]))
    return Domain("medical", documents, asked)


def _support(data: Path) -> Domain:
    """Pages of a help centre, each an intent with some answers that were given; intents apart."""
    pages: dict[str, list[Asked]] = defaultdict(list)
    path = data / "bitext_support" / "bitext_customer_support.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for one in csv.DictReader(file):
            pages[one["intent"]].append((one["instruction"], one["response"]))
    documents, asked = [], []
    for intent, answers in pages.items():
        if _held_out(intent):
            asked += answers[:200]
            continue
        title = intent.replace("_", " ").capitalize()
        documents += [f"# Help\n\n## {title}\n\n{answer}" for _, answer in answers[:400]]
    return Domain("support", documents, asked)


def _financial(data: Path) -> Domain:
    """Reports of companies with tables; questions come with the table that they are about."""
    path = data / "tatqa" / "tatqa_dev.json.gz"
    documents, asked = [], []
    for one in json.loads(gzip.decompress(path.read_bytes())):
        rows = one["table"]["table"]
        lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        text = "\n\n".join([*(part["text"] for part in one["paragraphs"]), "\n".join(lines)])
        if not _held_out(one["table"]["uid"]):
            documents.append(text)
            continue
        for question in one["questions"]:
            answer = question["answer"]
            told = ", ".join(answer) if isinstance(answer, list) else str(answer)
            asked.append((f"{text[-1200:]}\n\n{question['question']}", told))
    return Domain("financial", documents, asked)


def _code(data: Path) -> Domain:
    """Python's source; tasks in words with their solutions are of another collection."""
    asked = [
        (one["description"], one["canonical_solution"])
        for one in _lines(data / "mbpp" / "mbpp_python.jsonl")
        if one["canonical_solution"]
    ]
    library = Path(sysconfig.get_path("stdlib"))
    modules = [*sorted(library.glob("*.py")), *sorted(library.glob("[a-z]*/*.py"))]
    chosen = [path for path in modules if path.parent.name not in _NOT_LIBRARY]
    source = [path.read_text(encoding="utf-8", errors="replace") for path in chosen]
    return Domain("code", source, asked, source_code=True)


DOMAINS: Mapping[str, Callable[[Path], Domain]] = {
    "medical": _medical,
    "support": _support,
    "financial": _financial,
    "code": _code,
}
"""Domains of the step of questions for which there are questions that people asked; there are none
of law."""


def _held_out(name: str) -> bool:
    """A quarter, by name."""
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < 64


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)
