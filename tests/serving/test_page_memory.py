"""What the page shows and changes of the server's memory, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from everlong.memory.memory import Memory
from everlong.serving import app as application
from everlong.tokenizer import Tokenizer
from tests.serving.browser import Page, find_browser, open_browser
from tests.serving.conftest import RunningServer, random_llm, running
from tests.serving.test_page import ESCAPE, conversation

pytestmark = pytest.mark.browser

FIRST = ".quotes li:first-child"
BOAT = "My boat is called Wandering Albatross and lies in Svolvaer"
ASKED = "Where is my boat?"

Start = Callable[[], AbstractContextManager[RunningServer]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def start(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a server on a folder, each time the same; the port stays the same, too, as the
    browser keeps what it has by host and port."""
    find_browser()
    bind = application.bind
    ports: list[int] = []

    def bind_again(host: str, port: int) -> Any:
        listener = bind(host, ports[0] if ports else port)
        ports[:] = [listener.getsockname()[1]]
        return listener

    monkeypatch.setattr(application, "bind", bind_again)

    @contextmanager
    def started() -> Iterator[RunningServer]:
        with (
            Memory(tmp_path / "memory", 64 << 20) as memory,
            running(random_llm(tokenizer, memory=memory)) as server,
        ):
            yield server

    return started


@contextmanager
def opened(driver: Any, server: RunningServer) -> Iterator[Page]:
    """The page of a server, with empty storage and short answers."""
    page = Page(driver, server.url).open()
    page.run("localStorage.setItem('everlong.settings', '{\"maxTokens\": 8}')")
    page.driver.refresh()
    page.wait_for("[aria-label=Memory]")
    yield page
    assert page.complaints() == []


def ask(page: Page, text: str) -> None:
    page.wait(lambda: page.all("[aria-label^=Memory]"), "the memory")
    before = len(page.all(".answer footer"))
    page.say(text)
    page.wait(lambda: len(page.all(".answer footer")) == before + 1, "another answer")
    assert not page.all(".failure"), page.text(".failure")


def sessions(server: RunningServer) -> list[dict[str, Any]]:
    told = httpx.get(f"{server.url}/v1/memory/sessions").raise_for_status().json()
    return list(told["data"])


def said(server: RunningServer, name: str) -> list[str]:
    told = httpx.get(f"{server.url}/v1/memory/sessions/{name}").raise_for_status().json()
    return [message["content"] for message in told["messages"] if message["role"] == "user"]


def search(page: Page, text: str) -> None:
    box = page.wait_for("dialog [role=searchbox]")
    box.clear()
    box.send_keys(text, "\n")
    page.wait(lambda: "found" in page.text("#memory-results"), "results")


def new_chat(page: Page) -> None:
    page.wait_for(".sidebar .new-chat").click()
    page.wait_gone("article")


def open_memory(page: Page) -> None:
    page.wait_for("[aria-label^=Memory].icon-button").click()
    page.wait_for("dialog .memory")


def press_button(page: Page, name: str) -> None:
    """Presses the last button of the dialog with this text."""
    path = f"//dialog//button[starts-with(normalize-space(.), '{name}')][not(@disabled)]"
    page.wait(lambda: page.driver.find_elements("xpath", path), f"a button {name}")[-1].click()


def test_a_chat_goes_on_in_its_session_after_reload_and_restart(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, BOAT)
        page.driver.refresh()
        page.wait_for(".answer footer")
        ask(page, "the second")
        (session,) = sessions(server)
        assert said(server, session["name"]) == [BOAT, "the second"]
    with start() as server:
        page.driver.refresh()
        page.wait_for(".answer footer")
        ask(page, "the third")
        (session,) = sessions(server)
        assert said(server, session["name"]) == [BOAT, "the second", "the third"]


def test_a_session_is_opened_in_a_browser_that_has_nothing_of_it(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, BOAT)
        answer = page.text(".answer .markdown")
    with start() as server, opened(driver, server) as page:
        assert not page.all(".chats li")
        open_memory(page)
        assert "2 messages" in page.wait_for("dialog .session").text
        page.wait_for("dialog .session").click()
        page.wait_gone("dialog")
        assert page.text(".bubble") == BOAT
        assert page.text(".answer .markdown") == answer
        ask(page, "and on")
        (session,) = sessions(server)
        assert said(server, session["name"]) == [BOAT, "and on"]


def test_an_edited_message_leaves_the_old_session_as_it_was(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, "one")
        ask(page, "two")
        page.wait_for("[aria-label='Edit message']").click()
        page.wait_for("[aria-label='Edit message'][dir]:focus")
        page.press(" three", "\n")
        page.wait(lambda: page.text(".bubble") == "two three", "the changed message")
        page.wait_for_answer()
        ask(page, "four")
        told = [said(server, session["name"]) for session in sessions(server)]
        assert told == [["one", "two three", "four"], ["one", "two"]]


