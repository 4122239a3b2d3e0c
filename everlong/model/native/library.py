"""The native kernels as Python sees them: structures, declarations, and one object per model."""

from __future__ import annotations

import ctypes
import enum
import os
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

from everlong.device import cpu_features
from everlong.model.native.build import find_or_build

HEAD_SIZES = frozenset({32, 64, 96, 128, 256})
"""Sizes of an attention head that the kernels are instantiated for."""
NARROW = frozenset({4, 8, 16})
WIDE = HEAD_SIZES | {48, 80}
"""Those of training's kernels; wide ones have their own."""

MOST_INPUTS = 1 << 15
"""Inputs of a product at most."""


class Unit(enum.IntEnum):
    """``Unit`` of matrix_unit.h: who multiplies integers for many rows."""

    NONE = 0
    HARDWARE = 1
    EMULATED = 2


def _each(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


class Matrix(Structure):
    """``Matrix`` of matrix.h."""

    _fields_ = (
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        *_each(c_int32, "bits", "group", "minimum", "half", "n", "k"),
    )


class Routing(Structure):
    """``Routing`` of batch.h."""

    _fields_ = (
        *_each(c_void_p, "encoder", "offset", "decoder", "centre", "worth"),
        *_each(c_float, "share"),
        *_each(c_int32, "least", "least_of_long", "most"),
        *_each(c_int32, "prompt", "asked"),
        *_each(c_int32, "first", "last", "rows", "queries"),
        *_each(c_int32, "dense", "flat", "searched"),
    )


class Outline(Structure):
    """``Outline`` of batch.h."""

    _fields_ = (
        ("groups", c_void_p),
        ("capacity", c_int64),
        ("blocks", c_int32),
        *_each(c_void_p, "lately", "shares"),
    )


class Layer(Structure):
    """``Layer`` of batch.h."""

    _fields_ = (
        *_each(Matrix, "query", "key", "value", "output", "gate", "up", "down"),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("window", c_int32),
    )


class Model(Structure):
    """``Model`` of batch.h."""

    _fields_ = (
        ("layers", POINTER(Layer)),
        ("embedding", Matrix),
        ("head", Matrix),
        ("final_norm", c_void_p),
        ("routing", POINTER(Routing)),
        *_each(c_int32, "num_layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim"),
        ("eps", c_float),
    )


class Batch(Structure):
    """``Batch`` of batch.h."""

    _fields_ = (
        ("rows", c_int32),
        *_each(c_void_p, "tokens", "rope", "index", "visible", "sequence"),
        *_each(c_void_p, "first", "blocks", "codes", "outlines", "means", "skipped"),
        ("reach", c_int32),
        ("run", c_int32),
        ("turns", c_void_p),
        ("wanted_rows", c_int32),
        *_each(c_void_p, "wanted", "logits", "states"),
        ("exact", c_int32),
    )


class PackedRows(Structure):
    """``PackedRows`` of packed_rows.h."""

    _fields_ = (
        *_each(c_void_p, "starts", "first", "last"),
        *_each(c_int32, "sequences", "heads", "kv_heads", "head_dim", "half"),
    )


def fits(inputs: int) -> bool:
    """Whether the kernels have products with this number of inputs."""
    return inputs % 32 == 0 and inputs <= MOST_INPUTS


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    # Of forward.cpp.
    "create": (POINTER(Model), c_int32),
    "destroy": (c_void_p,),
    "forward": (c_void_p, POINTER(Batch)),
    "index": (c_void_p, c_void_p, c_int32, c_void_p, c_void_p),
    "outline": (*[c_void_p] * 2, *[c_int32] * 2, c_void_p, c_int64),
    "linear": (POINTER(Matrix), c_void_p, c_void_p, *[c_int32] * 3),
    "rows": (POINTER(Matrix), c_void_p, c_int64, c_void_p),
    "pack": (c_void_p, c_int32, c_int64, c_int64, c_int32, c_void_p),
    # Of training.cpp.
    "attention_forward": (POINTER(PackedRows), *[c_void_p] * 5, c_int32),
    "attention_backward": (POINTER(PackedRows), *[c_void_p] * 9, c_int32),
    "rotate": (*[c_void_p] * 3, c_int64, *[c_int32] * 5),
    "norm_forward": (*[c_void_p] * 4, c_int64, c_int32, c_float, c_int32),
    "norm_backward": (*[c_void_p] * 6, c_int64, *[c_int32] * 2),
    "gate_forward": (*[c_void_p] * 3, c_int64, c_int32),
    "gate_backward": (*[c_void_p] * 5, c_int64, c_int32),
    "cross_entropy": (*[c_void_p] * 3, *[c_int64] * 2, c_int32),
}
_RESULTS = {"create": c_void_p, "forward": c_int32, "linear": c_int32}
"""Of those that return something."""


@cache
def library() -> Any | None:
    """The loaded library with its functions declared, or None where there is none.

    ``EVERLONG_AMX=0`` leaves the processor's matrix units alone.
    """
    path = find_or_build()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, f"everlong_{name}")
        function.argtypes, function.restype = arguments, _RESULTS.get(name)
    if cpu_features().amx_int8 and os.environ.get("EVERLONG_AMX") != "0":
        loaded.everlong_use_unit(Unit.HARDWARE)
    return loaded


def kernels() -> Any:
    """The library where it is known to be there, as one has asked whether it computes something."""
    found = library()
    assert found is not None, "there are no native kernels"
    return found
