from __future__ import annotations

import gzip
import json
import pickle
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.augmentation.made import MADE_FROM
from everlong.curation.document import Changed, Document, Dropped, Plain
from everlong.curation.personal_data.masking import (
    KINDS,
    REPLACEMENTS,
    Found,
    PersonalData,
    PersonalDataKind,
    find,
    mask,
    unmask,
)
from everlong.curation.personal_data.samples import samples
from everlong.errors import ConfigError
from tests.evaluation.public_data import public_data

pytest.importorskip("phonenumbers")

TEXT = (
    "Write to jane.doe@acme.co.uk or call +1 (212) 555-0123; once more: Jane.Doe@acme.co.uk. "
    "IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111, SSN 536-22-1234, from 81.2.69.142."
)


def found(text: str, kinds: Sequence[PersonalDataKind] = KINDS) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find(text, kinds)]


def test_each_kind_is_found() -> None:
    assert found(TEXT) == [
        ("email", "jane.doe@acme.co.uk"),
        ("phone", "+1 (212) 555-0123"),
        ("email", "Jane.Doe@acme.co.uk"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("card", "4111 1111 1111 1111"),
        ("national_id", "536-22-1234"),
        ("ip", "81.2.69.142"),
    ]
    for kind in KINDS:
        assert found(TEXT, (kind,)) == [one for one in found(TEXT) if one[0] == kind]


def test_the_longer_reading_is_right_and_then_the_one_that_says_more() -> None:
    # Twelve digits of the account could be a card's or a phone's.
    assert found("phone and IBAN: ES91 2100 0418 4502 0005 1332") == [
        ("iban", "ES91 2100 0418 4502 0005 1332")
    ]
    assert found("tel. or NHS number 943 476 5919") == [("national_id", "943 476 5919")]
    url = "postgres://app:k3V9xQ2m@db.acme.com/main"
    assert found(url) == [("secret", "k3V9xQ2m")]


def test_masks_with_placeholders_or_pseudonyms() -> None:
    text, _ = mask(TEXT, find(TEXT))
    assert text == (
        "Write to <EMAIL> or call <PHONE>; once more: <EMAIL>. "
        "IBAN <IBAN>, card <CARD>, SSN <NATIONAL_ID>, from <IP>."
    )
    again = "212-555-0123 is (212) 555-0123, and 415-555-0123 is not; a@acme.org, A@ACME.ORG"
    text, table = mask(again, find(again), "pseudonym")
    assert text == "<PHONE_1> is <PHONE_1>, and <PHONE_2> is not; <EMAIL_1>, <EMAIL_1>"
    assert unmask(text, table) == again


def test_what_is_masked_is_not_masked_again() -> None:
    texts = [TEXT, "Phone: 0171 2345678. Closed 24.12.-26.12.", "SSN 536221234, x 123456782"]
    for text in (*texts, *(sample.text for sample in samples(1500, 5))):
        for replacement in REPLACEMENTS:
            masked, _ = mask(text, find(text), replacement)
            assert found(masked) == [], text
    assert found("<PHONE>2125550123</PHONE>") == [("phone", "2125550123")]


@settings(max_examples=150)
@given(st.data())
def test_what_is_masked_can_be_put_back(data: st.DataObject) -> None:
    pieces = st.sampled_from(
        [
            "<EMAIL>",
            "<PHONE_1>",
            "a@acme.org",
            "212-555-0123",
            "é🔑",
            " ",
            "x",
            "<",
        ]
    )
    text = data.draw(st.lists(pieces | st.text(max_size=8), max_size=12).map("".join))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [
        Found(data.draw(st.sampled_from(KINDS)), start, end)
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    for marked in (spans, find(text)):
        for replacement in ("placeholder", "pseudonym"):
            masked, table = mask(text, marked, replacement)  # type: ignore[arg-type]
            assert unmask(masked, table) == text
            assert len(table.replaced) == len(marked)


_SHAPES = st.sampled_from(
    [
        "999-99-9999",
        "A9999999A",
        "AAAAA9999A",
        "999999A999A",
        "AA99 9999 9999",
        "9 99 99 9A 999",
        "+99 999",
        "999.99.9.99",
        "a@a.a",
        "(at)",
        " dot ",
        "9999:999::",
        "://a:9@",
        "eyJa.",
        "key=",
    ]
)


@settings(max_examples=300)
@given(
    st.lists(_SHAPES | st.text("0123456789AX@.-+: (/\u0663", max_size=9), max_size=9), st.randoms()
)
def test_findings_are_in_order_whatever_the_text(parts: list[str], draw: random.Random) -> None:
    letters = {"9": "0123456789", "A": "ABDMPSTXYZ", "a": "abe"}
    text = "".join(draw.choice(letters.get(one, one)) for one in "".join(parts))
    end = 0
    for one in find(text):
        assert end <= one.start < one.end <= len(text)
        end = one.end


@pytest.mark.parametrize(
    "part",
    [
        "a@",
        "0",
        "1 ",
        "12-34-",
        "-",
        "1.2.",
        " at a dot com",
        "x(at)y",
        "2001:",
        "eyJ",
        "eyJ-",
        "+1",
        "-----BEGIN PRIVATE KEY-----",
        "key=",
        "://a:",
        "123456789 ",
        "0123 456 ",
        "A1",
        "....@",
        "(212) 555-0123",
        "4111 1111 ",
        "://a:1@",
        "sk-a-",
        "1 11 11 2A 111 111 11",
        "%a@b.c",
    ],
)
def test_hostile_texts_take_time_that_grows_with_their_length(part: str) -> None:
    text = part * (150_000 // len(part))
    find(text[:1000])  # what is made once is made
    started = time.perf_counter()
    find(text)
    # A second for a million letters; what grows with the square would take hours.
    assert time.perf_counter() - started < 2


def marked_by_hand() -> list[dict[str, object]]:
    path = Path(__file__).with_name("marked.jsonl")
    head, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert {line["source"] for line in lines} <= head["sources"].keys()
    return lines


def test_real_texts_that_were_marked_by_hand() -> None:
    marked: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for line in marked_by_hand():
        spans = {tuple(span) for span in line["spans"]}  # type: ignore[attr-defined]
        mine = {(one.kind, one.start, one.end) for one in find(str(line["text"]))}
        marked.update(kind for kind, _, _ in spans)
        told.update(kind for kind, _, _ in mine)
        hit.update(kind for kind, _, _ in spans & mine)
    assert marked.total() > 200
    for kind in marked | told:
        assert hit[kind] >= 0.95 * marked[kind], f"{kind}: {hit[kind]} of {marked[kind]} found"
        assert hit[kind] >= 0.95 * told[kind], f"{kind}: {hit[kind]} of {told[kind]} right"


def test_ordinary_prose_has_none() -> None:
    folder = public_data()
    texts = [
        gzip.decompress(path.read_bytes()).decode() for path in sorted(folder.glob("books/d*"))
    ]
    texts.append((folder / "wikitext2" / "valid.txt").read_text(encoding="utf-8"))
    assert sum(map(len, texts)) > 2_000_000
    assert [one for text in texts for one in found(text)] == []


def test_the_step_masks_and_says_so() -> None:
    document = Document("a", TEXT, "web")
    assert PersonalData()(document) is None
    assert document.text == mask(TEXT, find(TEXT))[0]
    assert document.history == [
        Changed("personal_data", "iban", 1),
        Changed("personal_data", "card", 1),
        Changed("personal_data", "national_id", 1),
        Changed("personal_data", "ip", 1),
        Changed("personal_data", "email", 2),
        Changed("personal_data", "phone", 1),
    ]
    clean = Document("b", "Nothing in 1984 but 12 monkeys @ the zoo.", "web")
    assert PersonalData()(clean) is None
    assert clean.history == []


def test_metadata_is_masked_as_well() -> None:
    metadata: dict[str, Plain] = {
        "title": "Refund for jane.roe@corp-mail.org",
        "author": "jane.roe@corp-mail.org",
        "score": 0.5,
        MADE_FROM: "s/jane.roe@corp-mail.org.txt",
    }
    document = Document("a", "The harbour is old.", "web", metadata={**metadata})
    assert PersonalData()(document) is None
    assert document.metadata == {
        **metadata,
        "title": "Refund for <EMAIL>",
        "author": "<EMAIL>",
    }
    assert document.history == [Changed("personal_data", "email in metadata", 2)]


def test_licences_are_masked_as_well() -> None:
    document = Document("a", "The harbour is old.", "web", licence="ask jane.roe@corp-mail.org")
    assert PersonalData()(document) is None
    assert document.licence == "ask <EMAIL>"
    assert document.history == [Changed("personal_data", "email in metadata", 1)]
    for licence in (None, "CC-BY-SA-4.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"):
        plain = Document("a", "The harbour is old.", "web", licence=licence)
        assert PersonalData()(plain) is None
        assert (plain.licence, plain.history) == (licence, [])


def test_fields_of_the_step_matter() -> None:
    def after(step: PersonalData, text: str) -> str:
        document = Document("a", text, "web")
        assert step(document) is None
        return document.text

    text = "a@acme.org, bob (at) acme (dot) org, 0171 2345678"
    assert after(PersonalData(), text) == "<EMAIL>, <EMAIL>, <PHONE>"
    assert after(PersonalData(kinds=("email",)), text) == "<EMAIL>, <EMAIL>, 0171 2345678"
    assert after(PersonalData(spelt_out=False), text).startswith("<EMAIL>, bob (at)")
    assert after(PersonalData(regions=("US",)), text) == "<EMAIL>, <EMAIL>, 0171 2345678"
    assert after(PersonalData(replacement="pseudonym"), text) == "<EMAIL_1>, <EMAIL_2>, <PHONE_1>"
    assert after(PersonalData(most=3), text) == "<EMAIL>, <EMAIL>, <PHONE>"
    dropped = PersonalData(most=2)(Document("a", text, "web"))
    assert dropped == Dropped("personal_data", "3 findings, at most 2")


def test_settings_that_cannot_be_are_named() -> None:
    for kinds in (("mail",), (), ("email", "email")):
        with pytest.raises(ConfigError, match="some of secret, iban, card"):
            PersonalData(kinds=kinds)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="placeholder or pseudonym"):
        PersonalData(replacement="stars")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="two capital letters"):
        PersonalData(regions=("germany",))
    with pytest.raises(ConfigError, match="0 or more"):
        PersonalData(most=-1)
    with pytest.raises(ConfigError, match="regions has 'XX'; there are"):
        PersonalData(regions=("XX",))(Document("a", "tel. 030 1234567", "web"))


def test_the_step_crosses_processes_and_files() -> None:
    step = PersonalData(kinds=("email", "phone"), most=5)
    assert pickle.loads(pickle.dumps(step)) == step
    assert parse_config(PersonalData, format_config(step)) == step
