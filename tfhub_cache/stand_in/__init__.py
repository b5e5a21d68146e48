"""Standing in for tensorflow_hub: programs that say `import tensorflow_hub` get this library.

Beside this file lies `site-packages`, a folder with a package `tensorflow_hub` that hands on what
tfhub_cache has, and with the metadata of a distribution of that name. Standing in means that the
folder is on `sys.path` before the one where the real tensorflow_hub may be. Nothing of the import
system is replaced, so all of Python knows how to deal with it: the modules have specs and files,
can be reloaded and inspected, `importlib.metadata` finds a version, and a child process that is
spawned by multiprocessing stands in too, as it is given the `sys.path` of its parent.

What is promised is the interface of tensorflow_hub 0.16.1, and so this is the version that the
package tells: programs compare it. What is not: the functions that only tensorflow_hub itself uses.
"""

from tfhub_cache.stand_in.installing import FOLDER, NAME, install_as_tensorflow_hub

__all__ = ["FOLDER", "NAME", "install_as_tensorflow_hub"]
