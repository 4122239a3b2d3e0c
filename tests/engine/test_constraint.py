"""Constraints: what they allow, when they end, and that a hostile one harms only its request."""

import contextlib
import json
import re
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.engine import constraint_worker
from everlong.engine.constraint import MAX_CHARS, ConstraintCompiler, ConstraintState
from everlong.engine.request import Constraint
from everlong.errors import RequestError
from everlong.tokenizer import Tokenizer, train_tokenizer

TEXTS = [
    '{"name": "Ada", "age": 36, "tags": [true, false, null, -1.5e3]}',
    "yes no 123 äö 人工",
] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 320)


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> ConstraintCompiler:
    # Other work on the machine must not make an innocent constraint fail here.
    return ConstraintCompiler(tokenizer, max_seconds=30)


def allowed(state: ConstraintState) -> set[int]:
    return set(np.flatnonzero(state.mask()).tolist())


def write(state: ConstraintState, tokenizer: Tokenizer, text: str) -> None:
    for token_id in tokenizer.encode(text, special=False):
        assert token_id in allowed(state), text
        state.accept(token_id)


def babble(
    state: ConstraintState, tokenizer: Tokenizer, rng: np.random.Generator, most: int = 400
) -> str | None:
    """What a model with random logits writes; None if it does not end within ``most`` tokens."""
    ids: list[int] = []
    for _ in range(most):
        choices = sorted(allowed(state))
        ends = [i for i in choices if i in tokenizer.eos_token_ids]
        assert bool(ends) == state.complete
        # Every allowed token is as likely as another, except that ends are welcome.
        token_id = int(rng.choice(ends if ends and rng.random() < 0.3 else choices))
        state.accept(token_id)
        if token_id in tokenizer.eos_token_ids:
            assert state.finished
            return tokenizer.decode(ids)
        ids.append(token_id)
        if state.finished:
            assert state.complete
            return tokenizer.decode(ids)
    return None


class TestEnds:
    def test_the_end_is_allowed_exactly_where_the_output_is_complete(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        state = compiler.compile(Constraint(regex="ab*"))
        assert not allowed(state) & tokenizer.eos_token_ids
        write(state, tokenizer, "a")
        assert state.complete
        assert not state.finished
        assert tokenizer.eos_token_ids <= allowed(state)
        state.accept(min(tokenizer.eos_token_ids))
        assert state.finished

    def test_what_can_go_no_further_is_finished_without_an_end(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        state = compiler.compile(Constraint(regex="yes|no"))
        write(state, tokenizer, "yes")
        assert state.finished
        assert allowed(state) == tokenizer.eos_token_ids

    def test_every_end_of_the_tokenizer_counts(self) -> None:
        specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
        tokenizer = train_tokenizer(TEXTS, 300, special_tokens=specials)
        assert len(tokenizer.eos_token_ids) == 2
        state = ConstraintCompiler(tokenizer).compile(Constraint(regex="a*"))
        assert tokenizer.eos_token_ids <= allowed(state)
        assert tokenizer.encode("<|im_start|>")[0] not in allowed(state)

    def test_tokenizer_without_an_end(self) -> None:
        tokenizer = train_tokenizer(TEXTS, 300, special_tokens=("<s>",), eos_token="<s>")
        object.__setattr__(tokenizer, "eos_token_ids", frozenset())
        state = ConstraintCompiler(tokenizer).compile(Constraint(regex="ab?"))
        write(state, tokenizer, "a")
        assert not state.finished
        write(state, tokenizer, "b")
        assert state.finished

    def test_grammar_may_name_special_tokens(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        (turn,) = tokenizer.encode("<|im_start|>")
        state = compiler.compile(Constraint(lark='start: <|im_start|> "a"'))
        assert allowed(state) == {turn}
        with pytest.raises(RequestError, match="no_such_token"):
            compiler.compile(Constraint(lark="start: <|no_such_token|>"))


class TestForms:
    @pytest.mark.parametrize(
        ("constraint", "good", "bad"),
        [
            (Constraint(regex=r"\d{3}-\w+"), ["123-ab", "000-_9"], ["12-", "123 ", "١"]),
            (Constraint(regex=r"^(a/b|\n)$"), ["a/b", "\n"], ["a\\", "b"]),
            (Constraint(regex="人+"), ["人人"], ["工"]),
            (Constraint(lark='start: "x" NUM\nNUM: /[0-9]+/'), ["x12"], ["12"]),
            (Constraint(json_schema="{}"), ["[1, true]", '"a"', "null", '{"k":{}}'], ["x", "]"]),
            (Constraint(json_schema="true"), ["-1.5e3"], ["--"]),
            (
                Constraint(json_schema='{"type":"array","items":{"type":"integer"},"maxItems":2}'),
                ["[1, 2]", "[ ]", "[\n  1\n]"],
                ["[1.", "[1,2,", '["'],
            ),
        ],
    )
    def test_accepts_and_refuses(
        self,
        compiler: ConstraintCompiler,
        tokenizer: Tokenizer,
        constraint: Constraint,
        good: list[str],
        bad: list[str],
    ) -> None:
        for text in good:
            state = compiler.compile(constraint)
            write(state, tokenizer, text)
            assert state.complete, text
        for text in bad:
            state = compiler.compile(constraint)
            ids = tokenizer.encode(text, special=False)
            for token_id in ids:
                if token_id not in allowed(state):
                    break
                state.accept(token_id)
            else:
                pytest.fail(f"{text!r} was accepted")

    def test_refused_token_is_an_error(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        state = compiler.compile(Constraint(regex="yes"))
        with pytest.raises(RequestError, match="cannot be constrained any further"):
            state.accept(tokenizer.encode("n")[0])

    def test_white_space_comes_to_an_end(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        state = compiler.compile(Constraint(json_schema='{"type":"object"}'))
        write(state, tokenizer, "{" + " " * 64)
        assert not allowed(state) & set(tokenizer.encode(" \n"))

    def test_schema_is_data_and_cannot_close_its_frame(self, compiler: ConstraintCompiler) -> None:
        with pytest.raises(RequestError, match="the JSON schema cannot be used"):
            compiler.compile(Constraint(json_schema='{}}, {"lark_grammar": "start: /.*/"'))

    def test_words_of_regular_expressions_are_whole(
        self, compiler: ConstraintCompiler, tokenizer: Tokenizer
    ) -> None:
        rng = np.random.default_rng(0)
        pattern = r"[A-Z][a-z]{1,8}(, [A-Z][a-z]{1,8}){0,3}"
        for _ in range(20):
            text = babble(compiler.compile(Constraint(regex=pattern)), tokenizer, rng)
            assert text is not None
            assert re.fullmatch(pattern, text)


Schema = dict[str, Any]

scalars = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    st.builds(
        lambda a, b: {"type": "integer", "minimum": min(a, b), "maximum": max(a, b)},
        st.integers(-999, 999),
        st.integers(-999, 999),
    ),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b},
        st.integers(0, 3),
        st.integers(0, 4),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=3)),
            min_size=1,
            max_size=3,
            unique_by=repr,
        ),
    ),
    st.just({"type": "string", "pattern": "^[a-f]{2,4}$"}),
)


