"""Numbers of payment cards and of bank accounts.

Sources: ISO/IEC 7812-1 (what a card's number is, and its check digit) with the ranges that issuers
publish; ISO 13616-1 and SWIFT's registry of IBANs (which lengths there are).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from everlong.curation.personal_data.checksums import luhn, mod_97_10
from everlong.curation.personal_data.numbers import (
    Span,
    after,
    before,
    digits_of,
    stands_alone,
    words,
)

_ISSUERS: tuple[tuple[range, int, frozenset[int]], ...] = (
    # Prefixes, how many digits they have, and how long the numbers are.
    (range(4, 5), 1, frozenset({13, 16, 19})),  # Visa
    (range(51, 56), 2, frozenset({16})),  # Mastercard
    (range(2221, 2721), 4, frozenset({16})),
    (range(34, 35), 2, frozenset({15})),  # American Express
    (range(37, 38), 2, frozenset({15})),
    (range(6011, 6012), 4, frozenset({16, 19})),  # Discover
    (range(644, 660), 3, frozenset({16, 19})),
    (range(300, 306), 3, frozenset({14, 16})),  # Diners Club
    (range(36, 37), 2, frozenset({14})),
    (range(38, 40), 2, frozenset({14, 16})),
    (range(3528, 3590), 4, frozenset({16, 19})),  # JCB
    (range(62, 63), 2, frozenset({16, 17, 18, 19})),  # UnionPay
    (range(81, 83), 2, frozenset({16, 19})),
    (range(2200, 2205), 4, frozenset({16, 19})),  # Mir
    (range(60, 61), 2, frozenset({16})),  # RuPay, Hipercard
    (range(508, 509), 3, frozenset({16})),
    (range(50, 51), 2, frozenset({16, 18, 19})),  # Maestro
    (range(56, 59), 2, frozenset({16, 18, 19})),
    (range(63, 64), 2, frozenset({16, 18, 19})),
    (range(67, 68), 2, frozenset({16, 18, 19})),
)
_CARD = re.compile(
    r"[0-9]{13,19}+"
    r"|[0-9]{4}([ \-\u00a0.])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(\1[0-9]{3})?(?![0-9])"
    r"|[0-9]{4}([ \-\u00a0.])[0-9]{6}\3[0-9]{4,5}(?![0-9])"
)
_ABOUT_CARDS = words(
    *("card", "cards", "credit", "debit", "visa", "mastercard", "amex", "american express"),
    *("discover", "diners", "jcb", "unionpay", "maestro", "pan", "cc", "payment", "pay", "paid"),
    *("charge", "charged", "cb"),
    *("kreditkarte", "kreditkartennummer", "karte", "kartennummer", "carte", "tarjeta", "carta"),
    *("cartão", "creditcard", "kaart", "karta", "karty", "kort", "cvv", "cvc", "expiry", "exp"),
    *("cardnumber", "ccnum", "card_number", "银行卡", "信用卡", "カード"),
)
_ABOUT_OTHERS = words(
    *("order", "orders", "tracking", "invoice", "ticket", "shipment", "reference", "ref", "serial"),
    *("imei", "isbn", "ean", "gtin", "upc", "barcode", "transaction", "parcel", "booking", "case"),
    *(
        "purchase",
        "timestamp",
        "id",
        "ids",
        "uuid",
        "bestellung",
        "bestellnummer",
        "rechnung",
        "pedido",
    ),
    *("commande", "ordine", "seriennummer", "sendungsnummer", "facture", "factura"),
    *("kundennummer", "account", "artikelnummer", "vorgangsnummer"),
)


_EXPIRY = re.compile(r"\W{1,3}(?:0[1-9]|1[0-2])/(?:20)?[2-4][0-9](?![0-9/])")


def cards(text: str, runs: Sequence[Span]) -> Iterator[Span]:
    """Numbers of payment cards, of the lengths that their issuers use, with a right check digit.

    One in a hundred numbers of sixteen digits is like that by chance. So where there are no groups
    of digits, a word such as ``order`` before it rules a card out; and lengths that are rare
    today have to be called a card.

    Args:
        text: where.
        runs: of digits, in the text.
    """
    for first, last in runs:
        if last - first < 13:
            continue
        for match in _CARD.finditer(text, first, last):
            start, end = match.span()
            if match[2] and not _is_right(text[start:end]):
                end -= 4  # the last group is not of the number, but the code on the back
            number = text[start:end]
            if not _is_right(number) or not stands_alone(text, start, end):
                continue
            grouped = not number.isdigit()
            if grouped and _goes_on(text, start, end):
                continue
            if _is_called_a_card(text, start, end, len(digits_of(number)), grouped):
                yield start, end


def _is_right(number: str) -> bool:
    digits = digits_of(number)
    return _is_issued(digits) and luhn(digits)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether groups of four are part of more groups, as in an account number."""
    return bool(
        re.search(r"(?:[0-9]{4}|[A-Z]{2}[0-9]{2})[ \-]$", text[max(0, start - 5) : start])
        or re.match(r"[ \-][0-9]{4}", text[end : end + 5])
    )


