"""Web pages: their content, and what they say of title, address, language and licence."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from everlong.documents.decoding import decode_page
from everlong.documents.extracted import Extracted, Limits, Plain, clean, language_code
from everlong.documents.licences import licence_of_link
from everlong.documents.main_content import main_content
from everlong.documents.xml import check_depth, root_of
from everlong.errors import DataError

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

_TITLE_LETTERS = 1000


def read_html(
    data: bytes, limits: Limits, charset: str | None = None, url: str | None = None
) -> Extracted:
    """The content of a page as Markdown.

    Args:
        data: the page.
        limits: of its size and depth.
        charset: that its server declares.
        url: where it is from; None: as it says itself.

    Raises:
        DataError: it is too large or too deep, or has no content.
    """
    if len(data) > limits.page_bytes:
        raise DataError(f"a page of {len(data):,} bytes; page_bytes allows {limits.page_bytes:,}")
    root = _parsed(clean(decode_page(data, charset)[0]))
    check_depth(root, "a page that", limits)  # at 256, libxml2 has left out the rest in silence
    body = next(root.iterchildren("body", "frameset"), None)
    if body is None:
        raise DataError("a page without a body")
    said = _Said(root, url)
    content = clean(main_content(body))
    limits.check_letters(len(content))
    if not content:
        raise DataError("a page without content")
    return Extracted("", content, said.title, said.language, said.licence, said.metadata)


def _parsed(text: str) -> etree._Element:
    options = {"encoding": "utf-8", "collect_ids": False, "huge_tree": False}
    data = text.encode("utf-8", "replace")
    root = root_of(data, "html", "not a page that can be read", **options)
    if root is None:
        raise DataError("an empty page")
    return root


class _Said:
    """What a page says of itself. To be read before its content, which takes it apart."""

    def __init__(self, root: etree._Element, url: str | None) -> None:
        self._meta: dict[str, str] = {}
        for element in root.iter("meta"):
            name = element.get("property") or element.get("name")
            if name and (content := element.get("content")):
                self._meta.setdefault(name.lower(), content)
        links = list(root.iter("link", "a"))
        self.title = self._title(root)
        self.language = language_code(
            root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang")
        ) or language_code(self._meta.get("og:locale"))
        told: dict[str, Plain] = {"url": url or self._address(links)}
        # What links to a licence without being marked so may tell of a picture only.
        marked = [element.get("href") or "" for element in links if _is(element, "license")]
        self.licence = next(filter(None, map(licence_of_link, marked)), None)
        told["licence_url"] = marked[0] if marked else None
        told["author"] = self._meta.get("author")
        told["published"] = self._meta.get("article:published_time")
        self.metadata = {
            name: clean(value)[:_TITLE_LETTERS]
            for name, value in told.items()
            if isinstance(value, str) and value
        }

    def _title(self, root: etree._Element) -> str | None:
        for said in (self._meta.get("og:title"), root.findtext("head/title")):
            if said and (title := " ".join(clean(said).split())):
                return title[:_TITLE_LETTERS]
        return None

    def _address(self, links: list[etree._Element]) -> str | None:
        for element in links:
            if _is(element, "canonical"):
                return urljoin(self._meta.get("og:url", ""), element.get("href") or "") or None
        return self._meta.get("og:url")


def _is(link: etree._Element, relation: str) -> bool:
    return relation in (link.get("rel") or "").lower().split()
