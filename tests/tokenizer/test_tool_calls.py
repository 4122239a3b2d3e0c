import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.tokenizer import Parsed, ToolCall, ToolCallParser, parse_tool_calls
from everlong.tokenizer.chat_template import ToolFormat

OSLO = '{"name": "weather", "arguments": {"city": "Oslo"}}'
CALL = ToolCall("weather", '{"city": "Oslo"}')


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("plain text", "plain text", []),
        ("  kept \n", "  kept \n", []),
        ("", "", []),
        # Qwen
        (f"<tool_call>\n{OSLO}\n</tool_call>", "", [CALL]),
        (f"\n<tool_call>\n{OSLO}\n</tool_call>\n<tool_call>{OSLO}</tool_call>\n", "", [CALL, CALL]),
        (f"I look.\n<tool_call>{OSLO}</tool_call>", "I look.", [CALL]),
        (f"<tool_call>{OSLO}</tool_call> Done. ", " Done. ", [CALL]),
        (
            f"a <tool_call>{OSLO}</tool_call>\nb\n<tool_call>{OSLO}</tool_call>",
            "a\nb",
            [CALL, CALL],
        ),
        # several in one pair of tags; SmolLM2's list
        (f"<tool_call>{OSLO}\n{OSLO}</tool_call>", "", [CALL, CALL]),
        (f"<tool_call>[{OSLO},\n {OSLO}]</tool_call>", "", [CALL, CALL]),
        ("<tool_call>[]</tool_call>", "", []),
        # Hermes puts the arguments first; others call them parameters, or quote them
        ('<tool_call>{"arguments": {"city": "Oslo"}, "name": "weather"}</tool_call>', "", [CALL]),
        ('<tool_call>{"name": "weather", "parameters": {"city": "Oslo"}}</tool_call>', "", [CALL]),
        (
            '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}</tool_call>',
            "",
            [CALL],
        ),
        (f'<tool_call>{{"type": "function", "function": {OSLO}}}</tool_call>', "", [CALL]),
        ('<tool_call>{"name": "now"}</tool_call>', "", [ToolCall("now", "{}")]),
        # cut off after the JSON
        (f"<tool_call>{OSLO}", "", [CALL]),
        (f"<tool_call>{OSLO}\n", "", [CALL]),
        # line breaks in strings, which JSON would escape
        (
            '<tool_call>{"name": "f", "arguments": {"code": "a\nb"}}</tool_call>',
            "",
            [ToolCall("f", '{"code": "a\\nb"}')],
        ),
        # scalars of every kind
        (
            '<tool_call>{"name": "f", "arguments": {"a": [1, -2.5e+3, true, null, "", {}, []]}}',
            "",
            [ToolCall("f", '{"a": [1, -2500.0, true, null, "", {}, []]}')],
        ),
        # tags and brackets inside strings
        (
            '<tool_call>{"name": "f", "arguments": {"x": "</tool_call> ]} \\" \\\\"}}</tool_call>',
            "",
            [ToolCall("f", '{"x": "</tool_call> ]} \\" \\\\"}')],
        ),
    ],
)
def test_what_is_found(text: str, content: str, calls: list[ToolCall]):
    assert parse_tool_calls(text) == Parsed(content, tuple(calls))


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call></tool_call>",
        "<tool_call>weather(Oslo)</tool_call>",
        '<tool_call>{"name": "weather", "arguments": {"city": "Os',
        f"<tool_call>{OSLO[:-1]}</tool_call>",
        f"<tool_call>{OSLO} and more</tool_call>",
        f"<tool_call>{OSLO}</tool_cal",
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "no json"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
        f"<tool_call>[{OSLO}, 7]</tool_call>",
        f"<tool_call>{'[' * 5000}{']' * 5000}</tool_call>",
        "</tool_call> <tool_cal <tool",
        f"<TOOL_CALL>{OSLO}</TOOL_CALL>",
    ],
)
def test_what_is_no_call_is_text(text: str):
    assert parse_tool_calls(text) == Parsed(text)


def test_a_call_after_a_false_one():
    text = f"<tool_call>oops <tool_call>{OSLO}</tool_call>"
    assert parse_tool_calls(text) == Parsed("<tool_call>oops", (CALL,))


def test_only_offered_functions_can_be_called():
    text = f"<tool_call>{OSLO}</tool_call>"
    assert parse_tool_calls(text, names=["weather", "time"]).calls == (CALL,)
    assert parse_tool_calls(text, names=["time"]) == Parsed(text)