def _is_issued(number: str) -> bool:
    return any(
        len(number) in lengths and int(number[:digits]) in prefixes
        for prefixes, digits, lengths in _ISSUERS
    )


def _is_called_a_card(text: str, start: int, end: int, length: int, grouped: bool) -> bool:
    if grouped and length in (15, 16):
        return True
    tail = after(text, end, 30)
    if _ABOUT_CARDS.search(tail) or _EXPIRY.match(tail):
        return True
    head = before(text, start, 60)
    card = max((found.end() for found in _ABOUT_CARDS.finditer(head)), default=-1)
    other = max((found.end() for found in _ABOUT_OTHERS.finditer(head)), default=-1)
    return card > other or (other < 0 and (grouped or length in (15, 16)))


_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FO", "GL", "FI", "NL", "FK", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK"), 20),
    **dict.fromkeys(("HR", "LV", "LI", "CH"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "OM", "SO", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("PT", "ST", "LY"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "MR", "SM", "BI", "DJ"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HN", "HU", "LB", "PL", "NI", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU", "YE"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    **dict.fromkeys(("LC",), 32),
    **dict.fromkeys(("RU",), 33),
}
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?:[ \-\u00a0]?[A-Z0-9]){11,30}+", re.IGNORECASE)
_SMALL = re.compile(r"(?<![A-Za-z0-9])[a-z]{2}(?:[0-9]{2}[ ]?[a-z]{1,4}[ ]?)?$")
"""The beginning of an account number in small letters, up to its first seven digits."""


def ibans(text: str, runs: Sequence[Span], lettered: Sequence[int]) -> Iterator[Span]:
    """International bank account numbers, of their country's length, with right check digits.

    Args:
        text: where.
        runs: of digits, in the text.
        lettered: places of capital letters before two digits.
    """
    for place in lettered:
        if place and (end := _iban(text, place - 1)) is not None:
            yield place - 1, end
    for first, _ in runs:
        small = _SMALL.search(text, max(0, first - 10), first)
        if small is not None and (end := _iban(text, small.start())) is not None:
            yield small.start(), end


def _iban(text: str, start: int) -> int | None:
    """Where an account number ends that begins at a place."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None or (start and text[start - 1].isalnum()):
        return None
    match = _IBAN.match(text, start)
    if match is None:
        return None
    end = _after_characters(text, start, match.end(), length)
    written = re.sub(r"[ \-\u00a0]", "", text[start:end]).upper()
    if len(written) != length or text[end : end + 1].isalnum():
        return None
    return end if mod_97_10(written[4:] + written[:4]) else None


def _after_characters(text: str, start: int, end: int, length: int) -> int:
    """Where a number ends that has so many characters, separators aside."""
    for place in range(start, end):
        length -= text[place] not in " -\u00a0"
        if not length:
            return place + 1
    return end
