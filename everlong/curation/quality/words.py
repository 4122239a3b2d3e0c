"""The words of a text, as the rules of quality count them.

The thresholds of those rules were measured with words of a treebank: punctuation is a word of its
own, contractions and possessives are two (``do n't``, ``Ann 's``), abbreviations keep their full
stop, addresses stay whole. Text is cut at white space, and each piece by regular expressions that
follow what spaCy 3.8 does with English, whose words the filters of datatrove count. The same piece
is cut once: a table keeps what it became, with what the rules ask of each word, and a text is a
look-up for each of its pieces, and arrays.

Scripts without spaces between words (Chinese, Japanese, Thai and others) have no pieces to count.
Every letter of theirs is a word here, and counts as a part of one: in the 1,004 sentences of
FLORES-200 (NLLB Team 2022) that SIB-200 repeats, one English word is 1.6 letters of Chinese, 0.8
and 1.6 of kanji and kana in Japanese, and 5.2 to 7.6 of Thai, Lao, Khmer, Burmese, Shan, Tibetan
and Dzongkha. FineWeb2 (Penedo et al. 2025) runs a segmenter for each language instead, and fits
thresholds to it; that would take longer than all rules together.
"""

from __future__ import annotations

import functools
import re
import string
import struct
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

T = TypeVar("T")

SYMBOL, OTHER, LETTERS, IDEOGRAPH, KANA, UNSPACED = range(6)
"""What a word is: only punctuation; neither that nor with a letter, such as a number; with a
letter; a letter of Chinese, of the Japanese syllabaries, of another script without spaces."""

_WORDS_OF = np.array([1, 1, 1, 1 / 1.6, 1 / 3.3, 1 / 6.0])
"""So many words is each of them worth."""
ENGLISH_LETTERS = 6.0
"""Characters of an English word with its space, in the same sentences."""

_MOST_PIECES = 1 << 16
"""In either generation of a table; 250 bytes each, about."""
_LONGEST_PIECE = 64
"""Longer ones are rare, and cut anew each time."""

_SENTENCE_ENDS = """
0021 002e 003f 0589 061d-061f 06d4 0700-0702 07f9 0837 0839 083d-083e 0964-0965 104a-104b 1362
1367-1368 166e 1735-1736 17d4-17d5 1803 1809 1944-1945 1aa8-1aab 1b4e-1b4f 1b5a-1b5b 1b5e-1b5f
1b7d-1b7f 1c3b-1c3c 1c7e-1c7f 2024 203c-203d 2047-2049 2cf9-2cfb 2e2e 2e3c 2e53-2e54 2e60-2e61 3002
a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe12 fe15-fe16
fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1
11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 113d4-113d5 1144b-1144c
115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c 11c41-11c42
11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16d6e-16d6f 16e98 1bc9f 1da88
"""


