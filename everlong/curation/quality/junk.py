"""Junk as there is on the web, made at random: what the classifier of quality learns to tell.

Public text of low quality with a licence is rare, so it is made: of phrases that were written for
it, of words of good texts (so that it is not their subjects that tell them apart), and of good
texts that are damaged. Each kind is one way in which a page is no text; what this has not, the
classifier has not seen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

from everlong.curation.quality import junk_phrases as phrases

_SLOT = re.compile(r"\{(word|Word|WORD|words|number|price|date|name|site|stamp|ip|hex)\}")
_WORD = re.compile(r"\b[a-z]{3,12}\b")
_HELD_OUT = 4
"""Of so many phrases one is held out."""
_SHORT, _SHORT_WORDS = 4, 0.15
"""Words of so many letters at most are mostly grammar, of which links and keywords have little:
only such a share of them is taken."""
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_NAMES = (
    *("anna", "mike77", "xx_dark_xx", "jsmith", "Karen B.", "user4821", "the_real_tom", "Priya"),
    *("guest", "admin", "lucas.m", "Diego", "wanderer", "kitty_lover", "DrZ", "Olaf", "m0nica"),
)


class Maker:
    """What junk is made of, and what is drawn.

    Args:
        texts: good ones, some hundred letters each.
        messages: as people write to one another.
        held_out: whether phrases are taken that training has not.
        seed: of what is drawn.
    """

    def __init__(
        self, texts: Sequence[str], messages: Sequence[str], *, held_out: bool, seed: int
    ) -> None:
        self.texts, self.messages, self.held_out = texts, messages, held_out
        self.random = Random(seed)
        self.words: list[str] = [
            word
            for text in texts
            for word in _WORD.findall(text)
            if len(word) > _SHORT or self.random.random() < _SHORT_WORDS
        ]

    def phrase(self, pool: Sequence[str]) -> str:
        """One of a pool, filled in."""
        return self.filled(self.random.choice(self.own(pool)))

    def own(self, pool: Sequence[str]) -> list[str]:
        """Those of a pool that are for this part."""
        return [
            phrase for place, phrase in enumerate(pool) if (place % _HELD_OUT == 1) == self.held_out
        ]

    def filled(self, phrase: str) -> str:
        """A phrase with something in its gaps."""
        return _SLOT.sub(lambda slot: self._fill(slot[1]), phrase)

    def some(self, low: int, high: int) -> range:
        """So many at least and at most."""
        return range(self.random.randint(low, high))

    def text(self) -> str:
        """A good one."""
        return self.random.choice(self.texts)

    def _fill(self, slot: str) -> str:
        random = self.random
        match slot:
            case "word":
                return random.choice(self.words)
            case "Word":
                return random.choice(self.words).capitalize()
            case "WORD":
                return random.choice(self.words).upper()
            case "words":
                return " ".join(random.choices(self.words, k=random.randint(1, 3)))
            case "number":
                return str(random.randrange(10 ** random.randint(1, 4)))
            case "price":
                sign = random.choice("$$$£€")
                return f"{sign}{random.randrange(1, 900)}.{random.choice(('00', '99', '95', '49'))}"
            case "date":
                day, month, year = random.randint(1, 28), random.randint(1, 12), self._year()
                name = _MONTHS[3 * month - 3 : 3 * month]
                forms = (f"{name} {day}, {year}", f"{day:02}/{month:02}/{year}", f"{day} {name}")
                return random.choice(forms)
            case "name":
                return random.choice(_NAMES)
            case "site":
                return random.choice(self.words) + random.choice(
                    (".com", ".net", ".co.uk", ".info")
                )
            case "stamp":
                month, day = random.randint(1, 12), random.randint(1, 28)
                hour, minute = random.randrange(24), random.randrange(60)
                return f"{self._year()}-{month:02}-{day:02} {hour:02}:{minute:02}:{hour + 9:02}"
            case "ip":
                return ".".join(str(random.randrange(256)) for _ in range(4))
            case _:
                return f"{random.getrandbits(64):016x}"[: random.choice((6, 8, 16))]

    def _year(self) -> int:
        return self.random.randint(2001, 2024)


def junk(kind: str, maker: Maker, count: int) -> list[str]:
    """Documents of a kind, a key of one of the tables below."""
    make = {**KINDS, **OTHER_KINDS, **BLIND_KINDS}[kind]
    return [make(maker) for _ in range(count)]


def _menus(maker: Maker) -> str:
    """Links, one after another, in one or two blocks."""
    blocks = []
    for _ in maker.some(1, 3):
        separator = maker.random.choice(phrases.SEPARATORS)
        links = [maker.phrase(phrases.LINKS) for _ in maker.some(8, 40)]
        blocks.append(separator.join(links))
    return "\n".join(blocks)


def _keywords(maker: Maker) -> str:
    """What a page wants to be found by: phrases around few words, or a cloud of words."""
    random = maker.random
    separator = random.choice((", ", ", ", " ", "\n", " | ", "; ", " - ", ". "))
    if random.random() < 0.4:
        words = [" ".join(random.choices(maker.words, k=random.randint(1, 2))) for _ in range(60)]
        return separator.join(words if random.random() < 0.6 else map(str.title, words))
    few = random.sample(maker.words, 3)
    lines = []
    for _ in maker.some(15, 50):
        line = maker.phrase(phrases.SELLING)
        if random.random() < 0.5:  # the same words again and again
            line = line.replace(line.split()[-1], random.choice(few))
        lines.append(line.title() if random.random() < 0.3 else line)
    return separator.join(lines)


def _notices(maker: Maker) -> str:
    separator = maker.random.choice(("\n", " ", "\n\n"))
    lines = [maker.phrase(phrases.NOTICES) for _ in maker.some(4, 12)]
    lines += [maker.phrase(phrases.LINKS) for _ in maker.some(0, 6)]
    maker.random.shuffle(lines)
    return separator.join(lines)


def _forms(maker: Maker) -> str:
    separator = maker.random.choice(("\n", " ", "\n\n"))
    return separator.join(maker.phrase(phrases.FORMS) for _ in maker.some(5, 14))


def _machine_lines(maker: Maker) -> str:
    """Lines of one or two forms, or bytes as letters."""
    random = maker.random
    dump = random.random()
    if dump < 0.15:
        letters = base64.b64encode(random.randbytes(random.randint(200, 900))).decode()
        return "\n".join(re.findall(".{1,76}", letters)) if random.random() < 0.5 else letters
    if dump < 0.3:
        return random.choice((" ", "", "\n")).join(
            random.randbytes(random.choice((2, 16, 20))).hex() for _ in maker.some(20, 60)
        )
    chosen = random.sample(maker.own(phrases.LOGS), random.randint(1, 2))
    return "\n".join(maker.filled(random.choice(chosen)) for _ in maker.some(8, 30))


def _shuffled_words(maker: Maker) -> str:
    words = maker.text().split()
    maker.random.shuffle(words)
    text = " ".join(words)
    return text.lower() if maker.random.random() < 0.3 else text


_MISREAD = {
    "m": ("rn", "nn", "in"),
    "e": ("c", "o"),
    "l": ("1", "I", "|"),
    "o": ("0", "c"),
    "h": ("b",),
    "t": ("f", "l", "+"),
    "a": ("o", "u", "@"),
    "i": ("l", "1", "!", "j"),
    "s": ("5", "8", "z"),
    "c": ("e", "("),
    "n": ("u", "ii", "ri"),
    "u": ("n", "ii"),
    "r": ("i", "f"),
    "d": ("cl", "ol"),
    "w": ("vv", "uu"),
    "g": ("9", "q"),
    "b": ("6", "h"),
    "f": ("t", "/"),
    ".": (",", "·", " "),
    ",": (".", "'"),
    "y": ("v",),
    "v": ("y",),
    "p": ("n",),
    "k": ("lc",),
    "\n": (" \n~", "- \n"),
}


def _misread(maker: Maker) -> str:
    """As badly scanned pages are read: letters for others, words apart or together, specks."""
    random = maker.random
    rate = random.uniform(0.05, 0.2)
    found = []
    for letter in maker.text():
        if random.random() >= rate:
            found.append(letter)
        elif letter == " ":
            found.append(random.choice(("", "", "  ", " . ", " ' ")))
        elif random.random() < 0.2:
            found.append(letter + random.choice((" ", " ", "^", "~", "*", "\\", "- ")))
        else:
            found.append(random.choice(_MISREAD.get(letter.lower(), ("",))))
    return "".join(found)


def _repeated(maker: Maker) -> str:
    """A piece of a text, cut anywhere, again and again."""
    random = maker.random
    words = maker.text().split()
    start = random.randrange(max(1, len(words) - 12))
    piece = words[start : start + random.randint(2, 9)]
    separator = random.choice((" ", "\n", "... ", " | ", ", "))
    lines = []
    for number in maker.some(12, 40):
        end = f" {number}" if random.random() < 0.2 else ""
        lines.append(" ".join(piece[: random.randint(max(1, len(piece) - 2), len(piece))]) + end)
    return separator.join(lines)


def _letter_chain(maker: Maker) -> str:
    """Letters that follow those before as often as in a text: words that are none."""
    order = maker.random.choice((2, 2, 3))
    source = " ".join(maker.text() for _ in range(12))
    return "".join(_chain(source, order, maker.random.randint(500, 1200), maker.random))


def _word_chain(maker: Maker) -> str:
    """Words that follow the one before, or the two, as in some texts."""
    order = maker.random.choice((1, 1, 2))
    source = tuple(" ".join(maker.text() for _ in range(60)).split())
    return " ".join(_chain(source, order, maker.random.randint(80, 200), maker.random))


def _chain(source: Sequence[str], order: int, length: int, random: Random) -> list[str]:
    following: dict[tuple[str, ...], list[str]] = {}
    for place in range(len(source) - order):
        key = tuple(source[place : place + order])
        following.setdefault(key, []).append(source[place + order])
    made = [*random.choice(list(following))]
    while len(made) < length:
        if (found := following.get(tuple(made[-order:]))) is None:
            made.extend(random.choice(list(following)))
        else:
            made.append(random.choice(found))
    return made


def _messages(maker: Maker) -> str:
    """One, or several, a line each."""
    return "\n".join(maker.random.choice(maker.messages) for _ in maker.some(1, 8))


def _threads(maker: Maker) -> str:
    """Messages and remarks with what a page of comments has around them."""
    random = maker.random
    parts = []
    for _ in maker.some(4, 12):
        said = random.choice(maker.messages) if random.random() < 0.5 else ""
        lines = [maker.phrase(phrases.REPLY_LINKS), said or maker.phrase(phrases.REMARKS)]
        lines += [maker.phrase(phrases.REPLY_LINKS) for _ in maker.some(0, 2)]
        parts.append(random.choice(("\n", " ")).join(lines))
    return random.choice(("\n", "\n\n")).join(parts)


def _products(maker: Maker) -> str:
    return _lines_of(maker, phrases.PRODUCTS)


def _listings(maker: Maker) -> str:
    return _lines_of(maker, phrases.LISTINGS)


def _lines_of(maker: Maker, pool: Sequence[str]) -> str:
    separator = maker.random.choice(("\n", "\n", "\n\n", " "))
    return separator.join(maker.filled(maker.random.choice(pool)) for _ in maker.some(6, 20))


def _any_order(maker: Maker) -> str:
    """Sentences of one text in any order: each is good."""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(maker.text() for _ in range(3)))
    maker.random.shuffle(sentences)
    return " ".join(sentences)


KINDS: Mapping[str, Callable[[Maker], str]] = {
    "menus": _menus,
    "keywords": _keywords,
    "notices": _notices,
    "forms": _forms,
    "machine lines": _machine_lines,
    "shuffled words": _shuffled_words,
    "misread": _misread,
    "letter chains": _letter_chain,
    "messages": _messages,
    "threads": _threads,
}
"""What is trained on."""

OTHER_KINDS: Mapping[str, Callable[[Maker], str]] = {
    "products": _products,
    "listings": _listings,
    "word chains": _word_chain,
}
"""What is only measured."""

BLIND_KINDS: Mapping[str, Callable[[Maker], str]] = {
    "repeated": _repeated,
    "sentences in any order": _any_order,
}
"""Junk of which each sentence or phrase is good: only measured, and hardly told."""
