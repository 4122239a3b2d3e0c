"""Unix manual pages: roff with the macros of man(7) and mdoc(7), as text with headings.

Only what carries text is understood. Fonts, widths and fills are dropped, tables and equations are
left out. A reader like this never runs a page: groff is a language, and a page is not a program
that anyone has read.
"""

from __future__ import annotations

import re

from everlong.documents.extracted import Extracted, Limits
from everlong.documents.text import decoded
from everlong.errors import DataError

_TITLE = re.compile(r"^[.'][ \t]*(?:TH|Dt)[ \t]+(?:\"([^\"\n]+)\"|(\S+))", re.MULTILINE)
"""What a page begins with in man(7) and in mdoc(7)."""
_ESCAPES = {
    "-": "-", "e": "\\", "&": "", "|": "", "^": "", "~": " ", " ": " ", "0": " ", "%": "",
    ":": "", "/": "", ",": "", "\\": "\\", "'": "'", "`": "`", ".": ".", "c": "", "t": "\t",
    "p": "", "d": "", "u": "", "r": "", "a": "", ")": "", "!": "", "{": "", "}": "",
}  # fmt: skip
_NAMED = {
    "bu": "•", "em": "—", "en": "–", "hy": "-", "lq": "“", "rq": "”", "oq": "‘", "cq": "’",
    "aq": "'", "dq": '"', "co": "©", "rg": "®", "tm": "™", "ha": "^", "ti": "~", "rs": "\\",
    "mu": "×", "<=": "≤", ">=": "≥", "+-": "±", "->": "→", "<-": "←", "de": "°", "sc": "§",
    "ga": "`", "aa": "´", "ul": "_", "bv": "|", "ba": "|", "at": "@", "sh": "#", "Do": "$",
    "Eu": "€", "ss": "ß", "ae": "æ", "/o": "ø", "oa": "å", "lB": "[", "rB": "]", "lC": "{",
    "rC": "}", "la": "⟨", "ra": "⟩", "sq": "□", "R": "®", "Tm": "™", "L\"": "“", "R\"": "”",
}  # fmt: skip
_ACCENTS = {
    ":": "\u0308",
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    "~": "\u0303",
    ",": "\u0327",
}
_ESCAPE = re.compile(
    r"\\(?:"
    r"\[(?P<long>[^\]\n]{0,40})\]"
    r"|\((?P<two>..)"
    r"|\*(?:\[[^\]\n]{0,40}\]|\((?P<string>..)|.)"
    r"|[fFgknmMVY](?:\[[^\]\n]{0,40}\]|\(..|.)"
    r"|s(?:[-+]?\(..|[-+]?[0-9]{1,2}|\[[^\]\n]{0,9}\])"
    r"|[hvwoCNbDlLSHxXZ]'(?P<quoted>[^'\n]{0,200})'"
    r"|[\"#](?P<comment>.*)"
    r"|(?P<one>.?))"
)
_WORD = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')
_SKIPPED = {"TS": ".TE", "EQ": ".EN", "PS": ".PE", "ig": "..", "de": "..", "am": ".."}
"""What is left out, and the line where it ends."""
_PARAGRAPHS = frozenset({
    "PP", "P", "LP", "Pp", "Lp", "IP", "TP", "TQ", "It", "RS", "RE", "Bl", "El", "Bd", "Ed",
    "Sp", "Vb", "Ve", "sp", "EX", "EE", "SY", "YS",
})  # fmt: skip
_FONTS = frozenset({
    "B", "I", "SM", "SB", "R",
})  # fmt: skip
_TURNS = frozenset({
    "BR", "RB", "BI", "IB", "IR", "RI", "OP",
})  # fmt: skip
"""Macros whose words follow one another without a space."""
_QUOTES = {
    "Dq": "“”", "Sq": "‘’", "Pq": "()", "Bq": "[]", "Brq": "{}", "Aq": "⟨⟩", "Op": "[]", "Ql": "‘’",
    "Qq": '""',
}  # fmt: skip
_CALLABLE = frozenset({
    "Ad", "An", "Ap", "Ar", "Cd", "Cm", "Dv", "Em", "Er", "Ev", "Fa", "Fl", "Fn", "Ft", "Ic",
    "In", "Li", "Lk", "Ms", "Mt", "Nd", "Nm", "No", "Ns", "Nx", "Ox", "Pa", "Pf", "Rv", "St",
    "Sx", "Sy", "Tn", "Ux", "Va", "Vt", "Xr", "Xo", "Xc", "Oo", "Oc", "Po", "Pc", "Do", "Dc",
    "So", "Sc", "Bo", "Bc", "Ao", "Ac", "Fx", "Bx", "Bsx", "At",
})  # fmt: skip


