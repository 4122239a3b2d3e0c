"""The numbers by which states know people: their shapes, their checks, and what they are called.

Where a check holds by chance for more than about one number in a hundred, a word that says what the
number is has to stand near it. Sources: the rules of the offices that issue the numbers, as the
articles on each in Wikipedia and the manual of python-stdnum give them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from everlong.curation.personal_data.checksums import luhn, mod_11_2, mod_11_10, verhoeff, weighted

_LETTERS_OF_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
_LETTERS_OF_HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_ODD_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22)
_ODD = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", (*_ODD_VALUES, 25, 24, 23), strict=True)) | dict(
    zip("0123456789", _ODD_VALUES[:10], strict=True)
)
_SERIES_OF_NRIC = {
    "S": (0, "JZIHGFEDCBA"),
    "T": (4, "JZIHGFEDCBA"),
    "F": (0, "XWUTRQPNMLK"),
    "G": (4, "XWUTRQPNMLK"),
    "M": (3, "XWUTRQPNJLK"),
}
_OF_CURP = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"


def _is_date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _us_ssn(number: str) -> bool:
    area, group, serial = number[:3], number[3:5], number[5:]
    if area in ("000", "666") or area >= "900" or group == "00" or serial == "0000":
        return False
    # Numbers that were printed in advertisements, and what stands for any number.
    return number not in ("078051120", "219099999", "123456789", "111111111")


def _gb_nino(number: str) -> bool:
    return (
        number[0] not in "DFIQUV"
        and number[1] not in "DFIOQUV"
        and number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
    )


def _gb_nhs(number: str) -> bool:
    return weighted(number, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _de_tax(number: str) -> bool:
    repeated = [count for digit in "0123456789" if (count := number[:10].count(digit)) > 1]
    return number[0] != "0" and repeated in ([2], [3]) and mod_11_10(number)


def _fr_nir(number: str) -> bool:
    if number[0] not in "1278" or not (1 <= int(number[3:5]) <= 12 or int(number[3:5]) >= 20):
        return False
    digits = number[:13].replace("2A", "19").replace("2B", "18")
    return digits.isdigit() and 97 - int(digits) % 97 == int(number[13:])


def _es_dni(number: str) -> bool:
    digits = number[:-1].translate({ord("X"): "0", ord("Y"): "1", ord("Z"): "2"})
    return digits.isdigit() and number[-1] == _LETTERS_OF_DNI[int(digits) % 23]


def _it_code(number: str) -> bool:
    odd = sum(_ODD[one] for one in number[:15:2])
    even = sum(int(one, 36) - (10 if one.isalpha() else 0) for one in number[1:15:2])
    return (odd + even) % 26 == ord(number[15]) - ord("A")


def _nl_bsn(number: str) -> bool:
    return weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(number) > 9_999_999


def _be_nn(number: str) -> bool:
    if int(number[2:4]) > 12 or int(number[4:6]) > 31:
        return False
    return int(number[9:]) in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


def _pt_nif(number: str) -> bool:
    check = -weighted(number[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11 % 10
    return number[0] in "12345" and int(number[8]) == check


def _ch_ahv(number: str) -> bool:
    return number[:3] == "756" and weighted(number, (1, 3) * 6 + (1,)) % 10 == 0


def _pl_pesel(number: str) -> bool:
    dated = _is_date(str(int(number[2:4]) % 20), number[4:6])
    return dated and weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _cz_rc(number: str) -> bool:
    dated = _is_date(str(int(number[2:4]) % 50 % 20), number[4:6])
    return dated and int(number[:9]) % 11 % 10 == int(number[9])


def _ro_cnp(number: str) -> bool:
    if number[0] == "0" or not _is_date(number[3:5], number[5:7]):
        return False
    check = weighted(number[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (1 if check == 10 else check) == int(number[12])


def _se_pnr(number: str) -> bool:
    short = number[-10:]
    # 60 is added to the day in numbers of people who do not live there.
    return _is_date(short[2:4], str(int(short[4:6]) % 60)) and luhn(short)


def _fi_hetu(number: str) -> bool:
    digits = number[:6] + number[-4:-1]
    if not digits.isdigit() or not _is_date(number[2:4], number[:2]):
        return False
    return number[-1] == _LETTERS_OF_HETU[int(digits) % 31]


def _dk_cpr(number: str) -> bool:
    return _is_date(number[2:4], number[:2])  # its check digit is not kept to since 2007


def _no_fnr(number: str) -> bool:
    day = int(number[:2]) - (40 if number[0] > "3" else 0)
    first = weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1))
    second = weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1))
    return _is_date(number[2:4], str(day)) and first % 11 == 0 and second % 11 == 0


def _in_aadhaar(number: str) -> bool:
    return number[0] not in "01" and verhoeff(number)


def _in_pan(number: str) -> bool:
    return number[3] in "ABCFGHJLPT"


def _br_cpf(number: str) -> bool:
    if len(set(number)) == 1:
        return False
    checks = (range(10, 1, -1), range(11, 1, -1))
    return all(
        -weighted(number, weights) % 11 % 10 == int(number[9 + place])
        if weighted(number, weights) % 11 > 1
        else number[9 + place] == "0"
        for place, weights in enumerate(checks)
    )


def _mx_curp(number: str) -> bool:
    check = sum(_OF_CURP.index(one) * (18 - place) for place, one in enumerate(number[:17]))
    return _is_date(number[6:8], number[8:10]) and -check % 10 == int(number[17])


def _cl_rut(number: str) -> bool:
    check = -weighted(number[-2::-1], (2, 3, 4, 5, 6, 7) * 2) % 11
    return "0123456789K"[check] == number[-1]


def _ar_cuil(number: str) -> bool:
    check = -weighted(number[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return number[:2] in ("20", "23", "24", "27") and check == int(number[10])


def _ca_sin(number: str) -> bool:
    return number[0] not in "08" and luhn(number)


def _za_id(number: str) -> bool:
    return _is_date(number[2:4], number[4:6]) and number[10] in "012" and luhn(number)


def _cn_id(number: str) -> bool:
    dated = number[6:8] in ("19", "20") and _is_date(number[10:12], number[12:14])
    return dated and number[17] in "0123456789X" and mod_11_2(number)


def _kr_rrn(number: str) -> bool:
    check = (11 - weighted(number[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    return _is_date(number[2:4], number[4:6]) and check == int(number[12])


def _jp_my_number(number: str) -> bool:
    rest = weighted(number[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(number[11]) == (0 if rest <= 1 else 11 - rest)


def _tr_tckn(number: str) -> bool:
    digits = [int(one) for one in number]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[0] != 0 and digits[9] == tenth and digits[10] == sum(digits[:10]) % 10


def _au_tfn(number: str) -> bool:
    return weighted(number, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _sg_nric(number: str) -> bool:
    offset, letters = _SERIES_OF_NRIC.get(number[0], (0, ""))
    rest = (weighted(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + offset) % 11
    return number[8] == letters[rest : rest + 1]


def _ie_pps(number: str) -> bool:
    second = number[8:]
    extra = 9 * (0 if second in ("", "W") else ord(second) - ord("A") + 1)
    rest = (weighted(number[:7], (8, 7, 6, 5, 4, 3, 2)) + extra) % 23
    return number[7] == "WABCDEFGHIJKLMNOPQRSTUV"[rest]


@dataclass(frozen=True)
class IdForm:
    """A kind of number."""

    valid: Callable[[str], bool]
    """Of its letters and digits, without separators."""
    alone: tuple[str, ...]
    """Shapes that need no word beside them: 9 is a digit, A a capital letter."""
    named: tuple[str, ...] = ()
    """Shapes that do."""
    names: tuple[str, ...] = ()
    """Such words, as regular expressions in lower case."""
    checked: bool = True
    """Whether a word for any number of people is enough; not where any digits would do."""


ANY_NAME = (
    *(r"national[ _-]?id", r"national identi\w+", r"identity (?:card|number|no|document)"),
    *(r"id[ _-](?:number|no|card)", r"identification number", r"personal (?:id|number|code)"),
    *(r"tax[ _-]?(?:id|number|file)", r"social security", r"citizen", r"tin"),
)
FORMS = (
    IdForm(
        _us_ssn,
        ("999-99-9999",),
        ("999 99 9999", "999999999"),
        ("ssn", "soc sec", "social", "social security", "soc[.] sec[.]"),
        False,
    ),
    IdForm(
        _gb_nino,
        ("AA 99 99 99 A",),
        ("AA999999A", "AA 999999 A", "AA-99-99-99-A"),
        ("nino", r"ni (?:number|no)", r"national insurance", "n[.]i[.]", "hmrc", "paye"),
    ),
    IdForm(_gb_nhs, (), ("999 999 9999", "999-999-9999", "9999999999"), ("nhs",)),
    IdForm(
        _de_tax,
        (),
        ("99999999999", "99 999 999 999"),
        (r"steuer\S*", r"id-?nr", r"identifikationsnummer", "idno"),
    ),
    IdForm(
        _fr_nir,
        (
            "999999999999999",
            "999999A99999999",
            "9 99 99 99 999 999 99",
            "9 99 99 9A 999 999 99",
            "9999999999999 99",
            "9 99 99 99 999 999 - 99",
        ),
    ),
    IdForm(
        _es_dni,
        (
            "99999999A",
            "99999999-A",
            "99.999.999-A",
            "99.999.999 A",
            "99.999.999A",
            "A9999999A",
            "A-9999999-A",
            "A-9999999A",
            "A9999999-A",
        ),
        ("99999999 A",),
        ("dni", "nif", "nie"),
    ),
    IdForm(_it_code, ("AAAAAA99A99A999A",), ("AAA AAA 99A99 A999A",), ("fiscale",)),
    IdForm(
        _nl_bsn,
        (),
        ("999999999", "9999.99.999", "999 999 999", "9999 99 999"),
        ("bsn", "burgerservicenummer", "sofi", "sofinummer", r"bsn-?nummer"),
    ),
    IdForm(
        _be_nn,
        ("99.99.99-999.99", "99.99.99-999-99", "99.99.99 999.99"),
        ("99999999999", "999999 999 99", "999999-999-99", "999999-999.99"),
        (
            "rijksregister",
            r"rijksregisternummer",
            "insz",
            "niss",
            r"registre national",
            r"num[ée]ro national",
            "rrn",
            "nationalregister",
        ),
    ),
    IdForm(_pt_nif, (), ("999999999", "999 999 999"), ("nif", "contribuinte", "nipc")),
    IdForm(
        _ch_ahv,
        ("999.9999.9999.99", "9999999999999"),
        ("999 9999 9999 99",),
        ("ahv", "avs", "ahv-nr", "svnr"),
    ),
    IdForm(_pl_pesel, (), ("99999999999",), ("pesel", r"pesel-?\w{0,3}")),
    IdForm(
        _cz_rc,
        ("999999/9999",),
        ("9999999999",),
        (r"rodn[ée] č[ií]slo", r"rodn[eé]ho č[ií]sla", "r[.]č[.]", "rč", "rodne cislo"),
    ),
    IdForm(_ro_cnp, (), ("9999999999999",), ("cnp", "cod numeric personal")),
    IdForm(
        _se_pnr,
        (),
        ("999999-9999", "99999999-9999", "999999999999", "9999999999", "999999+9999"),
        (r"person\w*", "pnr", r"samordningsnummer", "p-nr", "ssn"),
    ),
    IdForm(
        _fi_hetu,
        ("999999-999A", "999999A999A", "999999A9999", "999999+999A"),
        ("999999-9999",),
        (r"henkil[öo]tunnu\w*", "hetu", "sotu", "personbeteckning"),
    ),
    IdForm(
        _dk_cpr,
        (),
        ("999999-9999", "9999999999", "999999 9999"),
        ("cpr", r"cpr-?\w+", "personnummer"),
        False,
    ),
    IdForm(
        _no_fnr,
        ("99999999999",),
        ("999999-99999", "999999 99999"),
        (r"f[øo]dselsnummer", "fnr", "personnummer", r"d-nummer"),
    ),
    IdForm(
        _in_aadhaar,
        (),
        ("9999 9999 9999", "999999999999", "9999-9999-9999"),
        ("aadhaar", "aadhar", "adhaar", "uidai", "uid", "आधार"),
    ),
    IdForm(_in_pan, (), ("AAAAA9999A",), ("pan", "permanent account", "income tax", "पैन"), False),
    IdForm(_br_cpf, ("999.999.999-99",), ("99999999999", "999999999-99"), ("cpf",)),
    IdForm(_mx_curp, ("AAAA999999AAAAAA99", "AAAA999999AAAAAAA9")),
    IdForm(
        _cl_rut,
        ("99.999.999-9", "99.999.999-A", "9.999.999-9", "9.999.999-A"),
        ("99999999-9", "99999999-A", "9999999-9", "9999999-A"),
        ("rut", "run"),
    ),
    IdForm(_ar_cuil, ("99-99999999-9",), ("99999999999",), ("cuil", "cuit")),
    IdForm(
        _ca_sin,
        (),
        ("999-999-999", "999 999 999", "999999999"),
        ("sin", "social insurance", "nas", "assurance sociale"),
    ),
    IdForm(
        _za_id,
        (),
        ("9999999999999", "999999 9999 999", "999999 9999 99 9"),
        ("identity", "sa id", "rsa id", "said"),
    ),
    IdForm(_cn_id, ("999999999999999999", "99999999999999999A")),
    IdForm(
        _kr_rrn,
        ("999999-9999999",),
        ("9999999999999",),
        ("주민등록번호", "주민번호", "rrn", "resident registration"),
    ),
    IdForm(
        _jp_my_number,
        (),
        ("9999 9999 9999", "999999999999", "9999-9999-9999"),
        ("マイナンバー", "個人番号", r"my ?number", "individual number"),
    ),
    IdForm(
        _tr_tckn,
        (),
        ("99999999999",),
        (r"t[.]?c[.]?", "tckn", "kimlik", r"tc kimlik", "vatandaşlık"),
    ),
    IdForm(_au_tfn, (), ("999 999 999", "999999999"), ("tfn", "tax file")),
    IdForm(_sg_nric, (), ("A9999999A",), ("nric", "fin", "ic no", "ic")),
    IdForm(_ie_pps, (), ("9999999A", "9999999AA", "9999999 A"), ("pps", "ppsn", r"pps-?\w+")),
)
