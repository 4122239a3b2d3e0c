"""The data card of a run: what came in, what each step removed and why, with examples.

It follows Gebru et al., "Datasheets for Datasets" (2018), as far as a program can know the answers.
Markdown and two pictures; the same run writes the same card.
"""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlong.config import to_plain
from everlong.curation.counts import Counts
from everlong.curation.examples import NOT_SHOWN, code, masked, masked_name, push, quoted, rank
from everlong.curation.language.identification import LanguageFilter
from everlong.curation.lock import LOCK
from everlong.curation.mixture import Part
from everlong.curation.pipeline import DOCUMENTS, DROPPED, INCIDENTS, REFUSED
from everlong.curation.recipe import Curation
from everlong.curation.saved import load_lines
from everlong.curation.shards import PartTokens, documents_of
from everlong.errors import MissingExtraError
from everlong.files import atomic_write

CARD = "card.md"
_EXAMPLES = 2
"""Of each rule."""
_KEPT_EXAMPLES = 5
_WITHHELD = ("toxicity", "hard_blocks", "hate", "personal_data")
"""Steps whose examples are not for a page that is passed on."""
_LISTED = 30
_SIZES = (200, 1_000, 5_000, 20_000, 100_000)
"""Letters, between which kept documents are counted."""


@dataclass(frozen=True)
class _Row:
    """A step in the flow of documents."""

    kind: str
    came: int
    """To it: not those of sources that skip it."""
    made: int
    rules: dict[str, tuple[int, int]]
    """Documents and letters that each rule dropped."""

    @property
    def dropped(self) -> int:
        return sum(documents for documents, _ in self.rules.values())

    @property
    def passed(self) -> int:
        return self.came - self.dropped


def write_card(
    recipe: Curation, counts: Sequence[Counts], parts: Sequence[Part], tokens: dict[str, PartTokens]
) -> Path:
    """Write the card of a run that is done.

    Args:
        recipe: of the run.
        counts: of each stage.
        parts: of the mixture.
        tokens: of each part; empty if no shards were written.

    Returns:
        The Markdown file, in the folder of the run.
    """
    run = recipe.run
    flow = _flow(recipe, counts)
    kept, sizes = _kept(recipe)
    text = [
        f"# Data card: {run.name}",
        "",
        _summary(counts),
        "",
        *_sources(recipe, counts[0]),
        *_steps(recipe, flow),
        *_changes(counts),
        *_problems(run, counts),
        *_noted(counts),
        *_languages(recipe, counts[-1]),
        *_sizes(sizes),
        *_mixture(recipe, parts, tokens),
        *_dropped_examples(recipe, flow),
        *_kept_examples(kept),
        "## Made again",
        "",
        "`lock.json` names versions, files and checksums: `everlong curate reproduce "
        f"{run / LOCK}` makes documents and shards again and compares them byte by byte. "
        f"`everlong curate inspect {run}` shows single documents and why they were dropped; their "
        "texts are as they were when they were dropped, so personal data may be in them.",
    ]
    path = run / CARD
    atomic_write(path, ("\n".join(text) + "\n").encode())
    try:
        _draw(run, counts[0].documents, flow, parts)
    except MissingExtraError:
        without = [line for line in text if not line.startswith("![")]
        atomic_write(path, ("\n".join(without) + "\n").encode())
    return path


def dropped_of(run: Path) -> Iterator[dict[str, Any]]:
    """Dropped documents of a run as :meth:`Document.to_plain`, with step, rule and detail.

    Raises:
        DataError: a file is damaged.
    """
    names = ("id", "text", "source", "language", "step", "rule", "detail")
    return load_lines(run / DROPPED, *names)


def _summary(counts: Sequence[Counts]) -> str:
    first, last = counts[0], counts[-1]
    share = last.kept_letters / max(1, first.letters)
    made = sum(one.made.total() for one in counts)
    return (
        f"{first.documents:,} documents ({first.letters / 1e6:,.1f} million letters) came in, "
        + (f"{made:,} were made of them, " if made else "")
        + f"{last.kept:,} ({last.kept_letters / 1e6:,.1f} million, {share:.0%} of the letters) are "
        "kept."
    )


def _flow(recipe: Curation, counts: Sequence[Counts]) -> list[_Row]:
    """What came to each step, and what it dropped."""
    came: Counter[str] = sum((one.came for one in counts), Counter())
    dropped: Counter[str] = sum((one.dropped for one in counts), Counter())
    letters: Counter[str] = sum((one.dropped_letters for one in counts), Counter())
    made: Counter[str] = sum((one.made for one in counts), Counter())
    rows = []
    for step in recipe.steps:
        rules = {
            name.partition(": ")[2]: (count, letters[name])
            for name, count in sorted(dropped.items(), key=lambda one: (-one[1], one[0]))
            if name.partition(": ")[0] == step.kind
        }
        rows.append(_Row(step.kind, came[step.kind], made[step.kind], rules))
    return rows