def test_arguments_keep_characters_and_are_valid_utf8():
    call = parse_tool_calls(
        '<tool_call>{"name":"f","arguments":{"x":"北\\u5317"}}</tool_call>'
    ).calls
    assert call == (ToolCall("f", '{"x": "北北"}'),)
    half = parse_tool_calls('<tool_call>{"name":"f","arguments":{"x":"\\ud800"}}</tool_call>').calls
    assert half == (ToolCall("f", '{"x": "\\ud800"}'),)
    half[0].arguments.encode()


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (OSLO, "", [CALL]),
        (f"\n[{OSLO}, {OSLO}]\n", "", [CALL, CALL]),
        ('{"name": "weather", "parameters": {"city": "Oslo"}}', "", [CALL]),
        (f"{OSLO} is the call", f"{OSLO} is the call", []),
        ('{"answer": 42}', '{"answer": 42}', []),
        ("[1, 2, 3]", "[1, 2, 3]", []),
        ("[]", "[]", []),
        ("It is 5 degrees.", "It is 5 degrees.", []),
        ("  \n", "  \n", []),
        (f"Sure: <tool_call>{OSLO}</tool_call>", "Sure:", [CALL]),
    ],
)
def test_bare_calls(text: str, content: str, calls: list[ToolCall]):
    assert parse_tool_calls(text, "bare") == Parsed(content, tuple(calls))


def test_words_are_not_held_back_where_calls_are_bare():
    parser = ToolCallParser("bare")
    assert parser.push(" It").content == " It"


def _streamed(pieces: list[str], form: ToolFormat) -> tuple[Parsed, list[Parsed]]:
    parser = ToolCallParser(form)
    steps = [*(parser.push(piece) for piece in pieces), parser.finish()]
    calls = tuple(call for step in steps for call in step.calls)
    return Parsed("".join(step.content for step in steps), calls), steps


fragments = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        OSLO,
        f"[{OSLO}]",
        "<tool_call>" + OSLO + "</tool_call>",
        "<tool_",
        "call>",
        "<",
        "{",
        "}",
        "[",
        '"',
        "\\",
        " ",
        "\n",
        "text",
        '{"name": "f"',
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    text=st.lists(fragments, max_size=12).map("".join),
    seed=st.integers(0, 2**32),
    form=st.sampled_from(["tagged", "bare"]),
)
def test_the_result_does_not_depend_on_the_pieces(text: str, seed: int, form: ToolFormat):
    whole = parse_tool_calls(text, form)
    assert _streamed(list(text), form)[0] == whole
    cut = random.Random(seed)
    pieces, rest = [], text
    while rest:
        size = cut.randint(1, 15)
        pieces.append(rest[:size])
        rest = rest[size:]
    assert _streamed(pieces, form)[0] == whole
    if not whole.calls and "[]" not in text:
        assert whole.content == text, "without calls, nothing is lost"


def test_text_is_shown_once_it_can_be_no_call():
    parser = ToolCallParser()
    assert parser.push('<tool_call>{"name": weather').content == '<tool_call>{"name": weather'


def test_no_part_of_a_tag_is_shown_before_it_is_known():
    text = f"Let me see. <tool_call>{OSLO}</tool_call>"
    _, steps = _streamed(list(text), "tagged")
    shown = "".join(step.content for step in steps)
    assert shown == "Let me see."
    # Text is not held back longer than it must be.
    assert "".join(step.content for step in steps[:11]) == "Let me see."
    # A call is reported with the last character of its closing tag.
    assert steps[len(text) - 1].calls == (CALL,)


@pytest.mark.parametrize("form", ["tagged", "bare"])
@pytest.mark.parametrize("length", [262_000, 262_140, 262_150, 263_000])
def test_calls_longer_than_the_limit_are_text(form: ToolFormat, length: int):
    body = json.dumps({"name": "f", "arguments": {"x": ""}})
    body = body.replace('""', '"' + "x" * (length - len(body)) + '"')
    text = f"<tool_call>{body}</tool_call>" if form == "tagged" else body
    whole = parse_tool_calls(text, form)
    assert bool(whole.calls) == (length <= 256 * 1024)
    pieces = [text[i : i + 1000] for i in range(0, len(text), 1000)]
    assert _streamed(pieces, form)[0] == whole


def test_many_false_tags_take_no_time():
    """Quadratic work would take minutes here."""
    for text in ('<tool_call>{"' * 20_000, '<tool_call>["<tool_call>[' + "1," * 100_000):
        assert parse_tool_calls(text) == Parsed(text)
