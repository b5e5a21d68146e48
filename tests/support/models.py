"""Models for tests: real SavedModels, folders that look like one, and archives of both.

TensorFlow is imported by the functions that need it. What a model computes is the same each time,
and so are its files, but for two: TensorFlow writes a random number into `fingerprint.pb`, and the
place where the vocabulary came from into `saved_model.pb`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

Compression: TypeAlias = Literal["gz", "bz2", "xz"] | None
Member: TypeAlias = tuple[tarfile.TarInfo, bytes]

VOCABULARY = ("the", "cat", "sat", "on", "a", "mat", "größe", "犬")
DIMENSIONS = 4


def embedding(sentence: str) -> list[float]:
    """What `text_embedding` and `tf1_hub_module` answer for a sentence, worked out by hand."""
    rows = [_row(word) for word in sentence.split()]
    return [sum(column) / max(1, len(rows)) for column in zip(*rows, strict=True)] or [
        0.0
    ] * DIMENSIONS


def _row(word: str) -> list[float]:
    index = VOCABULARY.index(word) if word in VOCABULARY else len(VOCABULARY)
    return vectors()[index]


def vectors() -> list[list[float]]:
    """The embedding: a row for each word, and one for those that are not in the vocabulary."""
    return [
        [math.sin(1 + row * DIMENSIONS + column) for column in range(DIMENSIONS)]
        for row in range(len(VOCABULARY) + 1)
    ]


def text_embedding(folder: Path) -> Path:
    """A TF2 SavedModel: variable, vocabulary as an asset, `__call__` and a signature."""
    import tensorflow as tf

    class TextEmbedding(tf.Module):
        def __init__(self, vocabulary: str) -> None:
            super().__init__()
            self.table = lookup_table(tf, vocabulary)
            self.embedding = tf.Variable(vectors(), dtype=tf.float32, name="embedding")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="sentences")])
        def __call__(self, sentences):
            return embed(tf, self.table, self.embedding, sentences)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="sentences")])
        def serve(self, sentences):
            return {"embeddings": self(sentences)}

    module = TextEmbedding(str(write_vocabulary(folder)))
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return without_vocabulary(folder)


def keras_export(folder: Path) -> Path:
    """What `model.export` of Keras 3 writes: an endpoint `serve`, which doubles and adds one."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((3,), name="features"),
            keras.layers.Dense(
                3, kernel_initializer=keras.initializers.Identity(2.0), bias_initializer="ones"
            ),
        ]
    )
    model.export(str(folder), verbose=False)
    return folder


