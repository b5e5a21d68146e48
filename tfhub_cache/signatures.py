"""The signatures of a SavedModel, read from its file without TensorFlow.

`saved_model.pb` is a protocol buffer. Only the messages on the way to the signatures are read;
graphs, which are nearly all of the file, are skipped. The fields are described in
https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/protobuf (saved_model.proto,
meta_graph.proto) and .../core/framework (types.proto, tensor_shape.proto), their encoding in
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        name: its name in the signature.
        dtype: its type, such as `float32`.
        shape: its dimensions, -1 for one of any size; None if their number is not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to call a model.

    Attributes:
        name: its name, such as `serving_default`.
        inputs: its arguments, sorted by name.
        outputs: its results, sorted by name.
        tags: the tags of its graph: `("serve",)`, and in the TF1 Hub format `()` and `("train",)`.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tags: tuple[str, ...]


class UnreadableModel(ValueError):  # noqa: N818 - it reads as what it is
    """Why the file can't be described, as a phrase that follows its name.

    It is not a complete SavedModel, or has so many fields or names that to read them takes seconds.
    """


def read_signatures(file: BinaryIO) -> list[Signature]:
    """Read the signatures in a `saved_model.pb`.

    Args:
        file: the open file, which can seek.

    Returns:
        The signatures of all graphs, sorted by tags and name, without those that TensorFlow uses
        internally.

    Raises:
        UnreadableModel: if it is not a SavedModel, or cut, or has too many fields or names.
        OSError: if it can't be read.
    """
    reader = _Reader(file)
    graphs = reader.message((0, file.seek(0, os.SEEK_END)))[1][_GRAPHS]
    if not graphs:
        raise UnreadableModel("is damaged: it holds no graph")
    found = [signature for graph in graphs for signature in _signatures(reader, graph)]
    return sorted(found, key=lambda signature: (signature.tags, signature.name))


# The numbers of the fields.
_GRAPHS = 2
_GRAPH_INFO, _GRAPH_SIGNATURES = 1, 5
_INFO_TAGS = 4
_MAP_KEY, _MAP_VALUE = 1, 2
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS = 1, 2
_TENSOR_DTYPE, _TENSOR_SHAPE = 2, 3
_SHAPE_DIMENSIONS, _SHAPE_UNKNOWN_RANK = 2, 3
_DIMENSION_SIZE = 1

_LENGTHS = {1: 8, 5: 4}
"""Bytes of a field by its kind. Kind 0 is a number, and kind 2 begins with its length."""

_INTERNAL = "__saved_model_"
# DataType in types.proto, from 1 on.
_FIRST_DTYPES = """
    float32 float64 int32 uint8 int16 int8 string complex64 int64 bool
    qint8 quint8 qint32 bfloat16 qint16 quint16 uint16 complex128 float16
    resource variant uint32 uint64 float8_e5m2 float8_e4m3fn
"""
_DTYPES = dict(enumerate(_FIRST_DTYPES.split(), start=1)) | {29: "int4", 30: "uint4"}
# Real models have some hundred fields on the way to their signatures, as a graph counts as one.
_MOST_FIELDS = 200_000
_MOST_NAMES = 4 << 20

_Span = tuple[int, int]
"""Where the content of a field begins and ends in the file."""


def _signatures(reader: _Reader, span: _Span) -> Iterator[Signature]:
    _, graph = reader.message(span)
    infos = [reader.message(info)[1] for info in graph[_GRAPH_INFO]]
    tags = tuple(sorted(reader.text(tag) for info in infos for tag in info[_INFO_TAGS]))
    for entry in graph[_GRAPH_SIGNATURES]:
        name, value = reader.entry(entry)
        if not name.startswith(_INTERNAL):
            reader.count_names(sum(len(tag) + 1 for tag in tags))  # each signature has them
            _, signature = reader.message(value)
            inputs = _tensors(reader, signature[_SIGNATURE_INPUTS])
            yield Signature(name, inputs, _tensors(reader, signature[_SIGNATURE_OUTPUTS]), tags)


def _tensors(reader: _Reader, entries: list[_Span]) -> tuple[Tensor, ...]:
    found = []
    for name, value in map(reader.entry, entries):
        numbers, spans = reader.message(value)
        dtype, shapes = numbers.get(_TENSOR_DTYPE, 0), spans[_TENSOR_SHAPE]
        shape = _shape(reader, shapes[-1]) if shapes else None
        found.append(Tensor(name, _DTYPES.get(dtype, f"dtype {dtype}"), shape))
    return tuple(sorted(found, key=lambda tensor: tensor.name))


def _shape(reader: _Reader, span: _Span) -> tuple[int, ...] | None:
    numbers, spans = reader.message(span)
    if numbers.get(_SHAPE_UNKNOWN_RANK):
        return None
    dimensions = [reader.message(place)[0] for place in spans[_SHAPE_DIMENSIONS]]
    sizes = [dimension.get(_DIMENSION_SIZE, 0) for dimension in dimensions]
    return tuple(size - (1 << 64) if size >> 63 else size for size in sizes)


class _Reader:
    """Reads messages of a protocol buffer in a file, and counts their fields and names."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fields = 0
        self._names = 0

    def message(self, span: _Span) -> tuple[dict[int, int], defaultdict[int, list[_Span]]]:
        """The fields of a message: the last value of each number, and the places of others."""
        place, end = span
        numbers: dict[int, int] = {}
        spans: defaultdict[int, list[_Span]] = defaultdict(list)
        while place < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise UnreadableModel(
                    f"is too large to describe: it has more than {_MOST_FIELDS} fields"
                )
            key, place = self._varint(place, end)
            number, kind = key >> 3, key & 7
            if number == 0 or kind not in (0, 1, 2, 5):
                raise UnreadableModel(f"is damaged: field {number} is of the unknown kind {kind}")
            value, place = (_LENGTHS[kind], place) if kind in _LENGTHS else self._varint(place, end)
            if kind == 0:
                numbers[number] = value
            elif place + value <= end:
                spans[number].append((place, place + value))
                place += value
            else:
                raise UnreadableModel("is damaged: it ends too early")
        return numbers, spans

    def entry(self, span: _Span) -> tuple[str, _Span]:
        """The key and the value of an entry of a map."""
        _, spans = self.message(span)
        keys, values = spans[_MAP_KEY], spans[_MAP_VALUE]
        return self.text(keys[-1]) if keys else "", values[-1] if values else (0, 0)

    def text(self, span: _Span) -> str:
        """The text in a field."""
        begin, end = span
        self.count_names(end - begin)
        self._file.seek(begin)
        return self._file.read(end - begin).decode("utf-8", "replace")

    def count_names(self, size: int) -> None:
        """Counts bytes of names that are kept."""
        self._names += size
        if self._names > _MOST_NAMES:
            raise UnreadableModel(
                f"is too large to describe: it has more than {_MOST_NAMES} bytes of names"
            )

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        self._file.seek(place)
        value = 0
        for count, byte in enumerate(self._file.read(min(10, end - place))):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value & (1 << 64) - 1, place + count + 1
        raise UnreadableModel("is damaged: it ends too early")