def nested(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    arrays = st.builds(
        lambda items, a, b: {"type": "array", "items": items, "minItems": a, "maxItems": a + b},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )
    objects = st.builds(
        lambda properties, needed: {
            "type": "object",
            "properties": properties,
            "required": [name for name, keep in zip(properties, needed, strict=False) if keep],
            "additionalProperties": False,
        },
        st.dictionaries(st.text('abcö "\\', min_size=1, max_size=3), inner, max_size=3),
        st.lists(st.booleans(), min_size=3, max_size=3),
    )
    either = st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
    return st.one_of(arrays, objects, either)


def valid(value: Any, schema: Schema) -> bool:
    """Whether ``value`` satisfies ``schema``, for the keywords above."""
    if "anyOf" in schema:
        return any(valid(value, option) for option in schema["anyOf"])
    if "enum" in schema:
        return any(type(value) is type(v) and value == v for v in schema["enum"])
    match schema["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "string" if "pattern" in schema:
            return isinstance(value, str) and re.search(schema["pattern"], value) is not None
        case "string":
            return (
                isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
            )
        case "array":
            return (
                isinstance(value, list)
                and schema["minItems"] <= len(value) <= schema["maxItems"]
                and all(valid(item, schema["items"]) for item in value)
            )
        case "object":
            return (
                isinstance(value, dict)
                and set(schema["required"]) <= set(value) <= set(schema["properties"])
                and all(valid(item, schema["properties"][k]) for k, item in value.items())
            )
    raise AssertionError(schema)


@settings(deadline=None, max_examples=25)
@given(schema=st.recursive(scalars, nested, max_leaves=6), seed=st.integers(0, 2**32))
def test_completed_outputs_are_valid(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, schema: Schema, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        text = babble(compiler.compile(Constraint(json_schema=json.dumps(schema))), tokenizer, rng)
        # Random tokens may write a string of bytes for ever only where no length bounds them.
        assert text is not None
        assert valid(json.loads(text), schema), text


def chain(length: int) -> str:
    """A schema in which each definition refers to the next."""
    definitions: dict[str, Any] = {
        f"a{i}": {"type": "array", "items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(length)
    }
    definitions[f"a{length}"] = {"type": "null"}
    return json.dumps({"$defs": definitions, "$ref": "#/$defs/a0"})


HOSTILE = {
    "not JSON": (Constraint(json_schema='{"type'), "cannot be used"),
    "not a schema": (Constraint(json_schema="[1]"), "must be a JSON object"),
    "lone surrogate": (Constraint(regex="\ud800"), "cannot be used"),
    "unknown type": (Constraint(json_schema='{"type":"foo"}'), "foo"),
    "nothing is valid": (Constraint(json_schema='{"enum":[]}'), "Unsatisfiable"),
    "false": (Constraint(json_schema="false"), "must be a JSON object"),
    "not implemented": (Constraint(json_schema='{"uniqueItems":true}'), "uniqueItems"),
    "other hosts": (Constraint(json_schema='{"$ref":"http://127.0.0.1:1/x.json"}'), "not present"),
    "files": (Constraint(json_schema='{"$ref":"file:///etc/passwd"}'), "not present"),
    "open group": (Constraint(regex="a("), "unclosed"),
    "look-around": (Constraint(regex="(?=a)b"), "look-around"),
    "unknown rule": (Constraint(lark="start: foo"), "foo"),
    "endless rule": (Constraint(lark="start: start"), "cannot be used"),
    "long": (Constraint(regex="a" * (MAX_CHARS + 1)), "at most 262,144"),
    "deep JSON": (Constraint(json_schema='{"items":' * 20_000 + "{}" + "}" * 20_000), "cannot be"),
    "deep schema": (Constraint(json_schema='{"items":' * 900 + "{}" + "}" * 900), "recursion"),
    "deep groups": (Constraint(regex="(" * 20_000 + ")" * 20_000), "cannot be used"),
    "deep grammar": (Constraint(lark="start: " + "(" * 9_000 + '"a"' + ")" * 9_000), "deeply"),
    "chain of references": (Constraint(json_schema=chain(4_000)), "nested too deeply"),
    "chain of rules": (
        Constraint(lark="\n".join([f"r{i}: r{i + 1}" for i in range(9_000)] + ["start: r0"])),
        "cannot be used|nested too deeply",
    ),
    "many products": (
        Constraint(
            json_schema=json.dumps(
                {
                    "allOf": [
                        {"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(10)]}
                        for i in range(10)
                    ]
                }
            )
        ),
        "too large",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_used_is_refused(compiler: ConstraintCompiler, name: str) -> None:
    constraint, message = HOSTILE[name]
    with pytest.raises(RequestError, match=message) as caught:
        compiler.compile(constraint)
    assert len(str(caught.value)) < 600
    compiler.compile(Constraint(regex="still alive"))


@pytest.mark.parametrize(
    "constraint",
    [
        # An intersection of 40 patterns: minutes.
        Constraint(
            json_schema=json.dumps(
                {"type": "string", "allOf": [{"pattern": f"k{i}q"} for i in range(40)]}
            )
        ),
        # Quadratic: 60 s and 9 GB.
        Constraint(regex="a*b?" * 40_000),
    ],
    ids=["intersection", "concatenation"],
)
def test_what_takes_too_long_is_stopped(tokenizer: Tokenizer, constraint: Constraint) -> None:
    hasty = ConstraintCompiler(tokenizer, max_seconds=1)
    with pytest.raises(RequestError, match=r"takes more than (1 s|512 MiB)|nested too deeply"):
        hasty.compile(constraint)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*a.{20}",
        r"(.*a.{200}b.*|.*b.{200}a.*)",
        r"(a{0,99}b?){0,99}c",
        r"(.{1,50}a){50}",
        r"a{1000000000}",
        r"(((a{1000}){1000}){1000}){1000}",
    ],
)
def test_large_automata_end_the_request_and_nothing_else(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, pattern: str
) -> None:
    state = compiler.compile(Constraint(regex=pattern))
    rng = np.random.default_rng(1)
    with contextlib.suppress(RequestError):
        babble(state, tokenizer, rng, most=100)
    write(compiler.compile(Constraint(regex="still alive")), tokenizer, "still")


class TestManyRequests:
    def test_a_constraint_is_tried_once(
        self, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiler = ConstraintCompiler(tokenizer)
        tried: list[str] = []
        original = ConstraintCompiler._try

        def count(self: ConstraintCompiler, kind: str, grammar: str) -> None:
            tried.append(grammar)
            original(self, kind, grammar)

        monkeypatch.setattr(ConstraintCompiler, "_try", count)
        states: list[ConstraintState] = []
        threads = [
            threading.Thread(
                target=lambda: states.append(compiler.compile(Constraint(regex="yes")))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tried) == 1
        compiler.compile(Constraint(regex="yes"), "another's")
        compiler.compile(Constraint(regex="yes"), "another's")
        assert len(tried) == 2, "what one has tried is not sooner there for another"
        write(states[0], tokenizer, "yes")
        assert states[0].finished
        assert not any(state.complete for state in states[1:])

    def test_what_one_output_uses_up_is_not_taken_from_another(
        self,
        compiler: ConstraintCompiler,
        tokenizer: Tokenizer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An automaton shared between outputs would reach its limit for all of them."""
        monkeypatch.setattr(constraint_worker, "MAX_STATES", 600)
        constraint = Constraint(regex=r"(.*a.{200}b.*|.*b.{200}a.*)")
        first, second = compiler.compile(constraint), compiler.compile(constraint)

        def go_on(state: ConstraintState, steps: int) -> None:
            rng = np.random.default_rng(2)
            for _ in range(steps):
                state.accept(int(rng.choice(sorted(allowed(state) - tokenizer.eos_token_ids))))

        with pytest.raises(RequestError, match="too many states"):
            go_on(first, 3000)
        go_on(second, 10)

    def test_stack_size_of_other_threads_is_left_alone(self, compiler: ConstraintCompiler) -> None:
        before = threading.stack_size()
        compiler.compile(Constraint(regex="stack"))
        assert threading.stack_size() == before
