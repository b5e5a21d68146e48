"""Signatures, read from a SavedModel without TensorFlow, and held against what TensorFlow says."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from entries import ours

import tfhub_cache as hub
from tfhub_cache import signatures
from tfhub_cache.signatures import Signature, Tensor, UnreadableModel, read_signatures


def read(folder: Path) -> list[Signature]:
    with (folder / "saved_model.pb").open("rb") as file:
        return read_signatures(file)


def told_by_tensorflow(folder: Path) -> list[Signature]:
    """The same, by TensorFlow's own protocol buffers."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())

    def tensor(name: str, info) -> Tensor:
        shape = tf.TensorShape(info.tensor_shape)
        known = None if shape.rank is None else tuple(-1 if n is None else n for n in shape)
        return Tensor(name, tf.dtypes.as_dtype(info.dtype).name, known)

    def tensors(infos) -> tuple[Tensor, ...]:
        return tuple(tensor(name, infos[name]) for name in sorted(infos))

    found = [
        Signature(name, tensors(s.inputs), tensors(s.outputs), tuple(sorted(g.meta_info_def.tags)))
        for g in model.meta_graphs
        for name, s in g.signature_def.items()
        if name != "__saved_model_init_op"
    ]
    return sorted(found, key=lambda signature: (signature.tags, signature.name))


@pytest.mark.tensorflow
@pytest.mark.parametrize("model", ["text_embedding", "keras_export", "tf1_hub_module"])
def test_the_signatures_are_those_that_tensorflow_sees(
    model: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    found = read(folder)
    assert found == told_by_tensorflow(folder)
    assert found


@pytest.mark.tensorflow
def test_names_types_and_shapes_are_reported(text_embedding: Path) -> None:
    (signature,) = read(text_embedding)
    assert signature == Signature(
        "serving_default",
        (Tensor("sentences", "string", (-1,)),),
        (Tensor("embeddings", "float32", (-1, 4)),),
        ("serve",),
    )


@pytest.mark.tensorflow
def test_the_tf1_hub_format_has_one_for_each_graph(tf1_hub_module: Path) -> None:
    assert [(s.tags, s.name) for s in read(tf1_hub_module)] == [
        ((), "default"),
        (("train",), "default"),
    ]


@pytest.mark.tensorflow
def test_shapes_of_any_rank_scalars_and_all_types_are_reported(tmp_path: Path) -> None:
    import tensorflow as tf

    kinds = {tf.dtypes.as_dtype(number) for number in [*range(1, 20), 22, 23, 24, 25]}
    specs = {kind.name: tf.TensorSpec([], kind, name=kind.name) for kind in kinds}
    specs["any"] = tf.TensorSpec(None, tf.float32, name="any")

    class Model(tf.Module):
        @tf.function
        def serve(self, **inputs):
            return {"scalar": tf.constant(1.0), "known": tf.zeros([2, 3])}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures=model.serve.get_concrete_function(**specs))
    (signature,) = read(tmp_path)
    inputs = {tensor.name: tensor for tensor in signature.inputs}
    assert {name: tensor.dtype for name, tensor in inputs.items()} == {
        **{kind.name: kind.name for kind in kinds},
        "any": "float32",
    }
    assert inputs["any"].shape is None
    assert {tensor.shape for name, tensor in inputs.items() if name != "any"} == {()}
    assert {tensor.name: tensor.shape for tensor in signature.outputs} == {
        "scalar": (),
        "known": (2, 3),
    }


@pytest.mark.tensorflow
def test_a_model_without_signatures_has_none(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path))
    assert read(tmp_path) == []


@pytest.mark.tensorflow
def test_a_damaged_model_is_an_error_or_has_other_names_but_nothing_else_happens(
    text_embedding: Path,
) -> None:
    content = (text_embedding / "saved_model.pb").read_bytes()
    numbers = random.Random(0)
    damaged = [content[: numbers.randrange(len(content))] for _ in range(100)]
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(numbers.choice((1, 5, 50))):
            changed[numbers.randrange(len(changed))] = numbers.randrange(256)
        damaged.append(bytes(changed))
    refused = 0
    for data in damaged:
        try:
            assert all(isinstance(one, Signature) for one in read_signatures(io.BytesIO(data)))
        except UnreadableModel as error:
            refused += "is damaged" in str(error)
    assert refused > 100


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"", "holds no graph"),
        (b"graph 0", "unknown kind"),
        (b"\x08\x01", "holds no graph"),
        (b"\x12\x05\x00", "ends too early"),
        (b"\x12", "ends too early"),
        (b"\xff" * 20, "ends too early"),
        (b"\x00\x00", "field 0 is of"),
        (b"\x10\x01", "holds no graph"),
    ],
)
def test_what_is_no_saved_model_is_an_error(content: bytes, flaw: str) -> None:
    with pytest.raises(UnreadableModel, match=f"is damaged: .*{flaw}"):
        read_signatures(io.BytesIO(content))


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds a message or text."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x01" * (10 << 20),
        field(2, b"\x38\x01" * (10 << 20)),
        field(2, field(5, b"") * (5 << 20)),
        field(2, field(1, field(4, b"x" * 60_000) * 100)),
        field(2, field(1, field(4, b"x" * (5 << 20)))),
        # Each of many signatures would be listed with all tags of its graph.
        field(2, field(1, field(4, b"x" * 60_000) * 10) + field(5, field(1, b"name")) * 10_000),
        field(2, field(5, field(2, field(1, b"\x12\x04\x1a\x02\x12\x00") * 60_000))),
    ],
    ids=["fields", "in a graph", "signatures", "tags", "a tag", "tags of signatures", "inputs"],
)
def test_a_model_of_very_many_fields_or_names_is_too_large_to_describe(content: bytes) -> None:
    with pytest.raises(UnreadableModel, match="is too large to describe: it has more than"):
        read_signatures(io.BytesIO(content))


def test_info_of_a_model_that_is_too_large_says_so(cache_dir: Path) -> None:
    handle = "https://example.com/m/1"
    ours(cache_dir, handle, {"saved_model.pb": b"\x08\x01" * (1 << 20)})
    info = hub.cache.info(handle)
    assert info.entry.state == "ok"
    assert (info.signatures, info.signatures_error) == (
        None,
        "saved_model.pb is too large to describe: it has more than 200000 fields",
    )


def test_tags_that_each_signature_repeats_are_too_large_to_describe() -> None:
    tag, signature = b"\x22\x00", b"\x2a\x02\x0a\x00"
    info = tag * 5000
    graph = b"\x0a" + varint(len(info)) + info + signature * 5000
    with pytest.raises(UnreadableModel, match="is too large"):
        signatures.read_signatures(io.BytesIO(b"\x12" + varint(len(graph)) + graph))


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
