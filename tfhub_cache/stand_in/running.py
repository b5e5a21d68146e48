"""`run`: a program started as `python` starts it, with tfhub_cache in place of tensorflow_hub.

What a program sees is what `python script.py`, `python -m module` and `python -c code` show it
(https://docs.python.org/3/using/cmdline.html): `sys.argv`, the first entry of `sys.path`, a module
`__main__` of its own, tracebacks that begin with its own code. Exit codes and signals are its own,
too, as its exceptions go up to the interpreter.
"""

from __future__ import annotations

import builtins
import io
import marshal
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType, TracebackType

from tfhub_cache.stand_in import install_as_tensorflow_hub

_HEADER_OF_PYC = 16
"""Bytes before the code (https://peps.python.org/pep-0552/)."""

HELP = """\
usage: python -m tfhub_cache run [--] script.py [argument ...]
       python -m tfhub_cache run -m module [argument ...]
       python -m tfhub_cache run -c code [argument ...]

Runs a program as python does, with tfhub_cache in place of tensorflow_hub: wherever the program, or
a package that it uses, says `import tensorflow_hub`, it gets this library. Nothing has to be
changed, and tensorflow_hub need not be installed.

examples:
  python -m tfhub_cache run train.py --epochs 3
  python -m tfhub_cache run -m package.train --epochs 3
  python -m tfhub_cache run -m pytest tests
  python -m tfhub_cache run "$(command -v some-command)" --option

Options of python itself go before -m: python -u -W error -m tfhub_cache run train.py
"""


def run(arguments: Sequence[str]) -> int:
    """Runs a program, with this library standing in for tensorflow_hub.

    It changes `sys.argv`, `sys.path` and `__main__` for good, as the program is meant to be the
    rest of this process.

    Args:
        arguments: what follows `run` on the command line: `script.py`, `-m module` or `-c code`,
            then the program's arguments. A script may be a folder or a zip file with a
            `__main__.py`. A script whose name begins with `-` goes after `--`.

    Returns:
        The status to exit with: 0 when the program ran to its end; 2 if the arguments make no
        sense or the script can't be read.

    Raises:
        BaseException: what the program raises, `SystemExit` included. An uncaught one is shown
            without the frames of this library. Where there is no such module, it is a `SystemExit`
            with the line that python prints.
        RuntimeError: if tensorflow_hub is already imported in this process.
    """
    match arguments:
        case ["-h" | "--help", *_]:
            print(HELP, end="")
            return 0
        case ["-m", module, *rest]:
            return _start(["-m", *rest], os.getcwd(), lambda: _run_module(module))
        case ["-c", code, *rest]:
            return _start(["-c", *rest], "", lambda: _execute(code, "<string>"))
        case ["--", script, *rest]:
            return _run_script(script, rest)
        case [script, *rest] if not script.startswith("-"):
            return _run_script(script, rest)
        case [option, *_]:
            return _refuse(f"{option} is unknown, or lacks what should follow it.\n{HELP}")
        case _:
            return _refuse(f"no program is named.\n{HELP}")


def _run_script(script: str, arguments: Sequence[str]) -> int:
    argv = [script, *arguments]
    path = os.path.abspath(script)
    if pkgutil.get_importer(path) is not None:  # a folder or a zip file
        return _start(argv, None, lambda: _run_folder(path))
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        return _refuse(f"can't open {script!r}: {error.strerror}.\n")
    code: bytes | CodeType = source
    if source.startswith(MAGIC_NUMBER):
        code = marshal.loads(source[_HEADER_OF_PYC:])  # noqa: S302 - to run it is the point
    elif path.endswith(".pyc"):
        return _refuse(f"{script!r} was compiled by another version of Python.\n")
    return _start(argv, os.path.dirname(os.path.realpath(path)), lambda: _execute(code, path))


def _start(argv: list[str], first_of_path: str | None, program: Callable[[], object]) -> int:
    sys.argv[:] = argv
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        # What is there is our own folder, or the one of the command that was typed.
        sys.path[:1] = [] if first_of_path is None else [first_of_path]
    install_as_tensorflow_hub()
    try:
        program()
    except BaseException as error:
        _show_without_our_frames(error, _below_here(error.__traceback__))
        raise
    return 0


# What is public in runpy takes `__main__` away when the program has run, while its threads and its
# atexit handlers go on. This is what python itself calls.


def _run_module(name: str) -> None:
    _new_main()
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_folder(path: str) -> None:
    _new_main()
    sys.path.insert(0, path)
    runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]


def _execute(program: str | bytes | CodeType, filename: str) -> None:
    main = _new_main()
    if not isinstance(program, str):
        main.__file__ = filename
    if not isinstance(program, CodeType):
        program = compile(program, filename, "exec", dont_inherit=True)
    exec(program, vars(main))  # noqa: S102


def _new_main() -> ModuleType:
    """A `__main__` for the program, which stays for what runs until the very end."""
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    main.__package__ = None
    return main


def _refuse(why: str) -> int:
    print(f"tfhub_cache run: {why}", end="", file=sys.stderr)
    return 2


def _below_here(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the program's code."""
    ours = {code.co_filename for code in (run.__code__, runpy.run_path.__code__)}
    while traceback is not None and traceback.tb_frame.f_code.co_filename in ours:
        traceback = traceback.tb_next
    return traceback


def _show_without_our_frames(error: BaseException, traceback: TracebackType | None) -> None:
    """Prepares for the interpreter showing an error that nobody catches."""
    show = sys.excepthook

    def excepthook(
        kind: type[BaseException], value: BaseException, shown: TracebackType | None
    ) -> None:
        if value is error:
            shown = traceback
            value = value.with_traceback(traceback)
        show(kind, value, shown)

    sys.excepthook = excepthook
