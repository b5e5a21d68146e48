"""Names that programs written for older versions of tensorflow_hub ask for."""

from __future__ import annotations

import sys

_INSTEAD = {
    "hub.load(handle), or hub.KerasLayer(handle) in a model of Keras": (
        "Module ModuleSpec eval_function_for_module load_module_spec module module_spec"
    ),
    "hub.KerasLayer(handle) in a model of Keras, in place of a feature column of an Estimator": (
        "feature_column feature_column_v2 image_embedding_column sparse_text_embedding_column "
        "text_embedding_column text_embedding_column_v2"
    ),
    "tf.saved_model.save(module, folder) with a tf.Module, or model.export(folder) of Keras": (
        "LatestModuleExporter add_signature attach_message create_module_spec "
        "create_module_spec_from_saved_model estimator native_module register_module_for_export "
        "saved_model_module"
    ),
    "the size that the model's page names; or look at hub.load(handle).signatures": (
        "ImageModuleInfo attach_image_module_info get_expected_image_size get_num_image_channels "
        "image_util"
    ),
}
"""What to write, and the names and modules in whose place. tensorflow_hub 0.15.0 had all of them,
and 0.16.0 none."""


def advice(name: str) -> str:
    """What a program can write in place of a name that tensorflow_hub had; empty for others."""
    for instead, names in _INSTEAD.items():
        if name in names.split():
            return f"tensorflow_hub has had no {name} since 0.16.0. Use {instead}."
    return ""


def absent(package: str, name: str, otherwise: str = "") -> AttributeError | ImportError:
    """The error that `__getattr__` of a package raises for a name that it does not have.

    Args:
        package: the package.
        name: the name.
        otherwise: what to do where tensorflow_hub never had the name.
    """
    module, instead = sys.modules[package], advice(name)
    # `from package import name` replaces an AttributeError by an error without its text. Any other
    # name may be that of a module, or one that `__import__` is given to get the package.
    if instead and sys._getframe(2).f_code.co_name == "_handle_fromlist":
        what = f"cannot import name {name!r} from {package!r} ({module.__file__})"
        return ImportError(f"{what}. {instead}", name=package, path=module.__file__)
    message = f"module {package!r} has no attribute {name!r}. {instead or otherwise}".rstrip()
    return AttributeError(message, name=name, obj=module)  # by which Python suggests another