def test_the_first_answer_again_does_not_say_the_question_twice(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, "one")
        page.wait_for("[aria-label='Answer again']").click()
        page.wait(lambda: len(sessions(server)) == 2, "another session")
        page.wait_for_answer()
        ask(page, "two")
        assert [said(server, s["name"]) for s in sessions(server)] == [["one", "two"], ["one"]]


def test_search_reading_and_forgetting_a_text(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, "before")
        ask(page, BOAT)
        open_memory(page)
        search(page, "albatross")
        assert "Found by its words" in page.wait_for(f"dialog {FIRST} .why").text
        assert page.text(f"dialog {FIRST} blockquote") == BOAT
        page.wait_for(f"dialog {FIRST} button:first-child").click()
        page.wait_for("dialog [aria-current=true]")
        assert "before" in page.text("dialog ol.quotes")
        assert page.run("return document.activeElement.id") == "memory-view"
        page.wait_for("dialog [aria-label=Back]").click()
        page.wait_for(f"dialog {FIRST} button:last-child").click()
        press_button(page, "Forget 1 text")
        page.wait(lambda: page.text("dialog h3") == "Forgotten", "the receipt")
        assert page.text("dialog .receipt li:first-child") == "1 text"
        press_button(page, "Done")
        page.wait(lambda: page.text("#memory-results") == "0 texts found", "no text")
        page.press(ESCAPE)
        page.wait_gone("dialog")
        assert BOAT not in page.text(".column")
        kept = page.run("return JSON.stringify(Object.values(localStorage))")
        assert "Albatross" not in kept
        ask(page, "after")
        assert "Albatross" not in str([said(server, s["name"]) for s in sessions(server)])


def test_a_forgotten_text_is_gone_from_a_conversation_that_parted(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, BOAT)
        ask(page, "two")
        page.wait_for("[aria-label='Edit message']").click()
        page.wait_for("[aria-label='Edit message'][dir]:focus")
        page.press(" three", "\n")
        page.wait(lambda: page.text(".bubble") == "two three", "the changed message")
        page.wait_for_answer()
        open_memory(page)
        search(page, "albatross")
        page.wait_for(f"dialog {FIRST} button:last-child").click()
        press_button(page, "Forget 1 text")
        page.wait(lambda: page.text("dialog h3") == "Forgotten", "the receipt")
        assert "Albatross" not in str(page.run("return Object.values(localStorage)"))


def test_forgetting_asks_first_and_a_forgotten_session_is_gone_here_too(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, BOAT)
        (session,) = sessions(server)
        for go_on in (False, True):
            open_memory(page)
            page.wait_for("dialog .sessions [aria-label^='Forget']").click()
            texts = page.wait(lambda: page.text("dialog p[role=status]"), "the number of texts")
            assert texts.startswith(("1 text", "2 texts"))
            if go_on:
                press_button(page, f"Forget {texts[0]}")
                page.wait(lambda: page.text("dialog h3") == "Forgotten", "the receipt")
                assert "1 conversation" in page.text("dialog .receipt")
                press_button(page, "Done")
                page.wait(lambda: "Nothing is remembered" in page.text("dialog"), "nothing")
            else:
                press_button(page, "Keep")
                page.wait_for("dialog .session")
                page.press(ESCAPE)
                page.wait_gone("dialog")
                assert [s["name"] for s in sessions(server)] == [session["name"]]
        page.press(ESCAPE)
        page.wait_gone("dialog")
        assert sessions(server) == []
        assert not page.all(".chats li")
        assert "Albatross" not in str(page.run("return Object.values(localStorage)"))


def test_a_paused_conversation_is_not_found(driver, start):
    with start() as server, opened(driver, server) as page:
        open_memory(page)
        page.wait_for("dialog [role=switch]").click()
        page.wait(
            lambda: not page.run("return document.querySelector('dialog [role=switch]').checked"),
            "the pause",
        )
        page.press(ESCAPE)
        page.wait_gone("dialog")
        ask(page, BOAT)
        (session,) = sessions(server)
        assert session["paused"]
        page.wait_for("[aria-label='Answer again']").click()
        page.wait(lambda: len(sessions(server)) == 2, "another session")
        page.wait_for_answer()
        assert all(session["paused"] for session in sessions(server))
        open_memory(page)
        search(page, "albatross")
        assert page.text("#memory-results") == "0 texts found"
        page.wait_for("dialog [role=switch]").click()
        page.wait(
            lambda: page.run("return document.querySelector('dialog [role=switch]').checked"),
            "the end of it",
        )
        assert sorted(session["paused"] for session in sessions(server)) == [False, True]


