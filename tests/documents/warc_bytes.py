"""Web archives for tests, byte by byte."""

from __future__ import annotations

import gzip

PAGE = (
    "<html lang='en-GB'><head><title>Title {0}</title></head><body><nav><a href='/'>Home</a></nav>"
    "<div><p>The text of page {0} has some words, enough of them to be content of a page.</p>"
    "<p>A second paragraph says more of page {0}, so that nobody takes it for a menu.</p></div>"
    "</body></html>"
)


def response(body: bytes, *head: str, status: str = "200 OK") -> bytes:
    """What a server answers."""
    lines = [f"HTTP/1.1 {status}", *(head or ("Content-Type: text/html; charset=utf-8",))]
    return "\r\n".join([*lines, "", ""]).encode() + body


def page(number: int) -> bytes:
    """An answer with a page that has its number in its text."""
    return response(PAGE.format(number).encode())


def record(
    content: bytes,
    url: str = "http://a.example/",
    kind: str = "response",
    media_type: str = "application/http; msgtype=response",
    length: object = None,
) -> bytes:
    """A record of a WARC file."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Date: 2026-01-02T03:04:05Z\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def arc(*contents: bytes) -> bytes:
    """An ARC file."""
    version = b"1 0 Somebody\nURL IP-address Archive-date Content-type Archive-length\n"
    head = f"filedesc://a.arc 0.0.0.0 20260102030405 text/plain {len(version)}\n".encode()
    return (head + version + b"\n") + b"".join(
        f"http://a.example/{n} 1.2.3.4 20260102030405 text/html {len(one)}\n".encode() + one + b"\n"
        for n, one in enumerate(contents)
    )


def packed(*records: bytes) -> bytes:
    """Each in a gzip member of its own."""
    return b"".join(map(gzip.compress, records))
