"""Keeps out documents with slurs, and with sentences of hate against groups of people.

Slurs and gross insults are looked for by lists of fourteen languages. C4 dropped every page with
one listed word (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2), by a
list on which there is much that insults nobody, and so lost texts about sexuality and by minorities
(Dodge et al. 2021, "Documenting Large Webtext Corpora", section 5.3). So the lists of
:mod:`everlong.curation.harm.slurs` are short and have no name that a group gives itself, and a long
document may have a few of their words: a novel that quotes is no pamphlet.

Hate without slurs is looked for in eleven of these languages: a group of people, and right beside
it that it is hated, what it is called, or what should be done to it
(:mod:`everlong.curation.harm.hate_phrases`). No word for a group counts alone. What stands behind
"he said that", "never", "it is false that" or a quotation mark is not counted.

Neither knows context. Who quotes a slur, studies it or takes it back says it as well; hate that is
hinted at, told with other words or spelt in another way passes; what is said of one person ("she")
is not seen as said of a group.

Of English tweets held out it drops 30 % of those that people called hateful (of which
:mod:`everlong.curation.harm.toxicity` finds 71 %), 5 % of the offensive ones and 0.7 % of those
that are neither; of 92,000 harmless English texts of other kinds 11, of 22,000 sentences of news
and pages of manuals in the fourteen languages none. Terms were settled with some of these texts at
hand. Of 248 made sentences that say hate without a slur it finds 150, and who wrote the phrases had
written the sentences, too. How much is found in other languages than English is not measured: there
were no labelled texts to do it with. Of 147 harmless sentences in all these languages, written to
be mistaken, a first version flagged 140; each was mended, so what others write will be mistaken now
and then.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from everlong.curation.document import Document, Dropped
from everlong.curation.harm.hate_phrases import PHRASES
from everlong.curation.harm.slurs import SLURS
from everlong.curation.language.codes import canonical, is_canonical
from everlong.curation.step import named_file
from everlong.errors import ConfigError
from everlong.files import sha256_file

_MARKS = re.compile("[\u0300-\u036f\u0640\u064b-\u065f]+")
"""Accents, and what Arabic may write or leave: vowels, and the stretch of a word."""
_LETTERS = r"\w\u0900-\u0963"
"""Of words; the vowels of Devanagari are no letters for ``\\w``."""
_LETTER = f"[{_LETTERS}]"
_UNSPACED = frozenset(("zh", "ja", "th", "lo", "km", "my"))
"""Languages that do not part their words: a term may be anywhere."""
_VERBS_LAST = frozenset(("de", "nl", "hi"))
"""Languages in which what should be done to somebody stands behind them."""
_COPULA_LAST = frozenset(("hi",))
_PREFIXES = {"ar": "[وف]?[بكل]?(?:ال|لل)?"}
"""What is written together with the word behind it."""
_MOST_BYTES = 1 << 20
"""Of a file of words."""
_NAMED = "slurs of hate"
"""Where such a file is named."""
_BEFORE = 48
"""Letters before a phrase in which somebody may be said to say it."""
_SENTENCE_END = re.compile(r"[.!?;\n。।؟¡¿]")
"""Wide marks of Chinese have become narrow ones by then."""
_QUOTES = '"“”„«»‹›「」『』'
"""Each opens a quotation in one language and closes it in another."""
_SINGLE_QUOTES = frozenset("'‘‚")
"""Counted only right before a phrase: elsewhere they may be apostrophes."""


@dataclass(frozen=True)
class Hate:
    """Drops a document with too many slurs and phrases of hate for its length.

    How many there are is in the metadata as ``hate``; None: its language, which is what a step
    before has told, else what its file or record states, has neither list nor phrases. Why it was
    dropped tells how many there are, and none of them.
    """

    kind: Literal["hate"] = "hate"
    letters: int | None = 4000
    """Letters that a text must have for each slur or phrase: one is enough to drop a shorter text.
    None: one is enough for any, as in C4."""
    phrases: bool = True
    """Whether hate without slurs is looked for as well."""
    slurs: Mapping[str, Path] = field(default_factory=dict)
    """Own lists by language, ``{de: ./words.txt}``: on each line a word or phrase, with ``*`` at
    its end for any ending; in the place of what comes with the package."""
    languages: tuple[str, ...] = ()
    """Only documents in these are looked at; empty: in all that have a list."""

    def __post_init__(self) -> None:
        if self.letters is not None and self.letters < 1:
            raise ConfigError(
                f"letters is {self.letters}; give 1 or more, or null: one slur drops any text"
            )
        for name, codes in (("slurs", self.slurs), ("languages", self.languages)):
            for code in codes:
                if not is_canonical(code):
                    told = canonical(code)
                    hint = f"here it is called {told}" if is_canonical(told) else "give such as de"
                    raise ConfigError(f"{name} has {code!r}, which is no language; {hint}")
        if without := sorted(set(self.languages) - {*SLURS, *self.slurs}):
            raise ConfigError(
                f"languages has {', '.join(without)}, without a list; give one in slurs, or some "
                f"of {', '.join(SLURS)}"
            )

    def prepare(self) -> None:
        """Read the lists.

        Raises:
            MissingDataError: a file is not there.
            ConfigError: it is not in UTF-8, too large, or has no word.
        """
        for language in self._languages():
            self._slurs(language)
            if self.phrases and language in PHRASES:
                _phrases(language)

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return {
            language: sha256_file(named_file(path, _NAMED)) for language, path in self.slurs.items()
        }

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`."""
        language = document.language
        if language is None or language not in self._languages():
            document.metadata["hate"] = None
            return None
        slurs, phrases = self.count(document.text, language)
        document.metadata["hate"] = found = slurs + phrases
        if not found or (self.letters is not None and found * self.letters <= len(document.text)):
            return None
        rule = "slurs" if slurs else "phrases"
        told = (
            f"slurs: {slurs}, phrases: {phrases}, in {len(document.text):,} letters of {language}"
        )
        return Dropped(rule, told)

    def count(self, text: str, language: str) -> tuple[int, int]:
        """How many slurs and how many phrases of hate a text in a language has."""
        plain = _plain(text)
        slurs = sum(1 for _ in self._slurs(language).finditer(plain))
        if not self.phrases or language not in PHRASES:
            return slurs, 0
        return slurs, sum(1 for _ in _phrases(language).found(plain))

    def _languages(self) -> Collection[str]:
        return self.languages or {*SLURS, *self.slurs}

    def _slurs(self, language: str) -> re.Pattern[str]:
        path = self.slurs.get(language)
        return _of_package(language) if path is None else _of_file(language, path)


