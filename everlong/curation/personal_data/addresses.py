"""Addresses on the internet: email (RFC 5322, RFC 6531 for letters beyond ASCII), IPv4 and IPv6.

Only what can be somebody's: not the names that RFC 2606 and RFC 6761 keep for examples and for the
local machine, nor the blocks of addresses that the registries of IANA list as private or for
documentation, nor the resolvers that every manual names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from everlong.curation.personal_data.numbers import Span, before, word_set, words

_LETTERS = r"A-Za-z\u00c0-\u024f\u0370-\u052f"
_NAME = "".join(
    map(chr, (*range(0xC0, 0x250), *range(0x370, 0x530), *range(0x61, 0x7B), *range(0x41, 0x5B)))
)
_LOCAL = f"{_NAME}0123456789._%+-'"
_LONGEST_LOCAL = 64
"""Characters before the @ (RFC 5321, 4.5.3.1.1)."""
_DOMAIN = re.compile(rf"@([{_LETTERS}0-9][{_LETTERS}0-9.\-]{{2,252}}+)")
_TOP_LEVEL = re.compile(rf"[{_LETTERS}]{{2,24}}|xn--[a-z0-9\-]{{1,59}}", re.IGNORECASE)

_FILES = word_set(
    "png jpg jpeg gif svg webp ico bmp pdf css scss html htm js jsx ts tsx mjs json xml yaml yml "
    "toml txt log csv tgz gz bz2 xz zip jar exe dll whl deb rpm dmg iso conf cfg ini lock tar eml"
)
_NO_TOP_LEVEL = _FILES | word_set(
    "service socket timer mount target example invalid localhost local test lan internal "
    "localdomain onion npm dtype shape"
)
"""Endings of files, units of systemd, and names that lead nowhere on the internet."""
_COMMON_TOP_LEVELS = word_set(
    "com org net edu gov info io de uk fr es it nl eu in ru br pl ch at be se no dk fi jp au "
    "ca us me dev app ac co"
)
"""Of most addresses; what ends with another may as well be something else."""
_EXAMPLES = frozenset({"example.com", "example.org", "example.net", "example.edu"})
_ACCOUNTS = frozenset({"git", "hg", "svn"})
"""With these, all users of a server log in."""


def emails(text: str, spelt_out: bool) -> Iterator[Span]:
    """Email addresses.

    Args:
        text: where.
        spelt_out: find ``name at host dot com`` and ``name[at]host.com`` as well.
    """
    for match in _DOMAIN.finditer(text):
        length = _domain(match[1])
        start = _local(text, match.start()) if length else match.start()
        end = match.start(1) + length
        if start < match.start() and _is_mail(text, start, match.start(), end):
            yield start, end
    if spelt_out:
        yield from _spelt_out(text)


def _domain(candidate: str) -> int:
    """Length of the domain with which a candidate begins; 0: with none."""
    labels: list[str] = []
    for label in candidate.split("."):
        if not label or label[0] == "-" or label[-1] == "-" or len(label) > 63:
            break
        labels.append(label)
    if len(labels) > 2 and labels[-1][0].isupper() and labels[-2].islower():
        labels.pop()  # "com.The": the space behind a full stop was forgotten
    endings = len(labels)
    while len(labels) > 2 and labels[-1].lower() in _FILES:
        labels.pop()  # "jane@corp.org.txt": a file that is called by whom it is from
    if len(labels) < endings and labels[-1].lower() not in _COMMON_TOP_LEVELS:
        return 0
    if len(labels) < 2 or _TOP_LEVEL.fullmatch(labels[-1]) is None:
        return 0
    top = labels[-1].lower()
    if top in _NO_TOP_LEVEL or f"{labels[-2].lower()}.{top}" in _EXAMPLES:
        return 0
    mixed = labels[-1] not in (top, top.upper(), top.capitalize())
    return 0 if mixed else len(".".join(labels))


def _local(text: str, at: int) -> int:
    """Where the part before an @ begins; at the @: there is none."""
    head = text[max(0, at - _LONGEST_LOCAL - 4) : at]
    local = head[len(head.rstrip(_LOCAL)) :]
    if len(local) > _LONGEST_LOCAL + 3:
        return at
    local = local[local.rfind("..") + 2 if ".." in local else 0 :].lstrip(".-+'")
    right = 0 < len(local) <= _LONGEST_LOCAL and local[0] != "%" and local[-1] not in ".-+"
    return at - len(local) if right else at


_LOGIN = re.compile(r"[a-z0-9+]://[^\s/@]*$", re.IGNORECASE)


def _is_mail(text: str, start: int, at: int, end: int) -> bool:
    """Whether it is not ``@name@server``, ``$name@host``, or the login in an address of a page."""
    if start and text[start - 1] in "@$":
        return False
    if text[start:at].lower() in _ACCOUNTS:
        return False
    following = text[end : end + 1]
    if following == "@" or (following == "(" and end - text.rfind(".", at, end) > 5):
        return False  # the second is a matrix product: A@B.transpose()
    return start < 3 or text[start - 1] not in "/:" or not _LOGIN.search(text, start - 80, start)


_MARKS = tuple(
    # One after the other: a pattern that begins with one letter is looked for much faster.
    re.compile(rf"{opening} ?(?:at|AT|@|arroba|ät|dot|DOT) ?[\])}}>]")
    for opening in (r"\(", r"\[", r"\{", "<")
)
_AT = re.compile(
    r"[ _]?[\[({<] ?(?:at|AT|@|arroba|ät) ?[\])}>][ _]?| (?:at|AT|At) ",
)
_DOT = (
    r"(?: ?[\[({<] ?(?:dot|DOT|punkt|punto|point|ponto|\.) ?[\])}>] ?"
    r"| (?:dot|DOT|Dot) |\.)"
)
_SPELT_DOMAIN = re.compile(rf"([A-Za-z0-9\-]{{1,63}}+)((?:{_DOT}[A-Za-z0-9\-]{{1,63}}+){{1,4}}+)")
_ONE_DOT = re.compile(_DOT)
_SPELT_LOCAL = re.compile(
    r"(?<![\w.+\-])(?:[A-Za-z0-9_.+\-]{1,32}(?: ?[\[({] ?(?:dot|DOT) ?[\])}] ?| (?:dot|DOT) )){0,3}"
    r"[A-Za-z0-9.+\-](?:[A-Za-z0-9_.+\-]{0,62}[A-Za-z0-9])?$"
)
_AROUND = 80
"""Characters between the beginning of such an address and its ``at``, or its first ``dot``."""
_ABOUT_MAIL = words(
    *("e-?mails?", "mail", "mailto", "contact", "write", "reach", "address", "gmail", "inbox"),
    *("correo", "courriel", "kontakt", "adresse", "contacto", "contatto", "schreib", "an"),
)


def _spelt_out(text: str) -> Iterator[Span]:
    """Addresses that are written so that programs do not find them."""
    marks = [match.start() for mark in _MARKS for match in mark.finditer(text)]
    for mark in (" dot ", " DOT "):
        if mark in text:
            marks += (match.start() for match in re.finditer(mark, text))
    done = 0
    for place in sorted(marks):
        for at in _AT.finditer(text, max(done, place - _AROUND), place + 10):
            span = _spelt_around(text, at)
            if span is not None:
                yield span
        done = max(done, place + 1)


def _spelt_around(text: str, at: re.Match[str]) -> Span | None:
    """The address around an ``at``."""
    domain = _SPELT_DOMAIN.match(text, at.end())
    if domain is None:
        return None
    labels = [domain[1], *_ONE_DOT.split(domain[2])[1:]]
    if not _TOP_LEVEL.fullmatch(labels[-1]) or labels[-1].lower() in _NO_TOP_LEVEL:
        return None
    plain = at[0].strip() in ("at", "AT", "At")
    if ".".join(labels[-2:]).lower() in _EXAMPLES or (plain and "." in domain[2]):
        return None  # "look at acme.com" is no address
    window = max(0, at.start() - _AROUND)
    local = _SPELT_LOCAL.search(text[window : at.start()])
    if local is None:
        return None
    start = window + local.start()
    shouted = at[0].strip() == "AT"
    if plain and not shouted and not _is_spoken(text, start, local[0], labels[-1]):
        return None
    return start, domain.end()


def _is_spoken(text: str, start: int, local: str, top: str) -> bool:
    """Whether words around ``at`` are an address, and not ``a job at google dot com``."""
    if top.lower() not in _COMMON_TOP_LEVELS:
        return False
    return bool(
        re.search(r"[0-9._+\-]| dot ", local) or _ABOUT_MAIL.search(before(text, start, 40))
    )


_IPV4 = re.compile(r"\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9A-Za-z_])")
_IPV6 = re.compile(r":[0-9A-Fa-f]{0,4}:")
_HEXADECIMAL = "0123456789abcdefABCDEF:"
_WELL_KNOWN = word_set(
    "8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 1.1.1.2 1.1.1.3 9.9.9.9 149.112.112.112 208.67.222.222 "
    "208.67.220.220 4.2.2.1 4.2.2.2 1.2.3.4 "
    "2001:4860:4860::8888 2001:4860:4860::8844 2606:4700:4700::1111 2606:4700:4700::1001 "
    "2620:fe::fe"
)
"""Resolvers for everybody, and the address that stands for any in manuals."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out (RFC 4291, 2.4); ``a::b`` is a name in many programming languages."""
_DOCUMENTATION = (ipaddress.IPv6Network("2001:db8::/32"), ipaddress.IPv6Network("3fff::/20"))
_ABOUT_IP = words(
    *("ip", "ips", "ipv4", "ipv6", "address", "addresses", "addr", "host", "hosts", "server"),
    *("servers", "client", "ping", "dns", "peer", "connect", "connected", "connection"),
    *("gateway", "login", "adresse", "dirección", "indirizzo", "endereço", "remote_addr", "ssh"),
    *("nameserver", "banned", "router", "listen", "forwarded"),
)
_VERSIONED = re.compile(
    r"(?<![a-z])(?:(?:v|ver|versions?|versión|versione|releases?|build|revision|firmware|driver|patch"
    r"|oid|section|chapter|clause|abschnitt|kapitel|sección)[ .:=#\"'(]{0,4}$"
    r"|(?:updat|upgrad|downgrad|install|bump)[a-z]* )"
)
_PINNED = re.compile(
    r"(?:==|[<>~^]=?|[a-z][\-/_]|§|(?<![a-z])(?:chrome|chromium|edge|opera|firefox|safari|explorer"
    r"|windows|flash|player|reader|acrobat|itunes|skype|quicktime|java|outlook|office|teams|zoom"
    r"|agent|android|kernel)) ?$"
)
"""What stands right before a version: in lists of what has to be installed, in names of files, and
programs whose versions have four parts."""