def _signs(ranges: str) -> frozenset[str]:
    found: list[str] = []
    for one in ranges.split():
        first, _, last = one.partition("-")
        found += map(chr, range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


SENTENCE_ENDS = _signs(_SENTENCE_ENDS)
"""Signs with Unicode's property Sentence_Terminal (Unicode 17, PropList.txt)."""
WITHOUT_SENTENCE_ENDS = _signs("0e00-0fff")
"""Thai, Lao and Tibetan: the property has no sign of theirs, sentences end with a space or a stroke
that phrases end with as well."""


@dataclass(frozen=True, eq=False)
class Words:
    """The N words of a text in their order.

    The numbers of words that it tells are estimates, and no integers, where scripts without spaces
    are in the text.
    """

    hashes: NDArray[np.uint64]
    """[N], the same for the same word."""
    lengths: NDArray[np.uint32]
    """[N], in characters."""
    kinds: NDArray[np.uint32]
    """[N], ``SYMBOL`` to ``UNSPACED``."""

    def __len__(self) -> int:
        return len(self.hashes)

    @functools.cached_property
    def _counts(self) -> NDArray[np.float64]:
        """Words of each kind."""
        counts: NDArray[np.float64] = np.bincount(self.kinds, minlength=len(_WORDS_OF)) * _WORDS_OF
        return counts

    @functools.cached_property
    def number(self) -> float:
        """Words, symbols included."""
        return float(self._counts.sum())

    @property
    def without_symbols(self) -> float:
        """Words that are not all punctuation."""
        return float(self._counts[OTHER:].sum())

    @property
    def with_letter(self) -> float:
        """Words in which there is a letter."""
        return float(self._counts[LETTERS:].sum())

    @functools.cached_property
    def letters_a_word(self) -> float | None:
        """Where most words are of scripts without spaces: letters for each; otherwise None."""
        worth = float(self._counts[IDEOGRAPH:].sum())
        if 2 * worth <= self.with_letter:
            return None
        return int(np.count_nonzero(self.kinds >= IDEOGRAPH)) / worth

    @property
    def mean_length(self) -> float:
        """Characters of a word that is not all punctuation; 0: there are none."""
        counted = self.kinds != SYMBOL
        number = int(np.count_nonzero(counted))
        return float(self.lengths.sum(where=counted, dtype=np.int64)) / number if number else 0.0

    def has_word(self, word: str) -> bool:
        """Whether a word is there, in the same case."""
        return bool((self.hashes == _hash(word)).any())


@functools.lru_cache(maxsize=1)
def words_of(text: str) -> Words:
    """The words of a text; the last text is kept, since several rules ask for the same."""
    found = np.frombuffer(b"".join(map(_entries.__getitem__, text.split())), dtype=_ENTRY)
    return Words(found["hash"], found["length"], found["kind"])


@functools.lru_cache(maxsize=1)
def lines_of(text: str) -> list[str]:
    """What is between line feeds; kept as in :func:`words_of`, and not to be changed."""
    return text.split("\n")


def words_worth(text: str) -> float:
    """How many words a short text has, if white space is between them where its script has any."""
    worth = 0.0
    for piece in text.split():
        letters = _UNSPACED_LETTER.findall(piece)
        worth += sum(float(_WORDS_OF[_kind(one)]) for one in letters)
        worth += len(letters) < len(piece)
    return worth


def without_unspaced(text: str) -> str:
    """A text with spaces in place of the letters of scripts that have none between words."""
    return text if text.isascii() else _UNSPACED_LETTER.sub(" ", text)


def split_words(text: str) -> list[str]:
    """The words of a text themselves; :func:`words_of` is for counting them."""
    return [word for piece in text.split() for word in split_piece(piece)]


class PieceTable(dict[str, T]):
    """What pieces between white space became; those that were used last, in two generations."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make
        self._older: dict[str, T] = {}

    def __missing__(self, piece: str) -> T:
        if (found := self._older.get(piece)) is None:
            found = self._make(piece)
        if len(piece) <= _LONGEST_PIECE:
            if len(self) >= _MOST_PIECES:
                self._older = dict(self)
                self.clear()
            self[piece] = found
        return found


def _entries_of(piece: str) -> bytes:
    words = split_piece(piece)
    return b"".join([_entry(word) if len(word) > 1 else _entry_of_sign(word) for word in words])


def _entry(word: str) -> bytes:
    return _PACK(_hash(word), len(word), _kind(word))


_entry_of_sign = functools.lru_cache(maxsize=1 << 14)(_entry)

_PACK = struct.Struct("<QII").pack
_ENTRY = np.dtype([("hash", "<u8"), ("length", "<u4"), ("kind", "<u4")])
_entries = PieceTable(_entries_of)


def _hash(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))


_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecf\u0edc-\u0edf"  # Thai, Lao
    "\u0f0b\u0f0c\u0f40-\u0fbc"  # Tibetan, with the point after each syllable
    "\u1000-\u103f\u1050-\u1089\u109a-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Burmese, Shan
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c"  # Tai Le, New Tai Lue, Tai Tham
    "\u1b00-\u1b4c\ua980-\ua9c0"  # Balinese, Javanese
) + _KANA + _IDEOGRAPHS  # fmt: skip
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_LETTER_OR_REST = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}\u200b]+")
"""U+200B is the space of no width that some write between words of Khmer and Burmese."""
_IS_KANA, _IS_IDEOGRAPH = re.compile(f"[{_KANA}]"), re.compile(f"[{_IDEOGRAPHS}]")
_SYMBOLS = frozenset(string.punctuation)


def _kind(word: str) -> int:
    if not word.isascii() and _UNSPACED_LETTER.match(word):
        if _IS_KANA.match(word):
            return KANA
        return IDEOGRAPH if _IS_IDEOGRAPH.match(word) else UNSPACED
    if word.isalpha() or any(map(str.isalpha, word)):
        return LETTERS
    if all(sign in _SYMBOLS or unicodedata.category(sign)[0] in "PC" for sign in word):
        return SYMBOL
    return OTHER


# What is cut off at the start and the end of a piece, and where its inside is cut.

_QUOTES = "'\"`´‘’‚“”„,«»「-】《》〈〉〔〕（）⟦⟧"
_MARKS = "…,:;!?¿؟¡()\\[\\]{}<>_#*&。？！，、；：～·।،۔؛٪"
_PICTURES = (
    "¦©®°№™\u2195-\u2199\u2300-\u23db\u2440-\u244a\u249c-\u24e9\u2500-\u25b6\u25b8-\u25c0"
    "\u25c2-\u25f7\u2600-\u266e\u2670-\u2767\u2794-\u27bf\u2800-\u28ff\u2b00-\u2b2f\u2b45\u2b46"
    "\u2b4d-\u2bfe\ufffc\ufffd\U0001f000-\U0001faff"
)
_MONEY = "$£€¥฿\u20a0-\u20bf\ufdfc"
_UNITS = (
    "(?:[kdcm]?m|(?:[кдсм]?м))[²³]?|ha|[µn]m|нм|yd|in|ft|[kmµ]?g|[км]?г|t|lb|oz|m/s|м/с|km/?h|км/ч|"
    "mph|h?Pa|к?Па|mbar|мбар|[mkgt]b|[MKGTмкгт]B|[КкМГТмгт][бБ]|[TGMK%]"
)
_UPPER = "".join(sign for sign in map(chr, range(0x590)) if sign.isupper())
_LETTER = r"(?=[\w\u0300-\u036f\u0900-\u0dff])(?![0-9_])"
_LETTERS_BEFORE = r"(?<=[\w\u0300-\u036f\u0900-\u0dff]{0})(?<![0-9_]{0})"
"""Before the sign that is filled in. Vowel signs of the scripts of India are no letters to
``re``."""
_SMALL_BEFORE = rf"{_LETTERS_BEFORE}(?<![{_UPPER}]{{0}})"
"""A letter that is not a capital, be it of a script that has none."""

_START = re.compile(rf"(?:US|C|A)\$|[{_MARKS}{_QUOTES}{_PICTURES}{_MONEY}§%=—–…]|\.\.+|\+(?![0-9])")
_ENDING = re.compile(
    rf"(?:[{_MARKS}{_QUOTES}{_PICTURES}—–]|…{{1,2}}|\.\.+|['’][sS]"
    rf"|(?<=[0-9])(?:\+|(?:US|C|A)?[{_MONEY}]|{_UNITS})"
    rf"|(?:(?<=[0-9%²+\-{_MARKS}{_QUOTES}…])|{_SMALL_BEFORE.format('')}|(?<=[{_UPPER}][{_UPPER}]))\.)\Z"
)
_SINGLE_ENDING = re.compile(f"[{_MARKS}{_QUOTES}{_PICTURES}—–](?<!…)")
_LONGEST_ENDING = 64
_DIGIT = re.compile("[0-9]")
_INSIDE = re.compile(  # the first set of signs makes the search fast
    rf"[.…{_PICTURES}+\-*^,:<>=/–—~](?:(?<=\.)\.+|(?<=[…{_PICTURES}])"
    r"|(?<=[0-9][+\-*^])(?=[0-9-])"
    rf"|(?<=\.)(?:{_SMALL_BEFORE.format('.')}|(?<=[{_QUOTES}].))(?=[{_UPPER}{_QUOTES}])"
    rf"|(?<=,){_LETTERS_BEFORE.format('.')}{_LETTER}"
    rf"|(?:{_LETTERS_BEFORE.format('.')}|(?<=[0-9].))(?:(?<=[:<>=/–~])|(?<=-)-?-?|(?<=—)—?){_LETTER})"
)
_ADDRESS = re.compile(
    r"(?:[\w+.\-]{2,}://)?(?:\S+@)?"
    rf"(?:(?:[A-Za-z0-9\u00a1-\uffff][A-Za-z0-9\u00a1-\uffff_\-]*\.)+(?:[^\W\d_](?<![{_UPPER}])){{2,63}}"
    r"|[1-9][0-9]{0,2}(?:\.[0-9]{1,3}){3})"
    r"(?::[0-9]{2,5})?(?:[/?#]\S*)?"
)


def _contractions() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in _CONTRACTIONS.strip().splitlines():
        stems, endings = line.split(":")
        for stem in stems.split():
            for ending in endings.split():
                words = (stem, *ending.split("+"))
                for one in (words, (stem.title(), *words[1:])):
                    found["".join(one)] = one
                    bare = (one[0], *(part.replace("'", "") for part in one[1:]))
                    found["".join(bare)] = bare
    for stem in _NO_CONTRACTIONS.split():
        found.pop(stem, None)
        found.pop(stem.title(), None)
    for written in _OTHER_PARTS.split():
        found[written.replace("+", "")] = tuple(written.split("+"))
    for hour in range(1, 13):
        for half in ("am", "a.m.", "pm", "p.m."):
            found[f"{hour}{half}"] = (str(hour), half)
    return found


_CONTRACTIONS = """
i: 'm 'm+a 'll 'll+'ve 'd 'd+'ve 've
you: 'll 'll+'ve 'd 'd+'ve 've 're
he she it: 'll 'll+'ve 'd 'd+'ve 's
we they: 'll 'll+'ve 'd 'd+'ve 've 're
who what when where why how there: 's 'll 'll+'ve 're 've 'd 'd+'ve
that this: 's 'll 'll+'ve 'd 'd+'ve
these those: 'll 'll+'ve 're 've 'd 'd+'ve
could might must should would: n't n't+'ve 've
ca do does did had may need ought sha wo: n't n't+'ve
ai are is was were have has dare: n't
"""
_NO_CONTRACTIONS = "ill its hell shell shed were well whore"
"""Words of their own if the apostrophe is left out."""
_OTHER_PARTS = """
y'+all y+all how+'d+'y How+'d+'y not+'ve Not+'ve not+ve Not+ve can+not Can+not gon+na Gon+na got+ta
Got+ta let+'s Let+'s c'm+on C'm+on
"""
_WHOLE = """
' '' \\n \\t \\") <space> 's 'S ‘s ‘S 'd 'em 'll 're 'nuff 'cause 'Cause 'cos 'Cos 'coz 'Coz 'cuz
'Cuz 'bout doin' Doin' goin' Goin' nothin' Nothin' nuthin' Nuthin' ol' Ol' somethin' Somethin'
lovin' Lovin' havin' Havin' ma'am Ma'am o'clock O'clock and/or w/o C++
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan.
Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr.
Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. p.m. Adm. Bros. co. Co.
Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs.
Ms. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s.
t. u. v. w. x. y. z. ä. ö. ü.
:') :'-) :'( :'-( :1 :() :o) (o: (: (-: (; (-; (8 (-8 (= )-: ): [: [-: [= ]= =[ =] =) =( =/ =| =3 =D
;) ;-) ;D ;-D 8) 8-) 8D 8-D >:( >:o </3 <3 <33 <333 >.< >.> <.< ._. ^_^ -_- (^_^) (-_-) (._.) (>_<)
(*_*)
"""
_MOUTHS = ") )) ))) ( (( ((( ] } / | P p O o 0 * 3 > X x D"
_FACES = [f":{nose}{mouth}" for mouth in _MOUTHS.split() for nose in ("", "-")]

_SPECIAL = _contractions() | {one: (one,) for one in (*_WHOLE.split(), *_FACES)}
_SPECIAL |= {
    one.replace("'", "’"): tuple(word.replace("'", "’") for word in words)
    for one, words in _SPECIAL.items()
    if "'" in one
}
_LONGEST_SPECIAL = max(map(len, _SPECIAL))
_SPECIAL_STARTS = {one[:end] for one in _SPECIAL for end in range(2, len(one) + 1)}

_COMMON = re.compile(r"([\"'(“‘]?)([^\W\d_]+)([.,;:!?)\"'”’]?)")


def split_piece(piece: str) -> list[str]:
    """The words of what stands between white space."""
    if piece.isascii() or not _UNSPACED_LETTER.search(piece):
        return _split_spaced(piece)
    return [
        word
        for part in _LETTER_OR_REST.findall(piece)
        for word in ((part,) if _UNSPACED_LETTER.match(part) else _split_spaced(part))
    ]


def _split_spaced(piece: str) -> list[str]:
    if (found := _COMMON.fullmatch(piece)) and (words := _split_common(*found.groups())):
        return words
    before: list[str] = []
    after: list[str] = []
    start, end = 0, len(piece)
    while start < end and not _is_special(piece, start, end):
        if found := _START.match(piece, start, end):
            before.append(found[0])
            start = found.end()
            if _is_special(piece, start, end):
                break
        if length := _length_of_ending(piece, start, end):
            after.append(piece[end - length : end])
            end -= length
        elif not found:
            break
    words = [*before, *_split_inside(piece[start:end]), *reversed(after)]
    return _merged(words) if len(words) > 1 else words


def _split_common(opening: str, letters: str, closing: str) -> list[str] | None:
    """Letters between signs, as nine of ten pieces of prose are; None: it is not so simple."""
    if letters in _SPECIAL or (closing == "." and letters[-1] in _UPPER):
        return None
    if opening and (opening + letters in _SPECIAL or opening + letters + closing in _SPECIAL):
        return None
    if closing and letters + closing in _SPECIAL:
        return None
    return [word for word in (opening, letters, closing) if word]


def _length_of_ending(piece: str, start: int, end: int) -> int:
    """Characters that are cut off at the end of a part of a piece."""
    if start == end:
        return 0
    last = piece[end - 1]
    if _SINGLE_ENDING.match(last):
        return 1
    if last.isalnum() and last not in "sS" and not _DIGIT.search(piece, max(start, end - 5), end):
        return 0  # only a unit can end with a letter, and a possessive with s
    # Near the end only, so that a piece of a megabyte takes no longer than many short ones.
    found = _ENDING.search(piece, max(start, end - _LONGEST_ENDING), end)
    return end - found.start() if found else 0


def _is_special(piece: str, start: int, end: int) -> bool:
    return end - start <= _LONGEST_SPECIAL and piece[start:end] in _SPECIAL


def _split_inside(inner: str) -> Iterable[str]:
    if not inner:
        return ()
    if (special := _SPECIAL.get(inner)) is not None:
        return special
    if inner.isalnum() or _ADDRESS.fullmatch(inner):
        return (inner,)
    words: list[str] = []
    at = 0
    for found in _INSIDE.finditer(inner):
        if not (start := found.start()):
            continue
        if at < start:
            words.append(inner[at:start])
        words.append(found[0])
        at = found.end()
    if at < len(inner):
        words.append(inner[at:])
    return words


def _merged(words: list[str]) -> list[str]:
    """Abbreviations and faces are whole, too, if they were cut: ``:`` and ``)``."""
    found: list[str] = []
    at = 0
    while at < len(words):
        joined, after, special = words[at], at + 1, None
        for place in range(after, len(words)):
            if (joined := joined + words[place]) not in _SPECIAL_STARTS:
                break
            if joined in _SPECIAL:
                special, after = joined, place + 1
        found += words[at:after] if special is None else _SPECIAL[special]
        at = after
    return found
