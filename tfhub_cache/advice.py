"""What to do about a folder that TensorFlow can't load a model from."""

from __future__ import annotations

import os
import re
from shlex import quote

from tfhub_cache.resolvers.kaggle import use_of
from tfhub_cache.unpacking.kinds import LONGEST_MAGIC, kind_of
from tfhub_cache.urls import printable, redact

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MOST_SHOWN = 5
"""Names of files in a message."""
_NOT_READ_AS_WRITTEN = re.compile(r"\[.*\]|\\")
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")
_OPS_OF_TEXT = re.compile(
    "TFText>|UTF8|Offsets|Sentence|Tokenize|BertNormalize|ConstrainedSequence|MaxSpanningTree|RougeL"
)
_WORKER_NOTE = """\
The model is in {path} on this machine, but the worker that loads it (a TPU in Colab, say) can't \
read this machine's disk. Two ways out:
  1. let the worker read a bucket: set TFHUB_MODEL_LOAD_FORMAT=UNCOMPRESSED, or \
TFHUB_CACHE_DIR=gs://your-bucket/folder;
  2. read through this machine: \
hub.load(handle, options=tf.saved_model.LoadOptions(experimental_io_device="/job:localhost"))."""
_PATTERN_NOTE = """\
TensorFlow reads {part!r} in the path {path} as a pattern, so it does not find the model's \
variables, which are there. Rename the folder; for the cache, set TFHUB_CACHE_DIR to another."""
_OP_NOTE = """\
{handle} uses the operation {op}, which TensorFlow knows only after the package that has it was \
imported. {package}"""
_OF_TEXT = """\
It is one of TensorFlow Text: add `import tensorflow_text` before the model is loaded. \
It must have TensorFlow's version: pip install 'tensorflow-text=={version}.*'"""
_OF_ANOTHER = """\
The model's page should name that package: import it before the model is loaded."""


def what_is_not_loaded(handle: str, path: str) -> str:
    """The text of the error for a path that exists and has no SavedModel, with what is there."""
    # The first two sentences are tensorflow_hub's.
    message = (
        f"Trying to load a model of incompatible/unknown type. '{path}' contains neither "
        f"'{SAVED_MODEL_FILES[0]}' nor '{SAVED_MODEL_FILES[1]}'."
    )
    if path not in (handle, handle.strip()):
        message = f"{message} It is the folder of {redact(handle)}."
    return f"{message}{use_of(handle)} {_what_is_there(handle, path)}".rstrip()


def _what_is_there(handle: str, path: str) -> str:
    """What is at a path on this machine instead of a SavedModel, and what to do with it."""
    local = path.removeprefix("file://").rstrip("/")
    try:
        if os.path.isfile(local):
            return _what_file(local)
        names = sorted(os.listdir(local))
    except OSError:  # a folder in a bucket, say
        return ""
    for name in names:
        if any(os.path.isfile(os.path.join(local, name, one)) for one in SAVED_MODEL_FILES):
            if path in (handle, handle.strip()):
                return f"It is one folder down: pass {local}/{name}."
            return (
                f"The archive has it one folder down, in {name!r}: "
                f"hub.load(hub.resolve(handle) + {'/' + name!r}) loads it."
            )
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"It holds {', '.join(map(repr, names[:_MOST_SHOWN]))}{more}." if names else ""


def _what_file(path: str) -> str:
    if os.path.basename(path) in SAVED_MODEL_FILES:
        return f"Pass its folder: {os.path.dirname(path) or '.'}."
    if path.endswith(_ARCHIVES):
        command = f"tar -xf {quote(path)}"
        return f"It is an archive: unpack it, such as with {command}, and pass the folder."
    with open(path, "rb") as file:
        kind = kind_of(file.read(LONGEST_MAGIC))
    return f"It is {kind.name}: {kind.use}." if kind and kind.use else "It is a file, not a folder."


def note_on(error: Exception, handle: str, path: str) -> str | None:
    """What to add to TensorFlow's error where it can't load a SavedModel that is there."""
    import tensorflow as tf

    message = str(error)
    if match := _MISSING_OP.search(message):
        version = ".".join(tf.__version__.split(".")[:2])
        package = _OF_TEXT.format(version=version) if _OPS_OF_TEXT.search(match[1]) else _OF_ANOTHER
        return _OP_NOTE.format(handle=redact(handle), op=printable(match[1]), package=package)
    local = path.removeprefix("file://").rstrip("/")
    is_here = os.path.exists(f"{local}/variables/variables.index")
    not_found = "Failed to find any matching files" in message and is_here
    # On a worker that has no disk of its own to look at, there is another error.
    if not_found or "File system scheme '[local]' not implemented" in message:
        devices = [device.name for device in tf.config.list_logical_devices()]
        if any("/job:" in name and "/job:localhost/" not in name for name in devices):
            return _WORKER_NOTE.format(path=path)
    if not_found and (match := _NOT_READ_AS_WRITTEN.search(local)):
        return _PATTERN_NOTE.format(path=path, part=match[0])
    return None
