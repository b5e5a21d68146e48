"""Names that programs written for older versions of tensorflow_hub ask for."""

from __future__ import annotations

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


def advice(name: str) -> str | None:
    """What a program can write in place of a name that tensorflow_hub had, if it is one."""
    for instead, names in _INSTEAD.items():
        if name in names.split():
            return f"tensorflow_hub has had no {name} since 0.16.0. Use {instead}."
    return None
