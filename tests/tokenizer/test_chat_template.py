import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from everlong.errors import TemplateError
from everlong.tokenizer import ChatTemplate, Tokenizer, chat_template
from everlong.tokenizer.chat_template import MAX_OUTPUT_CHARS

HELLO = [{"role": "user", "content": "hello"}]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather <now> in a 'city' & more: ünïcode 北京",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "北京"]}},
            "required": ["city"],
        },
    },
}

CHATS: dict[str, list[dict[str, Any]]] = {
    "one turn": HELLO,
    "system": [{"role": "system", "content": "Be brief.\n"}, *HELLO],
    "several turns": [
        *HELLO,
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "  2 < 3 & \"quotes\" {{ x }} {% if %} 'é' 😀\n\n"},
    ],
    "calls": [
        *HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "北京", "n": [1, 2.5]}},
                },
                {"type": "function", "function": {"name": "weather", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": '{"temperature": -3}'},
        {"role": "tool", "content": "sunny"},
        {"role": "user", "content": "and tomorrow?"},
    ],
}

# Written for this test, with the constructs that published templates use.
DIALECT = """
{%- set ns = namespace(last=-1, text='') -%}
{%- macro quote(text) -%}"{{ text | trim | upper }}"{%- endmacro -%}
{%- for message in messages if message.content is string -%}
    {%- if loop.index0 is divisibleby 2 and not message.content.startswith('#') %}
        {%- set ns.last = loop.index0 %}
        {%- set ns.text = ns.text ~ message['content'][:3] + '|' %}
    {%- endif %}
    {%- if message.role == 'assistant' %}{% continue %}{% endif %}
  {% generation %}{{ message.role }}: {{ quote(message.content) }}{% endgeneration %}

{% if loop.last %}{% break %}{% endif %}
{%- endfor %}
{{- bos_token }}{{ ns.last }} {{ ns.text }} {{ messages | length }}
{{ messages | map(attribute='role') | unique | join(',') }}
{{ tools | tojson }} {{ {'b': 1, 'a': "<'é'>"} | tojson(indent=2) }}
{{ messages | selectattr('role', 'equalto', 'tool') | list | tojson(sort_keys=True) }}
{{ messages[0].missing is defined }} {{ messages[-1]['role'] | default('none') }}
{{ documents is none }} {{ enable_thinking | default(true) }}
{% if add_generation_prompt %}<assistant>{% endif %}
"""


def _expected(template: ChatTemplate, folder: Path, chat: Any, tools: Any, **variables: Any) -> str:
    """What transformers renders."""
    transformers = pytest.importorskip("transformers")
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "model": {"type": "BPE", "vocab": {"<s>": 0}, "merges": []},
                "added_tokens": [],
            }
        )
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": template.as_config(),
        **template.special_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    oracle = transformers.AutoTokenizer.from_pretrained(folder)
    text = oracle.apply_chat_template(chat, tools=tools, tokenize=False, **variables)
    assert isinstance(text, str)
    return text


def _check_equal(template: ChatTemplate, folder: Path, tools: Any = None) -> None:
    for chat in CHATS.values():
        for prompt in (True, False):
            expected = _expected(template, folder, chat, tools, add_generation_prompt=prompt)
            assert template.render(chat, tools=tools, add_generation_prompt=prompt) == expected


@pytest.mark.parametrize("tools", [None, [WEATHER], [WEATHER, WEATHER]])
def test_the_dialect_is_that_of_transformers(tmp_path: Path, tools: Any):
    _check_equal(ChatTemplate(DIALECT, special_tokens={"bos_token": "<s>"}), tmp_path, tools)


def test_variables_reach_the_template(tmp_path: Path):
    template = ChatTemplate(DIALECT, special_tokens={"bos_token": "<s>"})
    given = {"enable_thinking": False, "bos_token": "<other>", "documents": [{"text": "d"}]}
    text = template.render(HELLO, **given)
    expected = _expected(template, tmp_path, HELLO, None, add_generation_prompt=True, **given)
    assert text == expected
    assert "False" in text
    assert "<other>" in text


def test_the_template_of_smollm2(smollm2: Tokenizer, tmp_path: Path):
    template = smollm2.chat_template
    for name in ("one turn", "system", "several turns"):
        chat = CHATS[name]
        expected = _expected(template, tmp_path, chat, None, add_generation_prompt=True)
        assert template.render(chat) == expected
    assert not template.presents_tools
    assert template.tool_format == "tagged"


@pytest.mark.parametrize("tools", [None, [WEATHER]])
def test_the_template_of_qwen(qwen: Tokenizer, tmp_path: Path, tools: Any):
    _check_equal(qwen.chat_template, tmp_path, tools)
    assert qwen.chat_template.presents_tools
    assert qwen.chat_template.tool_format == "tagged"


