"""The REST API over real HTTP: paths, formats, status codes and messages of TF Serving."""

import numpy as np
import pytest
import rest_client
import tensorflow as tf

from serving import server as embedded


class Examples(tf.Module):
    """Both kinds of signatures for examples with one feature, and one whose output is no batch."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        features = {"x": tf.io.FixedLenFeature([], tf.float32), "add": tf.io.FixedLenFeature([], tf.float32, 0.0)}
        parsed = tf.io.parse_example(inputs, features)
        return {"outputs": parsed["x"] + parsed["add"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        scores = self.regress(inputs)["outputs"]
        return {"classes": tf.fill([tf.size(scores), 1], "x"), "scores": scores[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"sum": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def models(tmp_path_factory, fake_bundle, half_plus_two):
    """A server of `half` (versions 1 and 2, 1 is `stable`), a fake bundle, examples, and a name that needs escapes."""
    folder = tmp_path_factory.mktemp("rest")
    model = Examples()
    signatures = {"regress": model.regress, "classify": model.classify, "total": model.total}
    tf.saved_model.save(model, str(folder / "examples" / "1"), signatures=signatures)
    paths = {"a b/c": half_plus_two, "bundle": fake_bundle, "examples": folder / "examples"}
    config = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}' for name, path in paths.items()
    )
    config += f"""config {{ name: "half" base_path: "{half_plus_two}" model_platform: "tensorflow"
        model_version_policy {{ all {{ }} }} version_labels {{ key: "stable" value: 1 }} }}"""
    file = folder / "models.config"
    file.write_text(f"model_config_list {{ {config} }}")
    with embedded.running(
        model_config_file=file, allow_version_labels_for_unavailable_models=True, file_system_poll_wait_seconds=0
    ) as server:
        yield server


@pytest.fixture(scope="module")
def rest(models):
    with rest_client.running(models) as client:
        yield client


@pytest.fixture
def still_answers(rest):
    """After the test, whatever it sent, the server must answer a good request."""
    yield
    rest.http.close()
    assert rest.post("/v1/models/half:predict", {"inputs": [[1.0]]})[1]["outputs"]["y"] == [[20.5]]


ONE = "1.000000"


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (
            "half:predict",
            {"instances": [[1.0], [2]]},
            {"predictions": [{"text": [ONE], "y": [20.5]}, {"text": ["2.000000"], "y": [21.0]}]},
        ),
        (
            "half:predict",
            {"inputs": [[1.0], [2]]},
            {"outputs": {"text": [["1.000000"], ["2.000000"]], "y": [[20.5], [21.0]]}},
        ),
        (
            "half/versions/1:predict",
            {"instances": [{"x": [1.0]}]},
            {"predictions": [{"text": ["1.000000"], "y": [2.5]}]},
        ),
        ("half/labels/stable:predict", {"inputs": {"x": [[1.0]]}}, {"outputs": {"text": [["1.000000"]], "y": [[2.5]]}}),
        ("half:predict", {"signature_name": "positive_only", "instances": [3, 4]}, {"predictions": [3, 4]}),
        ("half:predict", {"signature_name": "positive_only", "inputs": [3, 4]}, {"outputs": [3, 4]}),
        (
            "half:predict",
            {"signature_name": "shout", "instances": [["é", {"b64": "YmM="}]]},
            {"predictions": [{"loud": ["é", "BC"], "letters": 4}]},
        ),
        ("a%20b%2Fc:predict", {"signature_name": "positive_only", "inputs": [1]}, {"outputs": [1]}),
        ("examples:predict", {"signature_name": "total", "inputs": [1, 2]}, {"outputs": 3.0}),
        (
            "examples:regress",
            {"signature_name": "regress", "examples": [{"x": 1.5}, {"x": [2.5]}]},
            {"results": [1.5, 2.5]},
        ),
        (
            "examples:regress",
            {"signature_name": "regress", "context": {"add": 10.0}, "examples": [{"x": 1.5}, {"x": 2.5}]},
            {"results": [11.5, 12.5]},
        ),
        ("examples:classify", {"signature_name": "classify", "examples": [{"x": 1.5}]}, {"results": [[["x", 1.5]]]}),
        (
            "bundle:predict",
            {"signature_name": "retrieve", "instances": [{"history": [], "num_candidates": 2, "alpha": 0.5}]},
            {
                "predictions": [
                    {
                        "item_ids": ["i0", "i1", "", ""],
                        "scores": [0.5, -0.5, -1e30, -1e30],
                        "cluster_ids": [0, 1, -1, -1],
                        "num_results": 2,
                        "quotas": [1, 1],
                        "intent": [0.0, 0.0],
                    }
                ]
            },
        ),
    ],
)
def test_answers(rest, path, body, answer):
    status, got, headers = rest.ask("POST", f"/v1/models/{path}", body)
    assert (status, got) == (200, answer)
    assert headers["Content-Type"] == "application/json"


def test_numbers_without_a_name_in_json(rest):
    status, answer = rest.post("/v1/models/half:predict", b'{"inputs": [[NaN], [Infinity], [-Infinity]]}')
    assert status == 200
    np.testing.assert_array_equal(answer["outputs"]["y"], [[np.nan], [np.inf], [-np.inf]])


def test_status(rest):
    ok = {"error_code": "OK", "error_message": ""}
    two, one = ({"version": version, "state": "AVAILABLE", "status": ok} for version in "21")
    for path, versions in (("", [two, one]), ("/versions/1", [one]), ("/labels/stable", [one])):
        status, answer, _ = rest.ask("GET", f"/v1/models/half{path}")
        assert (status, answer) == (200, {"model_version_status": versions})


@pytest.mark.parametrize(("path", "version"), [("", "2"), ("/versions/1", "1"), ("/labels/stable", "1")])
def test_metadata(rest, models, path, version):
    status, answer, _ = rest.ask("GET", f"/v1/models/half{path}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": version}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    x = {"dtype": "DT_FLOAT", "name": "serving_default_x:0"}
    x["tensor_shape"] = {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}
    assert signatures["serving_default"]["inputs"] == {"x": x}
    assert signatures["shout"]["method_name"] == "tensorflow/serving/predict"


BAD, GONE = 400, 404
UNKNOWN_LABEL = "Unrecognized servable version label: no"
SERVABLE = "Servable not found for request: "


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/foo", None, BAD, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", b"", BAD, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", None, BAD, "Missing model name in request."),
        ("GET", "/v1/models/a/b", None, BAD, "Malformed request: GET /v1/models/a/b"),
        ("GET", "/v1/models/half:predict", None, BAD, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "/v1/models/half", b"{}", BAD, "Malformed request: POST /v1/models/half"),
        ("POST", "/v1/models/half/metadata", b"", BAD, "Malformed request: POST /v1/models/half/metadata"),
        ("PUT", "/v1/models/half:predict", b"{}", BAD, "Malformed request: PUT /v1/models/half:predict"),
        ("POST", "/v1/models/half:predict?x=1", b"{}", BAD, "Malformed request: POST /v1/models/half:predict?x=1"),
        (
            "POST",
            "/v1/models/half/versions/x:regress",
            b"",
            BAD,
            "Malformed request: POST /v1/models/half/versions/x:",
        ),
        (
            "POST",
            f"/v1/models/half/versions/{2**64}:regress",
            b"",
            BAD,
            f"Failed to convert version: {2**64}",
        ),
        ("GET", f"/v1/models/half/versions/{'9' * 5000}", None, BAD, "Failed to convert version: 999"),
        ("GET", f"/v1/models/half/versions/{'0' * 5000}9", None, GONE, "Could not find version 9 of model half"),
        ("GET", "/v1/models/no", None, GONE, "Could not find any versions of model no"),
        ("GET", "/v1/models/half/versions/9", None, GONE, "Could not find version 9 of model half"),
        ("GET", "/v1/models/half/labels/no", None, BAD, UNKNOWN_LABEL),
        ("GET", "/v1/models/no/metadata", None, GONE, SERVABLE + "Latest(no)"),
        ("POST", "/v1/models/no:predict", {"instances": [1]}, GONE, SERVABLE + "Latest(no)"),
        (
            "POST",
            "/v1/models/no:predict",
            b"{",
            BAD,
            "JSON Parse error: Missing a name for object member",
        ),
        ("POST", "/v1/models/no:classify", {"examples": [{}]}, GONE, SERVABLE + "Latest(no)"),
        ("POST", "/v1/models/half/versions/9:predict", {"instances": [1]}, GONE, SERVABLE + "Specific(half, 9)"),
        (
            "POST",
            "/v1/models/half/labels/no:predict",
            {"instances": [1]},
            BAD,
            "Unrecognized servable version label: no",
        ),
        ("POST", "/v1/models/half:predict", b"", BAD, "JSON Parse error: The document is empty"),
        ("POST", "/v1/models/half:predict", {"instances": ["x"]}, BAD, "is not of expected type: float"),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "no", "instances": [1]},
            BAD,
            'Serving signature name: "no" not found in signature def',
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "positive_only", "inputs": [0]},
            BAD,
            "n must be positive",
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "shout", "inputs": ["a"]},
            BAD,
            'input "words" should have shape [?, ?], came [1]: ',
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "__saved_model_init_op", "instances": [1]},
            BAD,
            "Failed to get input map for signature: __saved_model_init_op",
        ),
        ("POST", "/v1/models/half:regress", {"examples": [{}]}, BAD, "Expected one output Tensor."),
        ("POST", "/v1/models/half:classify", {}, BAD, "When method is classify, key 'examples' is expected"),
        (
            "POST",
            "/v1/models/examples:predict",
            {"signature_name": "total", "instances": [1]},
            BAD,
            "Tensor name: sum has no shape information ",
        ),
        ("GET", "/", None, GONE, "Nothing is served on /."),
    ],
)
@pytest.mark.usefixtures("still_answers")
def test_refusals(rest, method, path, body, status, message):
    got, answer, headers = rest.ask(method, path, body)
    assert got == status
    assert set(answer) == {"error"}
    assert message in answer["error"]
    assert headers["Content-Type"] == "application/json"


def test_what_takes_too_long_is_504(models):
    with rest_client.running(models, timeout_seconds=0) as client:
        assert client.post("/v1/models/half:predict", {"inputs": [[1.0]]})[0] == 504
