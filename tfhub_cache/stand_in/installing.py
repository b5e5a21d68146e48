"""Putting the stand-in's folder on `sys.path` of a process."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import PathFinder

NAME = "tensorflow_hub"
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site-packages")
"""At the front of `sys.path`, or in PYTHONPATH, it makes `import tensorflow_hub` import this."""


def install_as_tensorflow_hub() -> None:
    """Makes `import tensorflow_hub` import this library, everywhere in this process.

    Call it at the top of the program, before anything imports tensorflow_hub. Packages that use
    tensorflow_hub then work unchanged, whether or not it is installed. Both names lead to the same
    objects: a resolver that is added through one of them is used through the other. Processes that
    `multiprocessing` starts stand in as well; other programs that this one starts do not.

    A second call does nothing. The effect can't be undone within the process. Neither it nor
    `import tensorflow_hub` imports TensorFlow; `tensorflow_hub.KerasLayer` does.

    `tensorflow_hub.__version__` is then "0.16.1", the version with the same interface.

    Raises:
        RuntimeError: if tensorflow_hub, or a module of it, has been imported already, since
            modules that hold it would keep using it.

    Example:
        ```python
        import tfhub_cache

        tfhub_cache.install_as_tensorflow_hub()

        import package_that_uses_tensorflow_hub
        ```
    """
    _refuse_another()
    if NAME not in sys.modules:
        rest = [entry for entry in sys.path if entry != FOLDER]
        # Programs rely on the folder of the script being the first entry.
        position = 0 if PathFinder.find_spec(NAME, rest[:1]) else 1
        sys.path[:] = [*rest[:position], FOLDER, *rest[position:]]
    # Import it now, before the program changes sys.path.
    importlib.import_module(NAME)
    _refuse_another()  # which a finder in sys.meta_path may have brought


def _refuse_another() -> None:
    """Raises a RuntimeError if a tensorflow_hub that is not the stand-in is imported."""
    for name, module in list(sys.modules.items()):
        file = str(getattr(module, "__file__", None) or "a module without a file")
        if name.partition(".")[0] == NAME and not file.startswith(FOLDER + os.sep):
            raise RuntimeError(
                f"tfhub_cache can't stand in for tensorflow_hub: {name} is imported already "
                f"({file}), and modules that hold it would keep using it. Call "
                "install_as_tensorflow_hub() at the top of the program, before any import that "
                "may import tensorflow_hub (in a notebook, restart the kernel first), or start "
                "the program with: python -m tfhub_cache run script.py"
            )
