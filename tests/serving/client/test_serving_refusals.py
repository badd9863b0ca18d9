"""Messages of a client about a refused request: that of the server, with advice."""

import grpc
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
from tensorflow_serving.apis import model_pb2

from serving.client.refusals import explain
from serving.predict import bind_inputs
from serving.servable import Servable
from serving.status import ServingError

MODEL = model_pb2.ModelSpec(name="films")
SIZES = "input size does not match signature: 1!=3 len({history}) != len({history,history_times,request_time}). "


def words(said, code=grpc.StatusCode.INVALID_ARGUMENT, model=MODEL):
    return explain(code, said, "host:8500", model, 2.0)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            f"{SIZES}Sent extra: {{}}. Missing but required: {{history_times,request_time}}.",
            "This model reads times: give `times` and `request_time`",
        ),
        (
            f"{SIZES}Sent extra: {{history_times,request_time}}. Missing but required: {{}}.",
            "This model reads no times: leave out",
        ),
        (
            f"{SIZES}Sent extra: {{}}. Missing but required: {{history_dwell}}.",
            "Give in `features` the inputs that the model of this bundle reads",
        ),
        (
            f"{SIZES}Sent extra: {{history_dwell}}. Missing but required: {{}}.",
            "Give in `features` the inputs that the model of this bundle reads",
        ),
        (
            f"{SIZES}Sent extra: {{joint_alpha}}. Missing but required: {{}}.",
            "The bundle and this client are of different releases of tfdnc",
        ),
        (
            'Serving signature key "describe" not found.',
            "Model 'films' is no tfdnc bundle, or one that was exported by an older tfdnc",
        ),
        ("Unrecognized servable version label: x", "Give a label that the server's config file has for model 'films'"),
    ],
)
def test_the_message_of_the_server_comes_first_and_then_advice(said, advice):
    message = words(said)
    assert message.startswith(said)
    assert advice in message.removeprefix(said)


def test_other_messages_of_a_server_stand_alone():
    assert words("Expected num_candidates in 1..50 in every row.") == "Expected num_candidates in 1..50 in every row."
    assert words(f"{SIZES}Sent extra: {{x}}. Missing but required: {{y}}.").endswith("{y}.")


NODE = "\n\t [[{{function_node __inference_retrieve_1}}{{node assert_less_equal_1/Assert/Assert}}]]"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            "[Condition x <= y did not hold element-wise:] [x (num_candidates:0) = ] [7 99] [y (y:0) = ] [50]",
            "Expected num_candidates in 1..50 in every row, got 7 99.",
        ),
        (
            "[Condition x == y did not hold element-wise:] [x (good:0) = ] [False] [y (y:0) = ] [True]",
            "Expected num_candidates in 1..50 in every row.",
        ),
        ("", "Expected num_candidates in 1..50 in every row."),
    ],
)
def test_a_failed_check_of_the_graph_is_its_sentence_and_the_value(condition, message):
    """The words of TensorFlow, with names of nodes, were all in the message."""
    said = f"assertion failed: [Expected num_candidates in 1..50 in every row.]{condition and ' '}{condition}"
    assert words(said + NODE) == words(said) == message
    assert words(f"Expected finite intent. : Tensor had NaN values{NODE}") == (
        "Expected finite intent. : Tensor had NaN values"
    )


def test_the_sentence_about_inputs_is_that_of_the_server(fake_bundle):
    """Advice depends on this text, and on the name of a signature."""
    servable = Servable.load("films", 7, fake_bundle / "7")
    try:
        with pytest.raises(ServingError) as sizes:
            bind_inputs(servable.signature("retrieve_controlled"), {})
        with pytest.raises(ServingError) as key:
            servable.signature("describes")
    finally:
        servable.close()
    assert "different releases" in words(str(sizes.value))
    assert "is no tfdnc bundle" in words(str(key.value))


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (MODEL, "model 'films' at host:8500"),
        (model_pb2.ModelSpec(name="films", version_label="new"), "model 'films' in the version labelled 'new' at"),
        (model_pb2.ModelSpec(name="films", version={"value": 7}), "model 'films' in version 7 at"),
    ],
)
def test_a_model_or_version_that_was_not_found_is_named(model, asked):
    message = words("Servable not found for request: Latest(films)", grpc.StatusCode.NOT_FOUND, model)
    assert f"Expected {asked}" in message
    assert "(Servable not found for request: Latest(films))" in message
