"""A program of somebody who loads models: `python program.py tensorflow_hub` or `... tfhub_cache`.

Between the two, nothing differs but the import. It reads tasks from stdin, one JSON object a line,
and answers each with one line on stdout: what a caller would have seen.

A task holds `do` (a function below) with its arguments, `cwd` and `env`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
import traceback
from typing import Any

# Whatever else writes to stdout must not get between the answers.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

hub = importlib.import_module(sys.argv[1])
registry = importlib.import_module(f"{sys.argv[1]}.registry")
resolver = importlib.import_module(f"{sys.argv[1]}.resolver")


class Heard(logging.Handler):
    """Remembers what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def resolve(handle: Any) -> Any:
    return hub.resolve(handle)


def load(
    handle: Any,
    tags: list[str] | None = None,
    options: dict[str, Any] | None = None,
    call: list[str] | None = None,
) -> Any:
    """What a loaded model looks like, and what it answers."""
    import tensorflow as tf

    arguments: dict[str, Any] = {}
    if tags is not None:
        arguments["tags"] = tags
    if options is not None:
        arguments["options"] = tf.saved_model.LoadOptions(**options)
    return describe(hub.load(handle, **arguments), call)


def load_in_a_set(handle: str, tags: list[str]) -> Any:
    """As the documentation of `load` has it: a set of strings."""
    return describe(hub.load(handle, set(tags)), None)


def load_in_graph_mode(handle: str, call: list[str]) -> Any:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        model = hub.load(handle)
        answer = model(tf.constant(call))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        return session.run(answer).tolist()


def describe(model: Any, call: list[str] | None) -> Any:
    import tensorflow as tf

    seen: dict[str, Any] = {
        "v1": model._is_hub_module_v1,
        "type": type(model).__name__,
        "callable": callable(model),
        "signatures": {},
        "variables": sorted(
            [variable.name, str(variable.dtype), variable.shape.as_list()]
            for variable in getattr(model, "variables", [])
        ),
    }
    for name, signature in model.signatures.items():
        inputs = signature.structured_input_signature[1]
        value: Any = {
            key: tf.constant(call or ["the cat"])
            if spec.dtype == tf.string
            else tf.ones([2, *spec.shape[1:]], spec.dtype)
            for key, spec in inputs.items()
        }
        answer = signature(**value)
        seen["signatures"][name] = {key: answer[key].numpy().tolist() for key in sorted(answer)}
    if call is not None:
        seen["answer"] = model(tf.constant(call)).numpy().tolist()
    return seen


def custom_resolver(handle: str, prefix: str, path: str) -> Any:
    """A program that brings a resolver along."""

    class Custom(resolver.Resolver):
        def is_supported(self, handle: str) -> bool:
            return handle.startswith(prefix)

        def __call__(self, handle: str) -> str:
            return path

    class CustomHttp(resolver.HttpResolverBase):
        def is_supported(self, handle: str) -> bool:
            return self.is_http_protocol(handle) and prefix in handle

        def __call__(self, handle: str) -> str:
            return path

    with resolvers_put_back():
        registry.resolver.add_implementation(Custom())
        registry.resolver.add_implementation(CustomHttp())
        return hub.resolve(handle)


def no_resolver(handle: str) -> Any:
    with resolvers_put_back():
        registry.resolver.clear_implementations()
        return hub.resolve(handle)


@contextlib.contextmanager
def resolvers_put_back() -> Any:
    known = next(list(value) for value in vars(registry.resolver).values() if type(value) is list)
    try:
        yield
    finally:
        registry.resolver.clear_implementations()
        for implementation in known:
            registry.resolver.add_implementation(implementation)


def settings() -> Any:
    """What custom resolvers can ask for."""
    return [
        resolver.tfhub_cache_dir(),
        resolver.tfhub_cache_dir("given"),
        resolver.tfhub_cache_dir(use_temp=True),
        resolver.tfhub_cache_dir("given", use_temp=True),
        resolver.model_load_format(),
        [load_format.value for load_format in resolver.ModelLoadFormat],
    ]


@contextlib.contextmanager
def surroundings(cwd: str, env: dict[str, str]) -> Any:
    before = dict(os.environ), os.getcwd()
    os.environ.update(env)
    os.chdir(cwd)
    tempfile.tempdir = None  # Python remembers where TMPDIR was
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])


def run(do: str, cwd: str, env: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {"value": None, "error": None}
    with surroundings(cwd, env):
        heard.lines.clear()
        try:
            seen["value"] = globals()[do](**arguments)
        except Exception as error:
            traceback.print_exc()
            seen["error"] = {
                "type": type(error).__name__,
                "families": [kind.__name__ for kind in type(error).__mro__],
                "text": str(error),
            }
        seen["log"] = list(heard.lines)
    return seen


heard = Heard()
absl_logging = importlib.import_module("absl.logging")
absl_logging.set_verbosity(absl_logging.INFO)
absl_logging.get_absl_logger().addHandler(heard)

if __name__ == "__main__":
    for line in sys.stdin:
        ANSWERS.write(json.dumps(run(**json.loads(line))) + "\n")
        ANSWERS.flush()
