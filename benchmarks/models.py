"""The models: each an archive, made at its first use and kept for the next run.

Weights are 32-bit floats around zero, which compress as trained ones do: hardly. The archives are
made by gzip at its default level, as publishers make them.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.progress import say

_VERSION = 1
"""Increase it when a model changes, so that it is made again."""
_BLOCK = 32 << 20


@dataclass(frozen=True)
class Models:
    """The archives of the models, by how large they are to be.

    Attributes:
        folder: where the archives are kept.
        weights: MiB of weights of the large model.
        vocabulary: MB of the text beside them.
        bulk: MB of the models that are to show how much memory is needed.
    """

    folder: Path
    weights: int
    vocabulary: int
    bulk: int

    def large(self) -> Path:
        """A SavedModel of eight tensors and a vocabulary."""
        return self._saved_model(self.weights, self.vocabulary)

    def small(self) -> Path:
        """A SavedModel of 1 MiB, in five files."""
        return self._saved_model(1, 0)

    def zeros(self) -> Path:
        """What compresses best: a model's variables are all zero."""
        return self._bulk("zeros", bytes)

    def noise(self) -> Path:
        """What compresses worst."""
        return self._bulk("noise", random.Random(0).randbytes)

    def files(self, count: int, size: int) -> Path:
        """A model of so many files of so many bytes each."""

        def build(archive: IO[bytes]) -> None:
            block = random.Random(0).randbytes(min(size, _BLOCK))
            with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
                _add(tar, "saved_model.pb", 5, [b"graph"])
                for number in range(count):
                    blocks = (block[: size - done] for done in range(0, size, _BLOCK))
                    _add(tar, f"assets/{number:05}", size, blocks)

        return self._kept(f"{count}-files-of-{size}", build)

    def _saved_model(self, weights: int, vocabulary: int) -> Path:
        def build(archive: IO[bytes]) -> None:
            with tempfile.TemporaryDirectory(dir=self.folder) as model:
                # TensorFlow would stay in memory, and count for every process started from here.
                command = [sys.executable, "-m", "benchmarks.models", model]
                # It also writes a lot about this machine to stderr.
                subprocess.run(
                    [*command, str(weights), str(vocabulary)], check=True, capture_output=True
                )
                with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=6) as tar:
                    tar.add(model, ".")

        return self._kept(f"model-{weights}MiB-{vocabulary}MB", build)

    def _bulk(self, kind: str, block: Callable[[int], bytes]) -> Path:
        def build(archive: IO[bytes]) -> None:
            size = self.bulk * 1_000_000
            with _fast_gzip(archive) as plain, tarfile.open(fileobj=plain, mode="w|") as tar:
                _add(tar, "saved_model.pb", 5, [b"graph"])
                one = block(_BLOCK)
                blocks = (one[: size - done] for done in range(0, size, _BLOCK))
                _add(tar, "variables/variables.data-00000-of-00001", size, blocks)
                _add(tar, "variables/variables.index", 5, [b"index"])

        return self._kept(f"{kind}-{self.bulk}MB", build)

    def _kept(self, name: str, build: Callable[[IO[bytes]], None]) -> Path:
        path = self.folder / f"{name}-v{_VERSION}.tar.gz"
        if not path.exists():
            say(f"making {path.name}, once")
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            with unfinished.open("wb") as archive:
                build(archive)
            unfinished.rename(path)
        return path


def _fast_gzip(archive: IO[bytes]) -> Any:
    """Gzip of what takes zlib minutes."""
    try:
        from isal import igzip

        return igzip.open(archive, "wb")
    except ImportError:
        import gzip

        return gzip.open(archive, "wb", compresslevel=1)


def _add(tar: tarfile.TarFile, name: str, size: int, blocks: Iterable[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, io.BufferedReader(_Blocks(blocks), _BLOCK))


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._rest = self._rest or memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def save(folder: Path, weights: int, vocabulary: int) -> None:
    """Saves a SavedModel of so many MiB of weights and MB of words."""
    import numpy as np
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        words = Path(scratch, "tokens.txt")
        words.write_bytes(_words(max(10_000, vocabulary * 1_000_000)))
        numbers = np.random.default_rng(0)
        shape = (weights << 20) // 4 // 8
        model = tf.Module()
        model.weights = [
            tf.Variable(0.05 * numbers.standard_normal(shape, np.float32), name=f"w{i}")
            for i in range(8)
        ]
        model.vocabulary = tf.saved_model.Asset(str(words))
        model.mean = tf.function(
            lambda: tf.stack([tf.reduce_mean(weight) for weight in model.weights]),
            input_signature=[],
        )
        tf.saved_model.save(model, str(folder))


def _words(size: int) -> bytes:
    """So many bytes of made-up words, one a line."""
    choose = random.Random(0).choices
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "er", "un")]
    text = io.StringIO()
    while text.tell() < size:
        lengths = choose((1, 2, 3, 4), (1, 4, 3, 1), k=10_000)
        text.write("".join("".join(choose(syllables, k=length)) + "\n" for length in lengths))
    return text.getvalue().encode()[:size]


if __name__ == "__main__":
    save(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
