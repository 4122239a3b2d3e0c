"""Configurations survive the file, and mistakes in a file are named."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, from_plain, load_config, parse_config, to_plain
from everlong.engine.request import SamplingParams
from everlong.errors import ConfigError
from everlong.model.config import ModelConfig, RopeConfig

Mode = Literal["fast", "exact"]


@dataclass(frozen=True)
class Inner:
    size: int = 4
    rate: float = 0.5
    name: str = ""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"size must not be negative, not {self.size}")


@dataclass(frozen=True)
class Outer:
    count: int
    mode: Mode = "fast"
    on: bool = False
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[str, float] = ("a", 1.0)
    stages: tuple[Inner, ...] = ()
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    by_id: Mapping[int, str | None] = field(default_factory=lambda: MappingProxyType({}))
    either: int | Literal["auto"] | None = "auto"
    derived: int = field(init=False, default=1)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        "no",
        "1e-4",
        "010",
        "0x1",
        "12:30",
        "null",
        "~",
        "2020-01-01",
        "1_000",
        "- a",
        "#",
        " x ",
        "a\x85",
        "\u2028",
    ]
)
numbers = st.floats(allow_nan=False)
inners = st.builds(Inner, size=st.integers(0, 10**20), rate=numbers, name=text)
outers = st.builds(
    Outer,
    count=st.integers(),
    mode=st.sampled_from(["fast", "exact"]),
    on=st.booleans(),
    path=st.none() | st.sampled_from([Path("a/b"), Path("/x y/ö.yaml"), Path("no")]),
    inner=inners,
    maybe=st.none() | inners,
    sizes=st.lists(st.integers(), max_size=4).map(tuple),
    pair=st.tuples(text, numbers),
    stages=st.lists(inners, max_size=3).map(tuple),
    weights=st.dictionaries(text, numbers, max_size=3),
    by_id=st.dictionaries(st.integers(), st.none() | text, max_size=3),
    either=st.none() | st.integers() | st.just("auto"),
)


@given(outers)
def test_files_keep_everything(config: Outer) -> None:
    assert parse_config(Outer, format_config(config)) == config
    assert from_plain(Outer, to_plain(config)) == config
    # Other programs read the same file, by the older rules that PyYAML implements.
    assert from_plain(Outer, yaml.safe_load(format_config(config))) == config


def test_file_on_disk(tmp_path: Path) -> None:
    config = Outer(3, path=Path("x"), stages=(Inner(1), Inner(2, name="zwei ½")))
    (tmp_path / "config.yaml").write_text(format_config(config), encoding="utf-8")
    assert load_config(Outer, tmp_path / "config.yaml") == config
    assert format_config(config).startswith("count: 3\nmode: fast\n")
    with pytest.raises(ConfigError, match=r"missing\.yaml cannot be read"):
        load_config(Outer, tmp_path / "missing.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"count: \xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Outer, tmp_path / "bytes.yaml")
    (tmp_path / "wrong.yaml").write_text("count: x")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: count must be an integer, not 'x'"):
        load_config(Outer, tmp_path / "wrong.yaml")


def test_the_projects_own_configurations() -> None:
    model = ModelConfig(
        vocab_size=10,
        hidden_size=8,
        intermediate_size=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        max_position=64,
        rope=RopeConfig(scaling="yarn", factor=4.0, original_max_position=16),
        windows=(None, 32),
    )
    assert parse_config(ModelConfig, format_config(model)) == model
    sampling = SamplingParams(stop=("\n", "no"), logit_bias={3: -1.5}, seed=7)
    assert parse_config(SamplingParams, format_config(sampling)) == sampling


def test_what_is_left_out_keeps_its_default() -> None:
    assert parse_config(Outer, "count: 1") == Outer(1)
    assert parse_config(Inner, "") == Inner()
    assert parse_config(Outer, "{count: 1, inner: {rate: 2}}").inner == Inner(rate=2.0)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("3", 3.0)],
)
def test_numbers_as_people_write_them(written: str, value: float) -> None:
    rate = parse_config(Inner, f"rate: {written}").rate
    assert rate == value
    assert type(rate) is float


@pytest.mark.parametrize("written", ["no", "on", "12:30", "2020-01-01", "1_000", "010", "0x1f"])
def test_text_stays_text(written: str) -> None:
    assert parse_config(Inner, f"name: {written}").name == written


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{}", "count is missing; it must be an integer"),
        ("[1]", "the configuration must be a mapping of names to values, not [1]"),
        ("count: '3'", "count must be an integer, not '3'"),
        ("count: 3.0", "count must be an integer, not 3.0"),
        ("count: true", "count must be an integer, not True"),
        ("count:", "count must be an integer, not None"),
        ("{count: 1, on: 1}", "on must be true or false, not 1"),
        ("{count: 1, on: yes}", "on must be true or false, not 'yes'"),
        ("{count: 1, cuont: 2}", "cuont is unknown; did you mean count? allowed: count, mode"),
        ("{count: 1, xyzzy: 2}", "xyzzy is unknown; allowed: count, mode"),
        ("{count: 1, derived: 2}", "derived is unknown"),
        ("{count: 1, 5: 2}", "5 is unknown"),
        ("{count: 1, inner: {sise: 2}}", "inner.sise is unknown; did you mean size?"),
        ("{count: 1, inner: {rate: x}}", "inner.rate must be a number, not 'x'"),
        ("{count: 1, inner: 5}", "inner must be a mapping of names to values, not 5"),
        ("{count: 1, inner: }", "inner must be a mapping of names to values, not None"),
        ("{count: 1, inner: {size: -1}}", "inner: size must not be negative, not -1"),
        ("{count: 1, stages: [{}, {size: -1}]}", "stages[1]: size must not be negative"),
        ("{count: 1, stages: [{}, {size: x}]}", "stages[1].size must be an integer, not 'x'"),
        ("{count: 1, mode: exat}", "mode must be one of fast, exact, not 'exat'; did you mean ex"),
        ("{count: 1, sizes: 3}", "sizes must be a list in which each is an integer, not 3"),
        ("{count: 1, sizes: [1, a]}", "sizes[1] must be an integer, not 'a'"),
        ("{count: 1, pair: [a]}", "pair must be a list of 2: text, a number, not ['a']"),
        ("{count: 1, weights: {a: b}}", "weights.a must be a number, not 'b'"),
        ("{count: 1, by_id: {a: b}}", "by_id (key) must be an integer, not 'a'"),
        ("{count: 1, either: atuo}", "either must be an integer or auto or null, not 'atuo'; did"),
        ("count: 1\ncount: 2", "the key 'count' is given twice"),
        ("{count: 1", "not valid YAML"),
        ("count: !!python/object/apply:os.getpid []", "not valid YAML"),
        ("{? {a: b} : 1}", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("count: " + "9" * 5000, "not valid YAML"),
    ],
)
def test_mistakes_are_named(written: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Outer, written)
    assert message in str(caught.value)


def test_every_alternative_of_a_union() -> None:
    assert parse_config(Outer, "{count: 1, either: 5}").either == 5
    assert parse_config(Outer, "{count: 1, either: auto}").either == "auto"
    assert parse_config(Outer, "{count: 1, either: null, maybe: null}").either is None
    assert parse_config(Outer, "{count: 1, maybe: {size: 1}}").maybe == Inner(1)


@dataclass(frozen=True)
class Circle:
    radius: int
    kind: Literal["circle", "ball"] = "circle"


@dataclass(frozen=True)
class Square:
    kind: Literal["square"] = "square"
    side: int = 1


@dataclass(frozen=True)
class Shapes:
    shapes: tuple[Circle | Square, ...] = ()


def test_a_union_of_kinds() -> None:
    given = Shapes((Square(side=2), Circle(3), Circle(4, "ball")))
    assert parse_config(Shapes, format_config(given)) == given


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("{kind: sqare}", "shapes[0].kind must be one of circle, ball, square, not 'sqare'"),
        ("{kind: sqare}", "did you mean square?"),
        ("{side: 1}", "shapes[0].kind must be one of"),
        ("{kind: square, side: big}", "shapes[0].side must be an integer"),
        ("{kind: circle}", "shapes[0].radius is missing"),
        ("{kind: [1]}", "shapes[0].kind must be one of"),
        ("3", "shapes[0] must be a mapping with a kind, one of circle, ball, square, not 3"),
        ("square", "not 'square'; write {kind: square}"),
        ("square", "must be a mapping"),
    ],
)
def test_mistakes_in_a_union_of_kinds(shape: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Shapes, f"shapes: [{shape}]")
    assert message in str(caught.value)


def test_what_cannot_be_written_is_found_at_once() -> None:
    @dataclass(frozen=True)
    class Strange:
        value: complex = 1j

    with pytest.raises(AssertionError, match="no plain data"):
        format_config(Strange())
    with pytest.raises(AssertionError, match="not supported"):
        from_plain(Strange, {"value": 1})
    assert dataclasses.is_dataclass(Strange)
