"""Which script a text is written in, and in which scripts languages are written.

Scripts have the four letters of ISO 15924 (``Latn``, ``Cyrl``). A letter's script is told by the
block of Unicode that it stands in: one look-up in an array, a few microseconds for a line of text.

Source: Unicode 15, Blocks.txt and Scripts.txt; the languages of a script: CLDR 48, supplemental
data (languageData), for those that :mod:`everlong.curation.language.identification` can tell.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RANGES = """
Latn 0041-005A 0061-007A 00AA 00BA 00C0-00D6 00D8-00F6 00F8-02B8 1D00-1D25 1D2C-1D5C 1D62-1D65
Latn 1D6B-1D77 1D79-1DBE 1E00-1EFF 2071 207F 2090-209C 212A-212B 2132 214E 2160-2188 2C60-2C7F
Latn A722-A787 A78B-A7FF AB30-AB5A AB5C-AB64 FB00-FB06 FF21-FF3A FF41-FF5A
Grek 0370-0373 0375-0377 037A-037D 037F 0384 0386 0388-03E1 03F0-03FF 1F00-1FFF 2126
Copt 03E2-03EF 2C80-2CFF
Cyrl 0400-052F 1C80-1C8F 1D2B 1D78 2DE0-2DFF A640-A69F
Armn 0531-0556 0559-058A FB13-FB17
Hebr 0591-05F4 FB1D-FB4F
Arab 0610-061A 061C 0620-063F 0641-064A 0656-065F 066E-066F 0671-06DC 06DE-06EF 06FA-06FF
Arab 0750-077F 0870-08FF FB50-FDFF FE70-FEFC
Syrc 0700-074F 0860-086F
Thaa 0780-07BF
Nkoo 07C0-07FF
Deva 0900-0963 0966-097F A8E0-A8FF 1CD0-1CFF
Beng 0980-09FF
Guru 0A00-0A7F
Gujr 0A80-0AFF
Orya 0B00-0B7F
Taml 0B80-0BFF
Telu 0C00-0C7F
Knda 0C80-0CFF
Mlym 0D00-0D7F
Sinh 0D80-0DFF
Thai 0E01-0E3A 0E40-0E5B
Laoo 0E80-0EFF
Tibt 0F00-0FFF
Mymr 1000-109F A9E0-A9FF AA60-AA7F
Geor 10A0-10FF 1C90-1CBF 2D00-2D2F
Hang 1100-11FF 3131-318E 3200-321E 3260-327E A960-A97F AC00-D7FF FFA0-FFDC
Ethi 1200-139F 2D80-2DDF AB00-AB2F
Cher 13A0-13FF AB70-ABBF
Cans 1400-167F 18B0-18FF
Khmr 1780-17FF 19E0-19FF
Mong 1800-1801 1804 1806-18AF
Olck 1C50-1C7F
Tfng 2D30-2D7F
Hani 2E80-2FD5 3005 3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FAFF 20000-3FFFF
Hira 3041-3096 309D-309F 1B001-1B11F
Kana 30A1-30FA 30FD-30FF 31F0-31FF 32D0-32FE 3300-3357 FF66-FF6F FF71-FF9D 1B000
Bopo 3105-312F 31A0-31BF
Yiii A000-A4CF
Adlm 1E900-1E95F
"""
_CODE_SIGNS = "{}()[];=<>_$&|\\^~"
_NOTHING = (
    "0000-0020 007F-00A0 00AD 0300-036F 1680 2000-200F 2028-202F 205F-2064 3000 FE00-FE0F FEFF"
)
"""Spaces and what has no place of its own on the page."""

_WRITTEN_IN = """
Arab: ar ary arz azb ckb fa ps sd sdh ug ur uzs az kk ku ky ha ms pa tg tk uz
Armn: hy
Beng: as bn
Cyrl: ba be bg kk ky mk mn ru sr tg tt uk az bs crh ku tk ug uz
Deva: gom hi mr ne sa sd
Ethi: am om
Geor: ka
Grek: el grc
Gujr: gu
Guru: pa
Hang: ko
Hani: ja ko wuu yue zh
Hebr: hbo he yi
Hira: ja
Kana: ja
Khmr: km
Knda: gom kn sa
Laoo: lo
Latn: ace af an ast az bcl br bs ca ceb crh cs cy da de en eo es et eu ext fi fo fr fuv fy ga gcf
Latn: gcr gd gl gn gom guw ha hr ht hu id ig ilo is it jv kab ki kk ku la lb lg lij ln lt ltg lv mg
Latn: ms mt nl nn no nso oc om pcm pl pt qu ro rw se sk sl sn so sq sr st su sv sw tk tl tr tt ug uz
Latn: vec vi vo wa war xh yo zu
Mlym: ml
Mong: mn
Mymr: my
Orya: or
Sinh: si
Taml: ta
Telu: te
Tfng: kab
Thai: th
Tibt: dz
Thaa: dv
Nkoo: nqo
Olck: sat
"""


def _languages_by_script() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in _WRITTEN_IN.strip().splitlines():
        script, languages = line.split(":")
        found.setdefault(script, set()).update(languages.split())
    return {script: frozenset(languages) for script, languages in found.items()}


LANGUAGES = _languages_by_script()
"""Languages that a script is used for, of those that can be told."""
SCRIPTS = {
    language: frozenset(script for script, users in LANGUAGES.items() if language in users)
    for users in LANGUAGES.values()
    for language in users
}
"""Scripts that a language is written in."""

_NAMES = list(dict.fromkeys(line.split()[0] for line in _RANGES.strip().splitlines()))
_OTHER, _SIGN, _BLANK = range(3)
_FIRST = 3
"""Number of the first script in the array; those below it are the three classes above."""


@dataclass(frozen=True)
class Letters:
    """What the signs of a text are."""

    visible: int
    """All that is not space."""
    signs: int
    """Brackets and other signs that code has many of."""
    of: dict[str, int]
    """Letters by their script."""

    @property
    def total(self) -> int:
        """Letters of any script."""
        return sum(self.of.values())


def letters(text: str) -> Letters:
    """Count a text's letters by script. Vowel signs count as letters."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    counts = np.bincount(_classes()[codes], minlength=_FIRST + len(_NAMES)).tolist()
    found = {name: n for name, n in zip(_NAMES, counts[_FIRST:], strict=True) if n}
    return Letters(len(text) - counts[_BLANK], counts[_SIGN], found)


def script_of(sign: str) -> str | None:
    """The script of one letter; None: it is no letter, or of a script that has no name here."""
    number = int(_classes()[ord(sign)])
    return _NAMES[number - _FIRST] if number >= _FIRST else None


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """For every code point its class or script, uint8 [0x110000]."""
    classes = np.full(0x110000, _OTHER, dtype=np.uint8)
    for line in _RANGES.strip().splitlines():
        name, *ranges = line.split()
        for one in ranges:
            classes[_slice(one)] = _FIRST + _NAMES.index(name)
    for one in _NOTHING.split():
        classes[_slice(one)] = _BLANK
    classes[[ord(sign) for sign in _CODE_SIGNS]] = _SIGN
    return classes


def _slice(hexadecimal: str) -> slice:
    first, _, last = hexadecimal.partition("-")
    return slice(int(first, 16), int(last or first, 16) + 1)