def test_a_second_template_for_tools(tmp_path: Path):
    template = ChatTemplate("plain", tools_source="{{ tools | tojson }}")
    assert template.render(HELLO) == "plain"
    assert template.render(HELLO, tools=[WEATHER]) == json.dumps([WEATHER], ensure_ascii=False)
    for tools in (None, [WEATHER]):
        assert template.render(HELLO, tools=tools) == _expected(template, tmp_path, HELLO, tools)


def test_calls_whose_arguments_are_text():
    template = ChatTemplate(
        "{% for m in messages %}{{ m.tool_calls | tojson }}{% endfor %}{{tools}}"
    )
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    assert json.loads(template.render([{"role": "assistant", "tool_calls": [call]}])[:-4]) == [
        {"function": {"name": "f", "arguments": {"a": 1}}}
    ]


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
        "{% endfor %}{{ n.x | string }}",
        "{{ lipsum(n=100000) }}",
    ],
)
def test_endless_templates_are_stopped(source: str):
    with pytest.raises(TemplateError, match="stopped: it took over 2 s"):
        ChatTemplate(source).render(HELLO)
    assert ChatTemplate("still {{ messages[0].content }}").render(HELLO) == "still hello"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by a limit of Linux")
@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ 'a' | center(10 ** 10) }}",
    ],
)
def test_huge_templates_are_stopped(source: str):
    with pytest.raises(TemplateError, match="more than 1024 MiB of memory"):
        ChatTemplate(source).render(HELLO)
    assert ChatTemplate("still {{ messages[0].content }}").render(HELLO) == "still hello"


def test_growing_templates_are_stopped():
    source = "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    # Which limit comes first depends on how fast the machine hands out memory.
    with pytest.raises(TemplateError, match=r"of memory|it took over 2 s"):
        ChatTemplate(source + "{% endfor %}{{ n.x }}").render(HELLO)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{{{{ 'ab' * {MAX_OUTPUT_CHARS // 2 + 1} }}}}", "more than 16,777,216 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself too deeply"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% for i in range(1000001) %}{% endfor %}", "Range too big"),
    ],
)
def test_templates_that_fail_say_why(source: str, message: str):
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source).render(HELLO)


def test_input_that_no_template_can_take():
    template = ChatTemplate("{{ messages }}")
    with pytest.raises(TemplateError, match="at least one message"):
        template.render([])
    with pytest.raises(TemplateError, match="must be JSON values"):
        template.render([{"role": "user", "content": object()}])
    with pytest.raises(TemplateError, match="at most 67,108,864 are allowed"):
        template.render([{"role": "user", "content": "x" * (64 << 20)}])
    with pytest.raises(TemplateError, match="at most 1,048,576 are allowed"):
        ChatTemplate("x" * (1 << 21))


def test_half_characters_pass_through():
    assert (
        ChatTemplate("{{ messages[0].content }}").render([{"role": "user", "content": "\ud83d"}])
        == "\ud83d"
    )


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch):
    chat_template._renderer.stop()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TemplateError, match="cannot be started"):
        ChatTemplate("x").render(HELLO)


def test_a_process_that_was_killed_is_replaced():
    template = ChatTemplate("{{ messages[0].content }}")
    assert template.render(HELLO) == "hello"
    process = chat_template._renderer._process
    process.kill()
    process.wait()
    assert template.render(HELLO) == "hello"
    # Killed in the middle of its work, it takes that one answer with it.
    threading.Timer(0.2, chat_template._renderer._process.kill).start()
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match=r"ended the process .*code -9"):
        ChatTemplate(endless).render(HELLO)
    assert template.render(HELLO) == "hello"


def test_threads_get_their_own_answers():
    template = ChatTemplate("{{ messages[0].content }}")
    wrong = []

    def work(name: str) -> None:
        for count in range(50):
            content = f"{name} {count}"
            if template.render([{"role": "user", "content": content}]) != content:
                wrong.append(content)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_share_the_process():
    code = """
import os
from everlong.tokenizer import ChatTemplate
template = ChatTemplate("{{ messages[0].content }}")
say = lambda text: template.render([{"role": "user", "content": text}])
assert say("before") == "before"
child = os.fork()
if child == 0:
    ok = all(say(f"child {n}") == f"child {n}" for n in range(100))
    os._exit(0 if ok else 1)
assert all(say(f"parent {n}") == f"parent {n}" for n in range(100))
assert os.waitpid(child, 0)[1] == 0
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_process_that_renders_ends_with_the_program():
    code = """
from everlong.tokenizer import ChatTemplate, chat_template
ChatTemplate("x").render([{"role": "user"}])
print(chat_template._renderer._process.pid)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert run.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.stdout), 0)