def test_a_paused_conversation_stays_so_after_a_stop(driver, start):
    with start() as server, opened(driver, server) as page:
        page.run("localStorage.setItem('everlong.settings', '{\"maxTokens\": 1500}')")
        page.driver.refresh()
        open_memory(page)
        page.wait_for("dialog [role=switch]").click()
        page.wait_for("[aria-label$='not remembered)']")
        page.press(ESCAPE)
        page.wait_gone("dialog")
        page.say(BOAT)
        # Noise may also end by itself, before anybody sees it grow.
        page.wait(lambda: page.text(".answer"), "the first text")
        page.press(ESCAPE)
        page.wait_for_answer()
        server.wait_until_idle()
        page.say("the second")
        page.wait(lambda: len(page.all(".answer")) == 2, "the second answer")
        page.wait(lambda: page.text(".answer:last-child"), "its text")
        page.press(ESCAPE)
        page.wait_for_answer()
        server.wait_until_idle()
        assert all(session["paused"] for session in sessions(server))
        assert httpx.get(f"{server.url}/v1/memory/episodes").json()["data"] == []


def test_what_was_recalled_is_quoted_under_the_answer(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, BOAT)
        new_chat(page)
        ask(page, ASKED)
        summary = page.wait_for(".remembered summary")
        assert summary.text.startswith("remembered: ")
        summary.click()
        assert BOAT in page.text(".remembered .quotes")
        assert "You, " in page.text(".remembered figcaption")
        assert "score " in page.text(".remembered figcaption")
        page.driver.refresh()
        page.wait_for(".remembered summary").click()
        while quotes := page.all(".remembered li"):
            button = quotes[0].find_elements("css selector", "button")[-1]
            button.click()
            press_button(page, "Forget 1 text")
            press_button(page, "Done")
            page.wait_gone("dialog")
            assert len(page.all(".remembered li")) < len(quotes)
        told = httpx.post(f"{server.url}/v1/memory/search", json={"query": "boat"}).json()
        assert BOAT not in [found["text"] for found in told["data"]]


def test_remembered_text_is_no_html(driver, start):
    attack = '<img src=x onerror="window.harmed = 1"><b>zebra</b>'
    with start() as server, opened(driver, server) as page:
        document = {"text": attack, "source": attack}
        httpx.post(f"{server.url}/v1/memory/episodes", json=document).raise_for_status()
        open_memory(page)
        search(page, "zebra")
        assert page.text("dialog blockquote") == attack
        assert attack in page.text("dialog figcaption")
        assert not page.all("dialog .quotes :is(img, b)")
        assert page.run("return window.harmed") is None


@pytest.mark.parametrize("width", [400, 1200])
def test_the_panel_fits_and_works_by_keyboard(driver, start, width):
    with start() as server, opened(driver, server) as page:
        page.look(width=width)
        ask(page, "x" * 100 + " zebra")
        page.run("document.querySelector('[aria-label^=Memory]').focus()")
        page.press("\n")
        page.wait_for("dialog .session")
        search(page, "zebra")
        page.press(ESCAPE)
        page.wait_gone("dialog")
        assert page.run("return document.activeElement.ariaLabel") == "Memory"
        open_memory(page)
        search(page, "zebra")
        fits = (
            "return [...document.querySelectorAll('html, dialog, .memory, .quote')]"
            ".every((box) => box.scrollWidth <= box.clientWidth)"
        )
        assert page.run(fits)
        press_button(page, "In context")
        page.wait_for("dialog [aria-current=true]")
        assert page.run(fits)


def test_an_error_is_shown(driver, start):
    with start() as server, opened(driver, server) as page:
        ask(page, "one")
        open_memory(page)
        page.wait_for("dialog .session")
        name = sessions(server)[0]["name"]
        forgotten = httpx.post(f"{server.url}/v1/memory/forget", json={"session": name})
        forgotten.raise_for_status()
        page.wait_for("dialog .session").click()
        assert "not remembered any more" in page.wait_for("dialog [role=alert]").text


def test_without_a_memory_there_is_no_panel_and_no_session(driver, tokenizer):
    with running(random_llm(tokenizer)) as server:
        page = Page(driver, server.url).open(
            conversation(("user", "hi"), ("assistant", "yes"), maxTokens=4)
        )
        page.say("go on")
        page.wait(lambda: len(page.all(".answer footer")) == 2, "an answer")
        assert not page.all(".failure"), "a session would be refused"
        assert not page.all("[aria-label^=Memory]")