def tf1_hub_module(folder: Path) -> Path:
    """A module in the TF1 Hub format: graphs tagged {"train"} and {}, signature `default`.

    It answers as `text_embedding` does; in the graph for training, twice as much.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    vocabulary = str(write_vocabulary(folder))
    builder = v1.saved_model.Builder(str(folder))
    for tags, factor in ((["train"], 2.0), ([], 1.0)):
        with tf.Graph().as_default(), v1.Session() as session:
            sentences = v1.placeholder(tf.string, [None], name="sentences")
            table = lookup_table(tf, vocabulary)
            variable = v1.get_variable(
                "embedding", initializer=tf.constant(vectors(), tf.float32), use_resource=False
            )
            answer = factor * embed(tf, table, variable, sentences)
            signature = v1.saved_model.predict_signature_def(
                {"default": sentences}, {"default": answer}
            )
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            save = {
                "signature_def_map": {"default": signature},
                "assets_collection": v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
                "main_op": v1.tables_initializer(),
            }
            if tags:  # the first graph brings the variables for all
                builder.add_meta_graph_and_variables(session, tags, **save)
            else:
                builder.add_meta_graph(tags, **save)
    builder.save()
    # message ModuleDef { Format format = 1; }, and FORMAT_V3 is 3
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return without_vocabulary(folder)


def large(folder: Path, megabytes: int) -> Path:
    """A SavedModel with so many MB of numbers that hardly compress, in eight variables."""
    import numpy as np
    import tensorflow as tf

    class Large(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            numbers = np.random.default_rng(0)
            self.weights = [
                tf.Variable(numbers.random(megabytes * 1_000_000 // 32, np.float32), name=f"w{i}")
                for i in range(8)
            ]

        @tf.function(input_signature=[])
        def __call__(self):
            return tf.stack([tf.reduce_mean(weight) for weight in self.weights])

    tf.saved_model.save(Large(), str(folder))
    return folder


def lookup_table(tf, vocabulary: str):
    keys = tf.lookup.TextFileInitializer(
        vocabulary,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticVocabularyTable(keys, num_oov_buckets=1)


def embed(tf, table, variable, sentences):
    words = tf.strings.split(sentences)
    rows = tf.gather(variable, table.lookup(words.flat_values))
    sums = tf.math.segment_sum(rows, words.value_rowids())
    # Empty sentences at the end have no segment.
    missing = tf.cast(words.nrows(), tf.int32) - tf.shape(sums)[0]
    sums = tf.pad(sums, [[0, missing], [0, 0]])
    counts = tf.cast(words.row_lengths(), tf.float32)[:, tf.newaxis]
    return tf.math.divide_no_nan(sums, counts)


def write_vocabulary(folder: Path) -> Path:
    path = folder.with_name(f"{folder.name}.vocabulary") / "vocab.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{word}\n" for word in VOCABULARY), encoding="utf-8", newline="\n")
    return path


def without_vocabulary(folder: Path) -> Path:
    """Removes the file that the model was made from, so that it has to use its asset."""
    path = folder.with_name(f"{folder.name}.vocabulary") / "vocab.txt"
    path.unlink()
    path.parent.rmdir()
    return folder


# Folders of files, for tests that don't need TensorFlow.


def fake_model(*, size: int = 300_000, seed: int = 0) -> dict[str, bytes]:
    """The files of something that looks like a SavedModel, with `size` bytes of variables."""
    return {
        "saved_model.pb": b"graph %d" % seed,
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": random.Random(seed).randbytes(size),
        "assets/vocab.txt": b"".join(b"word %d\n" % number for number in range(1000)),
    }


def read_files(folder: Path | str) -> dict[str, bytes]:
    """The files in a folder, by their paths with slashes."""
    root = Path(folder)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def write_files(files: Mapping[str, bytes], folder: Path) -> Path:
    """Writes files into a folder, which is made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


# Archives.


def pack(
    folder: Path,
    *,
    compression: Compression = "gz",
    dot_slash: bool = True,
    folders: bool = True,
    extra_members: Iterable[Member] = (),
) -> bytes:
    """An archive of a folder; see `pack_files`."""
    return pack_files(
        read_files(folder),
        compression=compression,
        dot_slash=dot_slash,
        folders=folders,
        extra_members=extra_members,
    )


def pack_files(
    files: Mapping[str, bytes],
    *,
    compression: Compression = "gz",
    dot_slash: bool = True,
    folders: bool = True,
    extra_members: Iterable[Member] = (),
) -> bytes:
    """An archive of files, the same bytes each time.

    Args:
        files: what is in it, by paths with slashes.
        compression: how it is compressed.
        dot_slash: whether the members' names begin with "./".
        folders: whether folders have members of their own, ahead of what is in them.
        extra_members: what comes after the files; see `member`.
    """
    prefix = "./" if dot_slash else ""
    members: list[Member] = []
    if folders:
        if dot_slash:
            members.append(member("./", tarfile.DIRTYPE, mode=0o755))
        parents = {parent for name in files for parent in _parents(name)}
        members += [member(prefix + name, tarfile.DIRTYPE, mode=0o755) for name in sorted(parents)]
    members += [member(prefix + name, data=content) for name, content in files.items()]
    members += extra_members

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    data = buffer.getvalue()
    if compression == "gz":
        return gzip.compress(data, compresslevel=1, mtime=0)
    if compression == "bz2":
        return bz2.compress(data)
    if compression == "xz":
        return lzma.compress(data, preset=0)
    return data


def member(
    name: str,
    type: bytes = tarfile.REGTYPE,  # noqa: A002 - as tarfile calls it
    *,
    data: bytes = b"",
    linkname: str = "",
    mode: int = 0o644,
) -> Member:
    """One member of an archive, of any name and kind: `member("../x", data=b"")`,
    `member("link", tarfile.SYMTYPE, linkname="/etc/passwd")`.
    """
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = type, len(data), linkname, mode
    return info, data


def _parents(name: str) -> Sequence[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]
