"""The stand-in: programs that import tensorflow_hub get this library.

The folder `site-packages` beside this file has a package `tensorflow_hub`, which exports the public
names of tfhub_cache, and the metadata of a distribution of that name. To stand in, the folder is
put on `sys.path` before the folder of the real tensorflow_hub. The import system is used as it is,
so the modules have specs and files, can be reloaded and inspected, `importlib.metadata` finds a
version, and a child process of multiprocessing, which inherits `sys.path`, stands in as well.

The stand-in has the interface of tensorflow_hub 0.16.1, and that version, since programs compare
it. It does not have the functions that only tensorflow_hub itself uses.
"""

from tfhub_cache.stand_in.installing import FOLDER, NAME, install_as_tensorflow_hub

__all__ = ["FOLDER", "NAME", "install_as_tensorflow_hub"]