def _sources(recipe: Curation, first: Counts) -> Iterator[str]:
    yield from ("## What came in", "", "| source | files | licence | skips |", "|---|---|---|---|")
    for source in recipe.sources:
        files = ", ".join(f"`{path}`" for path in source.paths)
        skips = ", ".join(source.skips) or "–"
        yield f"| {source.name} | {files} | {source.licence or 'as its files say'} | {skips} |"
    if first.refusals:
        yield ""
        yield f"{first.refusals:,} documents or files could not be read; see below."
    yield ""


def _steps(recipe: Curation, flow: Sequence[_Row]) -> Iterator[str]:
    yield from ("## What each step removed", "", "![](flow.png)", "")
    yield "| step | came | dropped | share | by rule | made |"
    yield "|---|---|---|---|---|---|"
    for row in flow:
        rules = ", ".join(f"{name} {count:,}" for name, (count, _) in row.rules.items())
        share = row.dropped / max(1, row.came)
        numbers = f"{row.came:,} | {row.dropped:,} | {share:.1%}"
        yield f"| {row.kind} | {numbers} | {rules or '–'} | {row.made or '–'} |"
    yield from ("", "What the steps are, and how they are set:", "")
    for step in recipe.steps:
        about = (inspect.getdoc(type(step)) or "").split("\n\n")[0].replace("\n", " ")
        yield f"- **{step.kind}**: {about} {_settings(step)}"
    yield ""


def _settings(step: Any) -> str:
    """What a step's fields are."""
    told = [f"{name}: {value}" for name, value in to_plain(step).items() if name != "kind"]
    return f"({'; '.join(told)})" if told else ""


def _changes(counts: Sequence[Counts]) -> Iterator[str]:
    changed: Counter[str] = sum((one.changed for one in counts), Counter())
    if changed:
        yield from (
            "## What was changed in texts",
            "",
            "| step and rule | documents |",
            "|---|---|",
        )
        for name, count in sorted(changed.items(), key=lambda one: (-one[1], one[0])):
            yield f"| {name} | {count:,} |"
        yield ""


def _problems(run: Path, counts: Sequence[Counts]) -> Iterator[str]:
    refused = [one for stage in counts for one in stage.refused]
    count = sum(one.refusals for one in counts)
    if count:
        yield from ("## What could not be read or judged", "")
        yield f"{count:,} documents or files, such as:"
        yield ""
        for name, why in refused[:_LISTED]:
            yield f"- {code(masked_name(name))}: {masked(why)}"
        if count > _LISTED:
            yield f"- and {count - _LISTED:,} more, which the files in `{REFUSED}` name"
        yield ""
    if (run / INCIDENTS).exists():
        yield f"Processes were lost on the way, and their work was done again: `{INCIDENTS}`."
        yield ""


def _noted(counts: Sequence[Counts]) -> Iterator[str]:
    noted: Counter[str] = sum((one.noted for one in counts), Counter())
    if noted:
        yield from ("## What was found and left", "", "| step and what | documents |", "|---|---|")
        for name, count in sorted(noted.items()):
            yield f"| {name} | {count:,} |"
        yield ""


def _languages(recipe: Curation, last: Counts) -> Iterator[str]:
    letters: Counter[str] = Counter()
    for name, size in last.parts.items():
        letters[name.rpartition(" ")[2] or "not told"] += size
    yield from (
        "## Languages of what is kept",
        "",
        "| language | letters | share |",
        "|---|---|---|",
    )
    for language, size in letters.most_common(_LISTED):
        yield f"| {language} | {size:,} | {size / max(1, last.kept_letters):.1%} |"
    if (more := len(letters) - _LISTED) > 0:
        yield f"| {more} more | | |"
    yield ""
    kinds = [step.kind for step in recipe.steps if isinstance(step, LanguageFilter)]
    skips = [one.name for one in recipe.sources if {*kinds} & {*one.skips}]
    if letters["not told"] and not kinds:
        yield "No step tells languages; `language` would."
        yield ""
    elif letters["not told"] and skips:
        yield f"What skips the step `language` has none that is told: {', '.join(skips)}."
        yield ""


def _sizes(sizes: Sequence[int]) -> Iterator[str]:
    yield from ("## Lengths of what is kept", "", "| letters | documents |", "|---|---|")
    names = [f"below {_SIZES[0]:,}"]
    names += [f"{low:,} to {high:,}" for low, high in itertools.pairwise(_SIZES)]
    names.append(f"{_SIZES[-1]:,} and more")
    for name, count in zip(names, sizes, strict=True):
        yield f"| {name} | {count:,} |"
    yield ""