@dataclass(frozen=True)
class _Patterns:
    """The phrases of a language, ready to be looked for."""

    hated: re.Pattern[str]
    """A feeling or a call, and then a group."""
    subject: re.Pattern[str]
    """A group, and then what is said of it."""
    beside: re.Pattern[str] | None
    """Right before a group that is not what something is said of."""
    reported: re.Pattern[str]

    def found(self, plain: str) -> Iterator[re.Match[str]]:
        for pattern in (self.hated, self.subject):
            for one in pattern.finditer(plain):
                before = plain[max(0, one.start() - _BEFORE) : one.start()]
                *earlier, sentence = _SENTENCE_END.split(before)
                if not (
                    _is_quoted(sentence.lstrip(_QUOTES) if earlier else sentence)
                    or self.reported.search(sentence)
                    or (pattern is self.subject and self.beside and self.beside.search(sentence))
                ):
                    yield one


def _is_quoted(before: str) -> bool:
    """Whether a quotation is open behind the beginning of a sentence."""
    return before.rstrip()[-1:] in _SINGLE_QUOTES or sum(map(before.count, _QUOTES)) % 2 == 1


@functools.cache
def _phrases(language: str) -> _Patterns:
    terms = PHRASES[language]
    spaced = language not in _UNSPACED
    # Within a sentence, not over a comma, and not into a quotation.
    gap = f"[^{_LETTERS}.,!?;:。、।؟¡¿{_QUOTES}]" + ("+" if spaced else "*")

    def one(listed: str, prefix: str = "") -> str:
        return _alternatives(language, listed.split(","), prefix)

    filler = rf"(?:{one(terms.fillers)}{gap}){{0,3}}"
    prefix = _PREFIXES.get(language, "")
    group = one(terms.groups, prefix)
    target = one(f"{terms.groups},{terms.objects}", prefix)
    end = f"(?!{_LETTER}|['’]s\\b)" if spaced else ""
    begin = _begin(language)
    call, harm = one(terms.calls), one(terms.harms)
    ways = [f"{call}{gap}{filler}{harm}{gap}{filler}{target}"]
    if language in _VERBS_LAST:
        ways.append(f"{call}{gap}{filler}{target}{gap}{filler}{harm}")
    if terms.feelings:
        ways.append(f"{one(terms.feelings)}{gap}{filler}{target}")
    if terms.orders:
        begins = r"(?:^|(?<=[\n.!?。¡])|(?<=[.!?] ))"
        ways.append(f"{begins}{one(terms.orders)}{gap}{filler}{target}")
    kinds = [f"{filler}{one(terms.verdicts)}"]
    are, insults = one(terms.are), one(terms.insults)
    if language in _COPULA_LAST:
        kinds.append(f"{filler}{insults}{gap}{are}")
    else:
        kinds.append(f"{are}{gap}{filler}{insults}")
    beside = terms.beside and f"{one(terms.beside)}{gap}{filler}$"
    return _Patterns(
        re.compile(f"{begin}(?:{'|'.join(ways)}){end}"),
        re.compile(f"{begin}{group}{gap}(?:{'|'.join(kinds)}){end}"),
        re.compile(begin + beside) if beside else None,
        re.compile(f"{begin}{one(terms.reported)}{end}"),
    )


