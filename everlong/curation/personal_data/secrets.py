"""Keys and tokens with which programs log in.

Most issuers give theirs a beginning by which leaks are found; their formats are those in the
issuers' manuals. Others are long random strings behind a name such as ``api_key``: what is random
is told by how evenly it uses its characters (Shannon's entropy), and by not being words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from everlong.curation.personal_data.numbers import Span

_ISSUED: dict[str, tuple[tuple[str, int, str], ...]] = {
    # By the last character of the beginning, which is looked for first: the beginning, how long it
    # is, and what follows.
    "_": (
        (r"gh[pousr]_", 4, r"[A-Za-z0-9]{36,251}"),  # GitHub
        (r"github_pat_", 11, r"[A-Za-z0-9_]{36,251}"),
        (r"[srp]k_live_", 8, r"[A-Za-z0-9]{16,128}"),  # Stripe
        (r"[srp]k_test_", 8, r"[A-Za-z0-9]{16,128}"),
        (r"whsec_", 6, r"[A-Za-z0-9]{16,128}"),
        (r"hf_", 3, r"[A-Za-z0-9]{34,64}"),  # Hugging Face
        (r"npm_", 4, r"[A-Za-z0-9]{36}"),
        (r"dop_v1_", 7, r"[a-f0-9]{64}"),  # DigitalOcean
    ),
    "-": (
        (r"glpat-", 6, r"[A-Za-z0-9_\-]{20,64}"),  # GitLab
        (r"xox[abeoprs]-", 5, r"[A-Za-z0-9\-]{10,250}"),  # Slack
        (r"xapp-", 5, r"[A-Za-z0-9\-]{10,250}"),
        (r"GOCSPX-", 7, r"[A-Za-z0-9_\-]{28}"),  # Google
        (r"sk-", 3, r"(?:[A-Za-z0-9]{1,10}-){0,3}[A-Za-z0-9_\-]{32,200}"),  # model providers
        (r"pypi-", 5, r"AgE[A-Za-z0-9_\-]{50,250}"),
    ),
    ".": (
        (r"ya29\.", 5, r"[A-Za-z0-9_\-]{20,512}"),  # Google
        (r"SG\.", 3, r"[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}"),  # SendGrid
    ),
    "A": (
        (r"A", 1, r"(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}"),  # AWS
        (r"A", 1, r"Iza[A-Za-z0-9_\-]{35}"),  # Google
    ),
    "J": (
        # A JSON web token: header, claims and signature (RFC 7519).
        (
            r"eyJ",
            3,
            r"[A-Za-z0-9_\-]{10,4096}+\.eyJ[A-Za-z0-9_\-]{10,8192}+\.[A-Za-z0-9_\-]{16,2048}+",
        ),
    ),
    ":": ((r":", 0, r"(?<=[0-9]{8}:)AA[A-Za-z0-9_\-]{33}"),),  # Telegram
}


_IN_A_TOKEN = r"[A-Za-z0-9_\-]"


def _any_of(last: str, issued: tuple[tuple[str, int, str], ...]) -> re.Pattern[str]:
    """Matches the last character of a beginning and what follows, each in a group of its own."""
    each = (
        rf"(?<={start})(?<!{_IN_A_TOKEN}{start})({rest})(?![A-Za-z0-9_])"
        for start, _, rest in issued
    )
    return re.compile(f"{re.escape(last)}(?:{'|'.join(each)})")


_PATTERNS = tuple(
    (_any_of(last, issued), tuple(length for _, length, _ in issued))
    for last, issued in _ISSUED.items()
)
_WEBHOOK = re.compile(
    r"(?<=hooks\.slack\.com/services/)[A-Z0-9]{8,14}/[A-Z0-9]{8,14}/[A-Za-z0-9]{20,32}"
)

_KEY_BEGIN = "-----BEGIN "
_KEY_HEADER = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_KEY = 16_384
_BETWEEN_LINES = r"(?:[\s>\"'+,;#*|/]|\\[nr]){1,40}+"
"""Also where a message is quoted, and as programs and comments have it."""
_KEY_LINES = re.compile(
    rf"(?:{_BETWEEN_LINES}(?:Proc-Type|DEK-Info|Version|Comment|Charset): [^\n\\]{{0,200}}+)*+"
    rf"(?:{_BETWEEN_LINES}[A-Za-z0-9+/]{{40,}}+={{0,2}}+)++"
    # The last line is short, and no word.
    rf"(?:{_BETWEEN_LINES}(?=[A-Za-z]*+[0-9+/=])[A-Za-z0-9+/]++={{0,2}}+(?=[\s\"'\\,;]|$))?+"
)
"""Of a key whose end is not there: attributes, and base64 in lines of 64 signs or more."""

_VALUE = r"([A-Za-z0-9+/_\-.=~]{16,512}+)"
_ASSIGNED = tuple(
    # One after the other: a pattern that begins with one letter is looked for much faster.
    re.compile(rf"{sign}[\"'`]?[ \t]?[\"'`]?{_VALUE}")
    for sign in ("=>?", ":=?", ">")
)
_NAMED = re.compile(
    r"(?:(?:api|access|auth|secret|private|account|encryption|signing|master|app|service|shared"
    r"|storage|deploy|session|subscription)[ _\-.]?key"
    r"|token|secret|passwo?r?d|passwd|pwd|passphrase|credentials?)"
    r"(?:[ _\-.]?(?:key|base|id|value|base64|hex|prod|dev|test|live|[0-9]))*"
    r"(?:[\"'] +(?:value|content))?[\"'`\])]{0,2}[ \t]{0,4}$",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"--(?:[a-z]{{1,20}}-){{0,3}}(?:key|token|secret|password)[ =]{_VALUE}")
_SCHEMES = {
    # Of the header Authorization, and of files with logins for machines (netrc).
    scheme: re.compile(rf"{scheme}([A-Za-z0-9+/_\-.=~]{{20,2048}}+)")
    for scheme in ("Bearer ", "Basic ", "oken ", "password ")
}
_LOGIN = re.compile(r"://([^\s:@/\"'<>{}\[\]]{1,64}+):([^\s@/\"'<>{}\[\]]{3,128}+)@")
_NO_SECRET = re.compile(
    r"example|placeholder|change[_-]?me|your|x{4}|redacted|dummy|insert|passwo?r?d|123456|abcdef"
    r"|secret|\.\.\.|\*\*\*|^pass$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]{4,}|[A-Z][a-z]{3,}")


def secrets(text: str) -> Iterator[Span]:
    """Private keys, tokens of known issuers, and random strings that are called a key."""
    for issued, lengths in _PATTERNS:
        for match in issued.finditer(text):
            assert match.lastindex is not None, "one of the groups matches"
            start = match.start() + 1 - lengths[match.lastindex - 1]
            value = text[start : match.end()]
            if "EXAMPLE" not in value and _entropy(value) > 2.5:
                yield start, match.end()
    if "hooks.slack.com" in text:
        yield from (match.span() for match in _WEBHOOK.finditer(text))
    if _KEY_BEGIN in text:
        yield from _private_keys(text)
    if "://" in text:
        for match in _LOGIN.finditer(text):
            if re.search("[0-9]", match[2]) and not _NO_SECRET.search(match[2]):
                yield match.span(2)
    for scheme, pattern in _SCHEMES.items():
        if scheme in text:
            for match in pattern.finditer(text):
                if _is_random(match[1]):
                    yield match.span(1)
    for match in _OPTION.finditer(text):
        if _is_random(match[1]):
            yield match.span(1)
    for pattern in _ASSIGNED:
        for match in pattern.finditer(text):
            named = _NAMED.search(text, max(0, match.start() - 40), match.start())
            if named is not None and _is_random(match[1].rstrip(".")):
                yield match.start(1), match.start(1) + len(match[1].rstrip("."))


def _private_keys(text: str) -> Iterator[Span]:
    done = 0
    for match in _KEY_HEADER.finditer(text):
        if match.start() < done:
            continue
        there = match.end(), match.end() + _LONGEST_KEY
        end = _KEY_END.search(text, *there) or _KEY_LINES.match(text, *there)
        if end is not None:
            done = end.end()
            yield match.start(), done


def _entropy(value: str) -> float:
    """Bits per character."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


def _is_random(value: str) -> bool:
    """Whether a value is drawn at random: no path, no name, no version, no placeholder.

    A random string of sixteen characters or more has over three bits a character; and what has
    words in it is made by people.
    """
    if _NO_SECRET.search(value) or not any(map(str.isdigit, value)):
        return False
    if not any(map(str.isalpha, value)) or _entropy(value) < 3.0:
        return False
    parts = re.split(r"[^A-Za-z0-9]+", value)
    spoken = sum(len(part) for part in parts if part.isalpha() and _is_word(part))
    humped = sum(len(word) for word in _WORD.findall(value) if _is_word(word))
    return spoken * 2 < len(value) and humped * 3 < len(value) * 2


def _is_word(letters: str) -> bool:
    """Whether letters in a row could be spoken: in one case, with vowels, and not only those."""
    vowels = sum(one in "aeiouyAEIOUY" for one in letters)
    one_case = letters[1:].islower() or letters.isupper()
    return len(letters) <= 16 and one_case and 0.2 <= vowels / len(letters) <= 0.7
