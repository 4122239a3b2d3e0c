"""The form of a text: what is left when its words are told by their shape alone.

What a text is about says nothing of its quality, but a classifier that sees words learns the
subjects of what it was trained on. So each word becomes one character: words of grammar stay
themselves, and of all others only length and capitals are kept; marks, numbers and ends of lines
have characters of their own. Runs of these say much about prose, and the same about any subject:
function words tell how a text is written, as for authors (Mosteller and Wallace 1963, "Inference in
an Authorship Problem").

The words of grammar are English.
"""

from __future__ import annotations

import re

_WORDS = """
a about above across after again against ago all almost along already also although always am among
an and another any anybody anyone anything anywhere are as at away be became because become becomes
been before behind being below beneath beside besides best better between beyond both but by came
can cannot come comes could did do does doing done down during each either else enough even ever
every everybody everyone everything everywhere except far few first for from further gave get gets
getting give given gives go goes going gone got had has have having he hence her here hers herself
him himself his how however i if in indeed inside instead into is it its itself just keep kept knew
know known last least less let like likely little long made make makes making many may maybe me
might mine more moreover most much must my myself near nearly need neither never nevertheless next
no nobody none nor not nothing now nowhere of off often on once one only onto or other others
otherwise ought our ours ourselves out outside over own per perhaps put quite rather really said
same saw say says see seem seemed seems seen several shall she should since so some somebody somehow
someone something sometimes somewhere soon still such take taken takes than that the their theirs
them themselves then there therefore these they thing things think this those though thought three
through throughout thus till to together told too took toward towards two under unless until up upon
us use used uses using very via want was way we well went were what whatever when whenever where
whereas wherever whether which whichever while who whoever whole whom whose why will with within
without would yes yet you your yours yourself yourselves
s t d m ll re ve don didn doesn isn wasn aren weren couldn wouldn shouldn hasn haven hadn won
"""
"""Pronouns, prepositions, conjunctions, auxiliary and the most general verbs and adverbs; what is
before and after an apostrophe counts as words."""
_SPELLINGS = """
ain:isn aint:isn bein:being bout:about cant:can cuz:because da:the dat:that dem:them den:then
dey:they dis:this doin:doing dont:don em:them fer:for finna:going gettin:getting git:get goin:going
gon:going gonna:going gotta:got gwine:going hain:hasn havin:having ima:i imma:i iont:don jest:just
makin:making nah:no nothin:nothing nuttin:nothing somethin:something sumn:something thet:that
tho:though thru:through til:till tryna:want wanna:want warn:wasn whar:where wit:with wuz:was
yall:you ye:you yer:your
"""
"""Spellings of grammar in African American English, in the South of the USA and in novels that let
people speak so (Blodgett et al. 2016 describe such); they count as what they stand for. Otherwise a
text would be worse for its dialect."""
_MARKS = ".,;:!?'\"()[]{}<>|/\\-–—_*#=+&%$£€@~^`“”‘’…•·»«→©®™"
_PART = re.compile(r"[^\W\d_]+|\d+|([^\w\s]|_)\1*")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_LINES = re.compile(r"\n\s*\n")

# One character for each of what there is, of a block whose characters all belong to words. Texts
# may have characters of it, too: those are words, and become shapes like others.
_FIRST = 0x4E00
_GRAMMAR = {word: 4 * place for place, word in enumerate(_WORDS.split())}
_SHAPES = 4 * len(_GRAMMAR)
_GRAMMAR |= {
    spelling: _GRAMMAR[word] for spelling, word in (one.split(":") for one in _SPELLINGS.split())
}
_NUMBERS = _SHAPES + 12
_SIGNS = {mark: _NUMBERS + 8 + 2 * place for place, mark in enumerate(_MARKS)}
_OTHER_SIGN = _NUMBERS + 8 + 2 * len(_MARKS)
_ADDRESS_FORM, _LINE_FORM, _PARAGRAPH_FORM = (
    chr(_FIRST + _OTHER_SIGN + 2 + place) for place in range(3)
)
_LENGTHS = (3, 7)
"""Up to so many letters words are of one shape."""
_LONGEST_PIECE = 32
"""Letters of a piece that is worth remembering."""
_MOST_PIECES = 1 << 17


def form(text: str) -> str:
    """A text with a character for each word, number and mark, blanks between them.

    Addresses, ends of lines and of paragraphs are a character each, too.
    """
    text = _ADDRESS.sub(f" {_ADDRESS_FORM} ", text.replace("\r\n", "\n"))
    text = _LINES.sub(f" {_PARAGRAPH_FORM} ", text).replace("\n", f" {_LINE_FORM} ")
    if len(_pieces) > _MOST_PIECES:
        _pieces.clear()
        _pieces.update(_KEPT)
    return " ".join([_pieces[piece] for piece in text.split()])


class _Pieces(dict[str, str]):
    """Forms of what stands between white space; most of a text was there before."""

    def __missing__(self, piece: str) -> str:
        found = " ".join(_characters(piece))
        if len(piece) <= _LONGEST_PIECE:
            self[piece] = found
        return found


def _characters(piece: str) -> list[str]:
    found = []
    for match in _PART.finditer(piece):
        part = match[0]
        if part[0].isalpha():
            number = _word(part)
        elif part[0].isdecimal():
            number = _NUMBERS + min(len(part), 5)
        else:
            number = _SIGNS.get(part[0], _OTHER_SIGN) + (len(part) > 1)
        found.append(chr(_FIRST + number))
    return found


def _word(word: str) -> int:
    lower = word.lower()
    if lower == word:
        capitals = 0
    elif word[1:] == lower[1:]:
        capitals = 1
    else:
        capitals = 2 if word.isupper() else 3
    if (place := _GRAMMAR.get(lower)) is not None:
        return place + capitals
    return _SHAPES + 4 * sum(len(word) > most for most in _LENGTHS) + capitals


_KEPT = {one: one for one in (_ADDRESS_FORM, _LINE_FORM, _PARAGRAPH_FORM)}
_pieces = _Pieces(_KEPT)
