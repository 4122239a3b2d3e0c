"""Web pages: their content, what they say of themselves, and pages that were made to do harm."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.extracted import Extracted, Limits
from everlong.documents.html import read_html
from everlong.errors import DataError

pytest.importorskip("lxml")
LIMITS = Limits()
PARAGRAPH = "A paragraph of the article that has some words in it, and says what it is about. "


def read(body: str, head: str = "", limits: Limits = LIMITS) -> Extracted:
    return read_html(f"<html><head>{head}</head><body>{body}</body></html>".encode(), limits)


PAGE = f"""
<div id="header"><a href="/">Home</a> <a href="/a">Section A</a></div>
<div class="nav-menu"><ul><li><a href="/1">One thing</a></li><li>Menu words</li></ul></div>
<div class="page">
 <div class="article-body">
  <h1>The head</h1>
  <p>{PARAGRAPH}<a href="/x">Linked words</a> are part of it.</p>
  <p>{PARAGRAPH}</p>
  <div class="ad-box">Buy this now</div>
  <ul><li>First point</li><li>Second point</li></ul>
  <blockquote>{PARAGRAPH}</blockquote>
  <script>var no = 1;</script>
  <ul><li><a href="/2">Another article</a></li><li><a href="/3">A third article</a></li></ul>
 </div>
 <div class="related"><p>{PARAGRAPH.replace("article", "teaser")}</p></div>
</div>
<div style="display: none">Not seen</div>
<div id="comments"><p>{PARAGRAPH.replace("article", "comment")}</p></div>
<footer>Terms of use</footer>
"""


def test_content_is_kept_and_what_is_around_it_goes() -> None:
    assert read(PAGE).text == (
        f"# The head\n\n{PARAGRAPH}Linked words are part of it.\n\n{PARAGRAPH.strip()}\n\n"
        f"- First point\n- Second point\n\n{PARAGRAPH.strip()}"
    )


def test_what_is_most_of_a_page_stays_whatever_it_is_called() -> None:
    found = read(f'<div class="sidebar"><p>{PARAGRAPH}</p><p>{PARAGRAPH}</p></div><p>short</p>')
    assert found.text.count("A paragraph") == 2


def test_lines_and_code_stay_apart() -> None:
    body = f"<p>{PARAGRAPH}<br>one<br/>two</p><pre><span>def</span> f():\n    pass\n</pre>"
    assert read(body).text == f"{PARAGRAPH.strip()}\none\ntwo\n\n```\ndef f():\n    pass\n```"


def test_short_pages_are_pages_too() -> None:
    assert read("hi <b>there</b>").text == "hi there"
    assert read_html(b"only text", LIMITS).text == "only text"


def test_what_a_page_says_of_itself() -> None:
    head = (
        "<meta property=og:title content=' A  title '><title>Other</title>"
        "<meta name=author content=Ann><link rel=canonical href='http://a.example/1'>"
        "<meta property=article:published_time content=2026-01-02>"
    )
    body = (
        f"<p>{PARAGRAPH}</p><a href='https://creativecommons.org/licenses/by/2.0/'>no</a>"
        "<a rel='nofollow license' href='https://creativecommons.org/licenses/by-nc-sa/4.0/'>x</a>"
    )
    found = read(body, head)
    assert (found.title, found.licence) == ("A title", "CC-BY-NC-SA-4.0")
    assert found.metadata == {
        "url": "http://a.example/1",
        "author": "Ann",
        "published": "2026-01-02",
        "licence_url": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    }
    assert read(f"<p>{PARAGRAPH}", "<title>Only\nthis</title>").title == "Only this"
    assert (
        read(f"<a href=https://creativecommons.org/licenses/by/4.0/>x</a>{PARAGRAPH}").licence
        is None
    )
    page = f"<html lang='zh-Hant'><body><p>{PARAGRAPH}"
    assert read_html(page.encode(), LIMITS).language == "zh"
    assert (
        read_html(page.encode(), LIMITS, url="http://b.example").metadata["url"]
        == "http://b.example"
    )


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b"", "empty page|without"),
        (b"<html><body><script>x</script></body></html>", "without content"),
        (b"<html><head><title>x</title></head></html>", "without"),
        (b"<div>" * 100_000 + b"text", "nested more than 200 deep"),
        (b"<font>a" * 300, "nested more than 200 deep"),
        (b"x" * 5_000_000, "page_bytes allows 4,194,304"),
        (b"\0" * 100, "empty page|without"),
    ],
)
def test_what_has_no_content_is_refused(page: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_html(page, LIMITS)


@pytest.mark.parametrize(
    "page",
    [
        "<p>a<a>b" * 100_000,
        "<li class=ad>x</li>y" * 50_000,
        "<table><tr><td>" * 60 + "x" * 1000,
        "<table>" + "<tr>" + "<td>x</td>" * 40_000,
        "<ul><li>" * 90 + "words " * 1000,
        "<br>" * 300_000,
        "&#x200b;" * 100_000,
        "<p " + "a=b " * 100_000 + ">x",
        "<!--" * 100_000,
        "<p class='" + "comment " * 100_000 + "'>x",
    ],
    ids=range(10),
)
def test_no_page_takes_long(page: str) -> None:
    started = time.process_time()
    with suppress(DataError):
        read(page)
    assert time.process_time() - started < 3


PIECES = (
    *("<p>", "</p>", "<div class=ad>", "</div>", "<table>", "<tr>", "<td>", "</table>", "<li>"),
    *("<ul>", "</ul>", "<a href=x>", "</a>", "<pre>", "</pre>", "<br>", "<h2>", "</h2>", "<"),
    *("<math alttext='x'>", "</math>", "words and words ", "&amp;", "\n", "]]>", "</body>"),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(PIECES),
        max_size=60,
    )
)
def test_any_page_gives_text_or_is_refused(pieces: list[str]) -> None:
    try:
        found = read("".join(pieces))
    except DataError:
        return
    assert found.text.strip("\n") == found.text != ""
    assert "\x0b" not in found.text
