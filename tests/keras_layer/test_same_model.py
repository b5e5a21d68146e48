"""The same model code with tensorflow_hub, and with this library on Keras 2 and on Keras 3."""

from __future__ import annotations

from typing import Any

import pytest
from worlds import KERAS_2, KERAS_3, THEIRS, Ran

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("keras_layer")]

OF_TENSORFLOW = [
    "a_module_with_a_layer",
    "a_loop_trains_the_model",
    "variables_are_those_of_tensorflow",
    "an_optimizer_of_tensorflow_1",
    "a_saved_module",
    "a_text_module_is_saved_with_its_table",
    "a_checkpoint",
    "inputs_of_other_types",
    "in_a_dataset",
    "in_a_function",
    "in_a_graph",
    "attributes",
    "arguments_by_position",
]
OF_SUBCLASSES = [
    "a_model_of_tensorflow_1_is_trained",
    "a_model_of_tensorflow_2_is_trained",
    "a_layer_with_weights_of_its_own",
    "it_is_cloned",
    "a_layer_that_builds_a_weight",
    "a_layer_that_is_derived_from_another_as_well",
    "a_property_with_a_mistake",
    "arguments_that_are_shown",
]


def near(value: Any) -> Any:
    """The same, but for what floats can't tell."""
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}
    if isinstance(value, list):
        return [near(item) for item in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
@pytest.mark.parametrize(
    "case",
    [
        "three_steps_with_a_text_model",
        "three_steps_with_a_frozen_text_model",
        "three_steps_with_an_image_model",
        "three_steps_with_a_frozen_image_model",
        "thawing_and_freezing",
        "the_weights_are_those_of_the_model",
        "only_what_is_listed_as_trainable_is_trained",
        "training_on_two_devices",
        "a_training_loop_on_two_devices",
        "trainings_that_learn",
        "dicts_and_lists",
        "a_functional_model_of_dicts",
        "a_subclassed_model",
        "one_layer_called_twice",
        "a_layer_of_keras_as_handle",
        "layers_of_one_object",
        "a_variable_that_is_listed_twice",
        "a_callable_around_a_model_of_keras",
        "losses_beside_the_weights",
        "strings_of_which_keras_was_not_told",
        "python_strings",
        "python_numbers",
        "training_as_a_tensor",
        "a_single_python_string",
        "sparse_numbers",
        "ragged_words",
        "arguments",
        "output_shapes",
        "a_callable_as_handle",
        "exports",
        "a_module_whose_variables_are_not_listed",
        "the_tf1_hub_format",
        "configs",
        "saving_a_text_model",
        "loading_weights",
        "loading_at_once",
        "saving_an_image_model",
        "cloning",
        "names_of_layers",
        "a_new_layer_knows_whether_it_is_built",
        "threads_that_use_one_layer",
        *OF_TENSORFLOW,
        *OF_SUBCLASSES,
    ],
)
def test_a_program_sees_what_it_sees_with_tensorflow_hub(
    ran: dict[str, Ran], case: str, world: str
) -> None:
    assert ran[world].value(case) == near(ran[THEIRS].value(case))


MISTAKES = {
    "a handle that is neither": "Expected a string, got 7",
    "a handle that is not there": "nothing does not exist.",
    "signature without output": (
        "When using a signature, either output_key or signature_outputs_as_dict=True should be set"
    ),
    "signature with two outputs": (
        "When using a signature, either output_key or signature_outputs_as_dict=True should be set"
    ),
    "outputs without signature": (
        "signature_outputs_as_dict is only valid if specifying a signature"
    ),
    "no signature": "Signature name has to be specified for non-callable saved models",
    "unknown signature": "Unknown signature x in ",
    "tags for a callable": "Passing a callable handle is mutually exclusive with setting tags",
    "load_options for a callable": (
        "Passing a callable handle is mutually exclusive with setting load_options"
    ),
    "training a signature": (
        "Setting hub.KerasLayer.trainable = True is unsupported when calling a SavedModel signature"
    ),
    "training TF1": (
        "Setting hub.KerasLayer.trainable = True is unsupported when loading from the TF1 Hub"
    ),
    "output_key of a tensor": "Specifying `output_key` is forbidden if output type ",
    "unknown output_key": "KerasLayer output does not contain the output key x (available: ",
    "a signature of nothing": "Loaded object has no signatures",
    "config of a callable": "Can only generate a valid config for `hub.KerasLayer(handle, ...)`",
    "config of odd arguments": "`hub.KerasLayer(..., arguments)` contains non json-serializable",
    "odd output_shape": "",
    "losses that are no functions": "expects obj.regularization_losses to be an iterable of",
    "an unknown argument": "trainabel",
    "a wrong output_shape": "Tensor's shape (1, 4) is not compatible with supplied shape (1, 7)",
}


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_raises_what_it_raises_with_tensorflow_hub(
    ran: dict[str, Ran], mistake: str, world: str
) -> None:
    theirs, ours = (ran[one].error(f"mistake: {mistake}") for one in (THEIRS, world))
    assert theirs["families"][0] in ours["families"]
    for error in theirs, ours:
        assert MISTAKES[mistake] in error["text"]


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_every_mistake_is_compared(ran: dict[str, Ran], world: str) -> None:
    made = {case.removeprefix("mistake: ") for case in ran[world].seen if "mistake: " in case}
    assert made == set(MISTAKES)


# What the comparisons above are worth: these must be as they are, and not only the same.


def test_the_next_layer_knows_the_shapes_before_any_data_comes(ran: dict[str, Ran]) -> None:
    seen = ran[KERAS_3].value("three_steps_with_a_text_model")
    assert seen["built"] is True
    assert seen["shapes"] == [[None, 4], [None, 5], [None, 1]]
    assert ran[KERAS_3].value("output_shapes")["of a model that knows"] == [None, 6]


def test_training_changes_the_model_unless_it_is_frozen(ran: dict[str, Ran]) -> None:
    for world in (KERAS_2, KERAS_3):
        learned = ran[world].value("trainings_that_learn")
        for kind, variables in (("texts", 1), ("images", 8)):
            assert learned[f"{kind} False"]["moved"] == [False] * variables
            assert learned[f"{kind} True"]["moved"] == [True] * variables
            assert learned[f"{kind} True"]["accuracy"] == 1.0
            assert learned[f"{kind} True"]["before"] < 0.7
            thawed, frozen = (learned[f"{kind} {flag}"]["losses"] for flag in (True, False))
            assert thawed[1] < frozen[1] < frozen[0]


def test_batch_normalisation_and_losses_of_the_model_follow_trainable(
    ran: dict[str, Ran],
) -> None:
    for world in (KERAS_2, KERAS_3):
        frozen, thawed, again = (
            ran[world].value("thawing_and_freezing")[index : index + 3] for index in (0, 3, 6)
        )
        assert [state[0] for state in (frozen, thawed, again)] == [[0, 8], [6, 2], [0, 8]]
        assert [state[1] > 0 for state in (frozen, thawed, again)] == [False, True, False]
        assert frozen[2] == [1.0] * 4  # the moving variance
        assert thawed[2] != frozen[2]
        assert again[2] == thawed[2]


def test_two_devices_train_as_one_does(ran: dict[str, Ran]) -> None:
    assert ran[KERAS_3].value("training_on_two_devices")["devices"] == 2
    _, weights = ran[KERAS_3].value("a_training_loop_on_two_devices")
    assert len(weights) == 5


def test_the_losses_of_a_model_count_once_for_a_layer_that_is_called_twice(
    ran: dict[str, Ran],
) -> None:
    for world in (KERAS_2, KERAS_3):
        once = ran[world].value("three_steps_with_an_image_model")["sum of losses"]
        assert ran[world].value("one_layer_called_twice")[1] == pytest.approx(once)


def test_a_layer_without_weights_to_train_says_so_once(ran: dict[str, Ran]) -> None:
    for world in (KERAS_2, KERAS_3):
        _, count, told = ran[world].value("a_module_whose_variables_are_not_listed")
        assert (count, told) == (0, 1)


# What is better here.


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_a_model_works_under_a_mixed_precision_policy_here(ran: dict[str, Ran], world: str) -> None:
    assert "concrete function" in ran[THEIRS].error("mixed_precision")["text"]
    assert ran[world].value("mixed_precision") == {
        "features": "<dtype: 'float32'>",
        "weights": ["float32"],
        "next layer": "float16",
        "learns": True,
    }


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_a_given_output_shape_is_known_for_batches_of_any_size_here(
    ran: dict[str, Ran], world: str
) -> None:
    assert "<unknown>" in ran[THEIRS].error("a_given_output_shape")["text"]
    assert ran[world].value("a_given_output_shape") == {
        "known": [None, 3],
        "computed": [None, 3],
        "losses": 1,
    }


def test_keras_3_says_that_it_needs_an_output_shape(ran: dict[str, Ran]) -> None:
    for world in (THEIRS, KERAS_2):
        assert ran[world].value("an_unknown_output_shape") == [None]
    error = ran[KERAS_3].error("an_unknown_output_shape")
    assert "ValueError" in error["families"]
    assert "Pass output_shape" in error["text"]
    assert "of_unknown_shape" in error["text"]


def test_keras_3_refuses_a_config_without_a_string_as_handle(ran: dict[str, Ran]) -> None:
    error = ran[KERAS_3].error("a_config_without_a_string_as_handle")
    assert "ValueError" in error["families"]
    assert "has no handle but ['a']" in error["text"]


def test_keras_3_trains_a_variable_of_an_open_shape_here(ran: dict[str, Ran]) -> None:
    trained, after = ran[KERAS_3].value("a_variable_of_an_open_shape")
    assert trained == 1
    assert after != [[1.0]] * 3


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_tags_are_in_the_config_here(ran: dict[str, Ran], world: str) -> None:
    theirs, ours = (ran[one].value("tags_in_a_config") for one in (THEIRS, world))
    assert theirs == [[None, False], [None, False]]
    assert ours == [[["train"], True], ["train", True]]


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_a_config_of_nested_output_shapes_computes_them_here(
    ran: dict[str, Ran], world: str
) -> None:
    assert ran[THEIRS].error("nested_output_shapes")
    assert ran[world].value("nested_output_shapes") == {
        "computed": {"numbers": [None, 2], "text": [None, 1]}
    }


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_a_function_that_takes_training_is_told_here(ran: dict[str, Ran], world: str) -> None:
    assert ran[THEIRS].value("a_function_that_takes_training") == [False, False]
    assert ran[world].value("a_function_that_takes_training") == [False, True]
