"""Texts as web pages, with what stands around an article on the web."""

from __future__ import annotations

import random
from html import escape

_TOPICS = (
    "News",
    "Sport",
    "Culture",
    "Science",
    "Travel",
    "Opinion",
    "Weather",
    "Money",
    "Archive",
)
_ASIDE = (
    "Sign up for our newsletter",
    "Most read this week",
    "You may also like",
    "Share this article",
    "Subscribe for full access",
)
_STYLE = ".c{{margin:{0}px;color:#{1:06x}}}#m>li{{float:left}}"
_SCRIPT = "window.q=window.q||[];q.push({{id:{0},t:'view',on:function(e){{return e&&e.x>{1}}}}});"


def page_of(text: str, chance: random.Random) -> str:
    """A page whose main content is a text, one paragraph for each of its lines."""

    def links(count: int) -> str:
        return "".join(
            f'<li><a href="/{chance.randrange(10**6)}/{name.lower()}.html">{name} '
            f"{chance.randrange(100)}</a></li>"
            for name in chance.choices(_TOPICS, k=count)
        )

    title = escape(text.strip().split("\n", 1)[0][:80])
    script = _SCRIPT.format(chance.randrange(10**6), chance.randrange(100))
    style = _STYLE.format(chance.randrange(40), chance.randrange(1 << 24))
    body = "".join(f"<p>{escape(line)}</p>\n" for line in text.split("\n") if line.strip())
    teasers = "".join(
        f'<div class="teaser"><h4><a href="/s/{chance.randrange(10**6)}">'
        f"{chance.choice(_ASIDE)}</a></h4><span>{chance.randrange(60)} min</span></div>"
        for _ in range(chance.randrange(2, 8))
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style * 8}</style><script>{script * 6}</script></head><body>"
        f'<header><nav><ul id="m">{links(12)}</ul></nav></header>'
        f'<main><article><h1>{title}</h1><div class="byline">By a reporter, 1 May</div>{body}'
        f'</article><aside class="related">{teasers}</aside></main>'
        f"<footer><ul>{links(20)}</ul><p>© Example Media. All rights reserved. "
        f'<a href="/privacy">Privacy</a> <a href="/terms">Terms of use</a></p></footer>'
        f"<script>{script * 4}</script></body></html>"
    )