def ip_addresses(text: str) -> Iterator[Span]:
    """Public IPv4 and IPv6 addresses."""
    for match in _IPV4.finditer(text):
        head = text[max(0, match.start() - 3) : match.start()]
        first = head[len(head.rstrip("0123456789")) :]
        start, end = match.start() - len(first), match.end()
        if first and _is_public_v4(text, start, end):
            yield start, end
    done = 0
    for match in _IPV6.finditer(text):
        if match.start() < done:
            continue
        head = text[max(0, match.start() - 39) : match.start()]
        start = match.start() - len(head) + len(head.rstrip(_HEXADECIMAL))
        tail = text[match.end() : match.end() + 40]
        done = match.end() + len(tail) - len(tail.lstrip(_HEXADECIMAL))
        end = done - (text[done - 1] == ":" and text[done - 2] != ":")
        if end - start <= 39 and _is_public_v6(text, start, end):
            yield start, end


def _is_public_v4(text: str, start: int, end: int) -> bool:
    if start and (text[start - 1].isalnum() or text[start - 1] in "._"):
        return False
    if text[end : end + 1] in (".", "-") and text[end + 1 : end + 2].isalnum():
        return False  # a longer version, a name such as 1.2.3.4.example.org, or a range
    written = text[start:end]
    try:
        address = ipaddress.IPv4Address(written)
    except ValueError:  # a number over 255, or with a leading zero
        return False
    if not address.is_global or address.is_multicast or written in _WELL_KNOWN:
        return False
    if written.endswith(".0.0") or (written.endswith(".0") and text[end : end + 1] == "/"):
        return False  # a network
    head = before(text, start, 40)
    if head.endswith("://"):
        return True
    if _PINNED.search(head) or (_VERSIONED.search(head) and not _ABOUT_IP.search(head)):
        return False
    numbers = [int(one) for one in written.split(".")]
    if numbers[0] < 32 and (max(numbers) < 32 or 0 in numbers[1:3]):
        # Versions and numbers of sections look like this, addresses seldom.
        return bool(_ABOUT_IP.search(head)) or text[end : end + 1] == ":"
    return True


def _is_public_v6(text: str, start: int, end: int) -> bool:
    if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return False
    if text[end : end + 1].isalnum() or text[end : end + 1] == "_":
        return False
    written = text[start:end]
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return False
    if address not in _GLOBAL_UNICAST or any(address in block for block in _DOCUMENTATION):
        return False
    if text[end : end + 1] == "/" and written.endswith("::"):
        return False  # a network
    return address.is_global and written.lower() not in _WELL_KNOWN