def read_manual_page(data: bytes, limits: Limits) -> Extracted:
    """A file that is one manual page.

    Raises:
        DataError: it is none, but for instance a log whose name ends in a number; or as
            :func:`everlong.documents.text.read_text`.
    """
    page, metadata = decoded(data, limits)
    title = _TITLE.search(page)
    if title is None:
        raise DataError("no manual page: it has no title (.TH or .Dt)")
    text = text_of(page)
    if not text:
        raise DataError("a manual page without text")
    return Extracted("", text, title=title[1] or title[2], metadata=metadata)


def text_of(page: str) -> str:
    """The text of a page, headings as Markdown has them.

    Args:
        page: roff source.
    """
    out: list[str] = []
    line: list[str] = []
    name, until = "", None

    def flush() -> None:
        if text := " ".join(" ".join(line).split()):
            out.append(text)
        line.clear()

    literal = False
    for source in page.replace("\\\n", "").split("\n"):
        if until is not None:
            until = None if source.replace(" ", "") == until else until
            continue
        if not source.startswith((".", "'")):
            if not source.strip():
                flush()
            elif literal:
                flush()
                out.append("    " + _plain(source))
            else:
                line.append(_plain(source))
            continue
        macro, _, rest = source[1:].strip().partition(" ")
        if macro in _SKIPPED:
            until = _SKIPPED[macro]
            continue
        words = _words(rest)
        if macro in ("nf", "EX", "Vb", "Bd"):
            flush()
            literal = True
        elif macro in ("fi", "EE", "Ve", "Ed"):
            literal = False
        if macro in ("SH", "Sh", "SS", "Ss"):
            flush()
            out += ["", ("# " if macro in ("SH", "Sh") else "## ") + " ".join(words), ""]
        elif macro in _PARAGRAPHS:
            flush()
            if macro in ("IP", "It") and (
                tag := _said(words if macro == "It" else words[:1], name)
            ):
                line.append("-" if tag in ("•", "*", "o") else tag)
        elif macro in _FONTS:
            line.append(" ".join(words))
        elif macro in _TURNS:
            line.append("".join(words))
        elif macro == "Nm":
            name = words[0] if words and not name else name
            line.append(_said(words, name) or name)
        elif macro in ("UR", "MT"):
            line.append(words[0] if words else "")
        elif macro in _QUOTES or macro in _CALLABLE:
            line.append(_said([macro, *words], name))
        elif macro == "br":
            flush()
    flush()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _said(words: list[str], name: str) -> str:
    """Words of a line of mdoc(7), in which macros may stand among them."""
    said, closing, glued = "", "", True
    for word in words:
        if word == "Ns":
            glued = True
        elif word == "Fl" or word in _QUOTES:
            marks = "-" if word == "Fl" else _QUOTES[word]
            said += ("" if glued else " ") + marks[0]
            closing, glued = marks[1:] + closing, True
        elif word == "Nm" or word not in _CALLABLE:
            close = glued or (len(word) == 1 and word in ".,;:)]")
            said, glued = said + ("" if close else " ") + (name if word == "Nm" else word), False
    return said + closing


def _words(rest: str) -> list[str]:
    rest = rest.partition('\\"')[0]
    found = (quoted.replace('""', '"') or bare for quoted, bare in _WORD.findall(rest))
    return [_plain(word) for word in found]


def _plain(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(found: re.Match[str]) -> str:
    if (one := found["one"]) is not None:
        return _ESCAPES.get(one, one)
    name = found["long"] or found["two"] or found["string"]
    if name is None:
        return ""
    if name in _NAMED:
        return _NAMED[name]
    if re.fullmatch("u[0-9A-F]{4,6}", name) and int(name[1:], 16) < 0x110000:
        return chr(int(name[1:], 16))
    if len(name) == 2 and name[0] in _ACCENTS and name[1].isalpha():
        return name[1] + _ACCENTS[name[0]]
    return ""