def _mixture(
    recipe: Curation, parts: Sequence[Part], tokens: dict[str, PartTokens]
) -> Iterator[str]:
    quality = recipe.mixture.quality
    yield from ("## Mixture", "", "![](mixture.png)", "")
    yield f"By {recipe.mixture.by}; what a training run should read of each part:"
    yield ""
    heads = ["part", *([f"{quality.field} from"] if quality else []), "letters", "tokens"]
    heads += ["epochs", "share of the run's letters", "of its tokens"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{len(heads) * '---|'}"
    for part in parts:
        cells = [part.name]
        if quality:
            cells.append("–" if part.least is None else f"{part.least:.4g}")
        of = tokens.get(part.name)
        cells += [f"{part.letters:,}", f"{of.tokens:,}" if of else "–"]
        cells += [f"{part.epochs:.2f}", f"{part.share:.1%}", f"{of.share:.1%}" if of else "–"]
        yield f"| {' | '.join(cells)} |"
    yield ""
    if quality:
        repeats = ", ".join(f"{one:g}" for one in quality.repeats)
        yield (
            f"Documents of a part are in bands by their {quality.field}, from the lowest to the "
            f"highest; how often each is to be read, next to the others: {repeats}."
        )
        yield ""


def _dropped_examples(recipe: Curation, flow: Sequence[_Row]) -> Iterator[str]:
    yield from ("## Examples of what was dropped", "")
    best: dict[tuple[str, str], list[tuple[str, str, str, str, str]]] = {}
    for plain in dropped_of(recipe.run):
        name, key = plain["id"], (plain["step"], plain["rule"])
        told = plain["language"] or ""  # which can be compared
        one = (rank(recipe.seed, name), name, plain["detail"], plain["text"], told)
        push(best.setdefault(key, []), one, _EXAMPLES)
    for row in flow:
        for rule in row.rules:
            yield f"**{row.kind}: {rule}**"
            yield ""
            for _, name, detail, text, told in sorted(best[row.kind, rule], reverse=True):
                shown = NOT_SHOWN if row.kind in _WITHHELD else quoted(text, told or None)
                yield f"- {code(masked_name(name))} ({masked_name(detail)}): {shown}"
            yield ""


def _kept_examples(kept: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    yield from ("## Examples of what is kept", "")
    for _, name, text, language in kept:
        yield f"- {code(masked_name(name))}: {quoted(text, language or None)}"
    yield ""


def _kept(recipe: Curation) -> tuple[list[tuple[str, str, str, str]], list[int]]:
    """Some kept documents, and how many there are of each size."""
    some: list[tuple[str, str, str, str]] = []
    sizes = [0] * (len(_SIZES) + 1)
    for document in documents_of(recipe.run / DOCUMENTS):
        sizes[sum(len(document.text) >= size for size in _SIZES)] += 1
        one = (rank(recipe.seed, document.id), document.id, document.text, document.language or "")
        push(some, one, _KEPT_EXAMPLES)
    return sorted(some, reverse=True), sizes


def _draw(run: Path, documents: int, flow: Sequence[_Row], parts: Sequence[Part]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "curate") from None
    figure = Figure(figsize=(9, 1 + 0.45 * (len(flow) + 1)), layout="constrained")
    axes = figure.subplots()
    names = ["came in", *(row.kind for row in flow)]
    passed = [documents, *(row.passed for row in flow)]
    axes.barh(names, passed, color="#4878a8", label="passed")
    axes.barh(
        names[1:], [row.dropped for row in flow], left=passed[1:], color="#d9a441", label="dropped"
    )
    axes.invert_yaxis()
    axes.set(xlabel="documents")
    axes.legend(loc="lower right")
    _save(figure, run / "flow.png")
    figure = Figure(figsize=(9, 1.2 + 0.35 * min(len(parts), _LISTED)), layout="constrained")
    axes = figure.subplots()
    some = parts[:_LISTED]
    whole = sum(part.letters for part in parts)
    places = range(len(some))
    axes.barh(
        [p - 0.2 for p in places],
        [100 * p.letters / whole for p in some],
        0.4,
        label="of the corpus",
    )
    axes.barh(
        [p + 0.2 for p in places], [100 * p.share for p in some], 0.4, label="of a training run"
    )
    axes.set_yticks(list(places), [part.name for part in some])
    axes.invert_yaxis()
    axes.set(xlabel="share (%)")
    axes.legend(loc="lower right")
    _save(figure, run / "mixture.png")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})  # the same bytes in any version