def _plain(text: str) -> str:
    """In lower case, without accents, as words are looked for."""
    if text.isascii():
        return text.lower()
    # The I without a dot of Turkish has the large letter of the one with it.
    return _MARKS.sub("", unicodedata.normalize("NFKD", text)).casefold().replace("ı", "i")


@functools.cache
def _of_package(language: str) -> re.Pattern[str]:
    return _any_of(language, SLURS[language].split(","))


@functools.lru_cache(maxsize=64)
def _of_file(language: str, path: Path) -> re.Pattern[str]:
    """Raises as :meth:`Hate.prepare`."""
    if (size := named_file(path, _NAMED).stat().st_size) > _MOST_BYTES:
        raise ConfigError(f"{path} has {size:,} bytes; a list of words has {_MOST_BYTES:,} at most")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}; save it in UTF-8") from None
    if not any(line.strip(" *\t") for line in lines):
        raise ConfigError(f"{path} has no word; write one on each line")
    return _any_of(language, lines)


def _any_of(language: str, terms: Iterable[str]) -> re.Pattern[str]:
    """What finds any of some terms, the longest that is there."""
    return re.compile(
        _begin(language) + _alternatives(language, terms, _PREFIXES.get(language, ""))
    )


def _begin(language: str) -> str:
    """A pattern of the place before a term."""
    return "" if language in _UNSPACED else f"(?<!{_LETTER})"


def _alternatives(language: str, terms: Iterable[str], prefix: str = "") -> str:
    """A pattern of any of some terms, longer ones first."""
    every = {_plain(term).strip() for term in terms} - {"", "*"}
    plain = sorted(every, key=lambda term: (-len(term), term))
    if language in _UNSPACED:
        return f"(?:{'|'.join(re.escape(term.rstrip('*')) for term in plain)})"
    ways = []
    for term in plain:
        words = r"\W+".join(map(re.escape, term.rstrip("*").split()))
        ways.append(rf"{words}\w*" if term.endswith("*") else f"{words}(?!{_LETTER})")
    return f"{prefix}(?:{'|'.join(ways)})"
