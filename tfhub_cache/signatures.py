"""The signatures of a SavedModel, read from its file without TensorFlow.

`saved_model.pb` is a protocol buffer. Only the way to the signatures is followed; graphs, which are
the bulk, are skipped without being read. What fields there are and what they mean is in
https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/protobuf (saved_model.proto,
meta_graph.proto) and .../core/framework (types.proto, tensor_shape.proto); how they are encoded, in
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        name: what it is called there.
        dtype: as TensorFlow calls it, such as `float32`.
        shape: its dimensions, -1 where one may be of any size; None if their number is not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to call a model.

    Attributes:
        name: what it is called, such as `serving_default`.
        inputs: what it takes.
        outputs: what it returns.
        tags: those of the graph that it belongs to: `("serve",)`, and in the TF1 Hub format
            `()` and `("train",)`.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tags: tuple[str, ...]


class DamagedModel(ValueError):  # noqa: N818 - it reads as what it is
    """A file that is no SavedModel, or not all of one."""


class TooLarge(ValueError):  # noqa: N818 - it reads as what it is
    """A file in which there is more than is worth being described."""


MOST_TEXT = 4 << 20
"""Bytes of a `saved_model.pbtxt` that are parsed, which takes some seconds."""


def read_signatures(file: BinaryIO) -> list[Signature]:
    """The signatures in a `saved_model.pb`.

    Args:
        file: the file, open; it must be able to seek.

    Returns:
        Those of all graphs, in the order of their names. What TensorFlow keeps there for itself
        is left out.

    Raises:
        DamagedModel: if it is no SavedModel, or cut.
        TooLarge: if it has so many fields or names that they would take seconds to read.
        OSError: if it can't be read.
    """
    end = file.seek(0, os.SEEK_END)
    reader = _Reader(file)
    found = []
    graphs = 0
    for number, graph in reader.fields(0, end):
        if number == _SAVED_MODEL_META_GRAPHS:
            graphs += 1
            found += _signatures(reader, _span(graph))
    if not graphs:
        raise DamagedModel("it holds no graph")
    return sorted(found, key=lambda signature: (signature.tags, signature.name))


def parse_text(text: str) -> list[Signature]:
    """The signatures in a `saved_model.pbtxt`, which only TensorFlow can read.

    Raises:
        ImportError: if TensorFlow is not installed.
        DamagedModel: if it is no SavedModel.
        TooLarge: if it has more than `MOST_TEXT` characters, or as of `read_signatures`.
    """
    if len(text) > MOST_TEXT:
        raise TooLarge(f"more than {MOST_TEXT} characters")

    import io

    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = text_format.Parse(text, saved_model_pb2.SavedModel())
    except text_format.ParseError as error:
        raise DamagedModel(f"it is no text of a SavedModel: {error}") from error
    except RecursionError:
        raise TooLarge("messages that are nested too deeply") from None
    return read_signatures(io.BytesIO(model.SerializeToString()))


# The numbers of the fields.
_SAVED_MODEL_META_GRAPHS = 2
_META_GRAPH_INFO = 1
_META_GRAPH_SIGNATURES = 5
_INFO_TAGS = 4
_MAP_KEY = 1
_MAP_VALUE = 2
_SIGNATURE_INPUTS = 1
_SIGNATURE_OUTPUTS = 2
_TENSOR_DTYPE = 2
_TENSOR_SHAPE = 3
_SHAPE_DIMENSIONS = 2
_SHAPE_UNKNOWN_RANK = 3
_DIMENSION_SIZE = 1

_OF_TENSORFLOW = "__saved_model_"
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}
_LONGEST_TEXT = 64 << 10
# Real models have some hundred fields on the way to their signatures, as graphs count as one.
_MOST_FIELDS = 200_000
_MOST_NAMES = 4 << 20

_Span = tuple[int, int]


def _signatures(reader: _Reader, graph: _Span) -> list[Signature]:
    tags: list[str] = []
    entries: list[_Span] = []
    for number, value in reader.fields(*graph):
        if number == _META_GRAPH_INFO:
            tags += [
                reader.text(_span(tag))
                for field, tag in reader.fields(*_span(value))
                if field == _INFO_TAGS
            ]
        elif number == _META_GRAPH_SIGNATURES:
            entries.append(_span(value))
    found = []
    all_tags = tuple(sorted(tags))
    for entry in entries:
        name, signature = _map_entry(reader, entry)
        if name.startswith(_OF_TENSORFLOW):
            continue
        tensors: dict[int, list[Tensor]] = {_SIGNATURE_INPUTS: [], _SIGNATURE_OUTPUTS: []}
        for number, value in reader.fields(*signature):
            if number in tensors:
                tensors[number].append(_tensor(reader, *_map_entry(reader, _span(value))))
        inputs, outputs = (
            tuple(sorted(some, key=lambda tensor: tensor.name)) for some in tensors.values()
        )
        reader.count_names(sum(len(tag) + 1 for tag in all_tags))  # each signature shows them
        found.append(Signature(name, inputs, outputs, all_tags))
    return found


def _map_entry(reader: _Reader, entry: _Span) -> tuple[str, _Span]:
    key, value = "", (0, 0)
    for number, found in reader.fields(*entry):
        if number == _MAP_KEY:
            key = reader.text(_span(found))
        elif number == _MAP_VALUE:
            value = _span(found)
    return key, value


def _tensor(reader: _Reader, name: str, span: _Span) -> Tensor:
    dtype = 0
    shape: tuple[int, ...] | None = None
    for number, value in reader.fields(*span):
        if number == _TENSOR_DTYPE and isinstance(value, int):
            dtype = value
        elif number == _TENSOR_SHAPE:
            shape = _shape(reader, _span(value))
    return Tensor(name, _DTYPES.get(dtype, f"dtype {dtype}"), shape)


def _shape(reader: _Reader, span: _Span) -> tuple[int, ...] | None:
    sizes: list[int] = []
    for number, value in reader.fields(*span):
        if number == _SHAPE_UNKNOWN_RANK and value:
            return None
        if number == _SHAPE_DIMENSIONS:
            dimension: dict[int, Any] = dict(reader.fields(*_span(value)))
            sizes.append(_signed(dimension.get(_DIMENSION_SIZE, 0)))
    return tuple(sizes)


class _Reader:
    """Fields of a protocol buffer in a file, by their places, as long as they are not too many."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fields = 0
        self._names = 0

    def fields(self, begin: int, end: int) -> Iterator[tuple[int, int | _Span]]:
        """The fields between two places: numbers, and values, or where they begin and end."""
        place = begin
        while place < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise TooLarge(f"more than {_MOST_FIELDS} fields")
            key, place = self._varint(place, end)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise DamagedModel("it has a field without a number")
            if kind == 0:
                value, place = self._varint(place, end)
                yield number, value
                continue
            if kind == 2:
                length, place = self._varint(place, end)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise DamagedModel(f"it has a field of the unknown kind {kind}")
            if place + length > end:
                raise DamagedModel("it ends too early")
            yield number, (place, place + length)
            place += length

    def text(self, span: _Span) -> str:
        begin, end = span
        if end - begin > _LONGEST_TEXT:
            raise DamagedModel(f"it has a name of {end - begin} bytes")
        self.count_names(end - begin)
        self._file.seek(begin)
        return self._file.read(end - begin).decode("utf-8", "replace")

    def count_names(self, size: int) -> None:
        """Counts bytes of names that are kept."""
        self._names += size
        if self._names > _MOST_NAMES:
            raise TooLarge(f"more than {_MOST_NAMES} bytes of names")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        self._file.seek(place)
        value = 0
        for count, byte in enumerate(self._file.read(min(10, end - place))):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value & (1 << 64) - 1, place + count + 1
        raise DamagedModel("it ends too early")


def _span(value: int | _Span) -> _Span:
    if isinstance(value, int):
        raise DamagedModel("it has a number in place of a message")
    return value


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise DamagedModel("it has a message in place of a number")
    return value - (1 << 64) if value >> 63 else value
