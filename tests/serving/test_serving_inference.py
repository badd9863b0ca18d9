"""Classify, Regress and MultiInference over real gRPC, and what they refuse, in the words of TF Serving."""

import shutil

import grpc
import pytest
import tensorflow as tf
from serving_models import write_warmup
from stubs import Stubs
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, prediction_log_pb2, regression_pb2

from serving import server as embedded
from serving.inference import Inference
from serving.servable import Servable
from serving.status import ServingError
from serving.warmup import warm_up

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


class Examples(tf.Module):
    """Reads `x` (and `offset`, 0 if absent) of every example; some signatures are no good on purpose."""

    @staticmethod
    def _values(inputs):
        features = {key: tf.io.FixedLenFeature([], tf.float32, 0.0) for key in ("x", "offset")}
        parsed = tf.io.parse_example(inputs, features)
        return parsed["x"] + parsed["offset"]

    @tf.function(input_signature=[EXAMPLES])
    def regress(self, inputs):
        return {"outputs": self._values(inputs)[:, tf.newaxis]}

    @tf.function(input_signature=[EXAMPLES])
    def classify(self, inputs):
        values = self._values(inputs)
        labels = tf.tile(tf.constant([["small", "large"]]), [tf.size(values), 1])
        return {"classes": labels, "scores": tf.stack([-values, values], axis=1)}

    @tf.function(input_signature=[EXAMPLES])
    def labels(self, inputs):
        return {"classes": tf.strings.as_string(self._values(inputs))[:, tf.newaxis]}

    @tf.function(input_signature=[EXAMPLES])
    def scores(self, inputs):
        return {"scores": self._values(inputs)[:, tf.newaxis]}

    @tf.function(input_signature=[EXAMPLES])
    def flat(self, inputs):
        return {"scores": self._values(inputs)}

    @tf.function(input_signature=[EXAMPLES])
    def short(self, inputs):
        return {"outputs": self._values(inputs)[:1]}

    @tf.function(input_signature=[EXAMPLES])
    def wide(self, inputs):
        return {"outputs": tf.tile(self._values(inputs)[:, tf.newaxis], [1, 2])}

    @tf.function(input_signature=[EXAMPLES])
    def counts(self, inputs):
        return {"outputs": tf.ones_like(inputs, tf.int32)}

    @tf.function(input_signature=[EXAMPLES])
    def numbers(self, inputs):
        return {"classes": tf.ones([tf.size(inputs), 2], tf.int32)}

    @tf.function(input_signature=[EXAMPLES])
    def uneven(self, inputs):
        return {"classes": tf.fill([tf.size(inputs), 2], "a"), "scores": tf.ones([tf.size(inputs), 3])}

    @tf.function(input_signature=[EXAMPLES])
    def other(self, inputs):
        return {"y": self._values(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def misnamed(self, text):
        return {"outputs": self._values(text), "scores": self._values(text)}

    @tf.function(input_signature=[EXAMPLES, tf.TensorSpec([], tf.float32, name="more")])
    def two(self, inputs, more):
        return {"outputs": self._values(inputs) + more}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="inputs")])
    def dense(self, inputs):
        return {"outputs": inputs}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = Examples()
    version = tmp_path_factory.mktemp("models") / "examples" / "3"
    names = [name for name, member in vars(Examples).items() if hasattr(member, "get_concrete_function")]
    signatures = {name: getattr(model, name) for name in names} | {"serving_default": model.regress}
    tf.saved_model.save(model, str(version), signatures=signatures)
    return version


@pytest.fixture(scope="module")
def rpcs(path):
    with embedded.running(path.parent, model_name="examples") as server:
        stubs = Stubs(server.address)
        yield stubs
        stubs.channel.close()


def example(**features):
    made = example_pb2.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def of(examples, context=None):
    if context is None:
        return input_pb2.Input(example_list={"examples": examples})
    return input_pb2.Input(example_list_with_context={"examples": examples, "context": context})


ONE_TWO = of([example(x=1), example(x=2)])


def classification(signature="classify", content=ONE_TWO):
    return classification_pb2.ClassificationRequest(
        model_spec={"name": "examples", "signature_name": signature}, input=content
    )


def regression(signature="", content=ONE_TWO):
    return regression_pb2.RegressionRequest(model_spec={"name": "examples", "signature_name": signature}, input=content)


def tasks(*pairs, content=ONE_TWO):
    request = inference_pb2.MultiInferenceRequest(input=content)
    for signature, method in pairs:
        request.tasks.add(model_spec={"name": "examples", "signature_name": signature}, method_name=method)
    return request


def classes(result):
    return [[(item.label, item.score) for item in row.classes] for row in result.classifications]


def test_classify(rpcs):
    response = rpcs.Classify(classification())
    assert classes(response.result) == [[("small", -1), ("large", 1)], [("small", -2), ("large", 2)]]
    assert response.model_spec.name == "examples"
    assert response.model_spec.signature_name == "classify"
    assert response.model_spec.version.value == 3
    assert classes(rpcs.Classify(classification("labels")).result) == [[("1.000000", 0)], [("2.000000", 0)]]
    assert classes(rpcs.Classify(classification("scores")).result) == [[("", 1)], [("", 2)]]


def test_regress(rpcs):
    response = rpcs.Regress(regression())
    assert [item.value for item in response.result.regressions] == [1, 2]
    assert response.model_spec.signature_name == "serving_default"
    assert response.model_spec.version.value == 3


def test_warm_up_asks_all_kinds_of_requests(path, tmp_path):
    version = shutil.copytree(path, tmp_path / "examples")
    logs = [
        prediction_log_pb2.PredictionLog(classify_log={"request": classification("labels")}),
        prediction_log_pb2.PredictionLog(regress_log={"request": regression()}),
        prediction_log_pb2.PredictionLog(multi_inference_log={"request": tasks(("scores", CLASSIFY))}),
    ]
    write_warmup(version, [], [log.SerializeToString() for log in logs])
    servable = Servable.load("examples", 3, version)
    assert warm_up(servable) == 3
    assert {key for key, _ in servable._plans} == {"labels", "serving_default", "scores"}
    servable.close()


def test_a_context_is_not_multiplied_beyond_what_a_tensor_may_take(path):
    servable = Servable.load("examples", 3, path)
    request = regression(content=of([example()] * 1000, context=example(x=1)))
    assert len(Inference(servable, max_tensor_bytes=100_000).regress(request).result.regressions) == 1000
    with pytest.raises(ServingError, match="1000 examples with their context ask for") as caught:
        Inference(servable, max_tensor_bytes=40_000).regress(request)
    assert caught.value.code is INVALID
    servable.close()


def test_the_context_is_part_of_every_example_which_overrides_it(rpcs):
    content = of([example(x=1), example(x=2, offset=0.5)], context=example(offset=10))
    assert [item.value for item in rpcs.Regress(regression(content=content)).result.regressions] == [11, 2.5]


def test_multi_inference(rpcs):
    response = rpcs.MultiInference(tasks(("classify", CLASSIFY), ("", REGRESS), ("scores", CLASSIFY)))
    first, second, third = response.results
    assert classes(first.classification_result)[1] == [("small", -2), ("large", 2)]
    assert [item.value for item in second.regression_result.regressions] == [1, 2]
    assert classes(third.classification_result) == [[("", 1)], [("", 2)]]
    assert [result.model_spec.signature_name for result in response.results] == [
        "classify",
        "serving_default",
        "scores",
    ]
    assert {result.model_spec.version.value for result in response.results} == {3}


@pytest.mark.parametrize(
    ("rpc", "request_", "code", "message"),
    [
        ("Classify", classification_pb2.ClassificationRequest(), INVALID, "Missing ModelSpec"),
        ("Regress", regression_pb2.RegressionRequest(), INVALID, "Missing ModelSpec"),
        ("MultiInference", inference_pb2.MultiInferenceRequest(), INVALID, "ModelSpec has no name specified."),
        (
            "Classify",
            classification_pb2.ClassificationRequest(model_spec={"name": "no"}),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(no)",
        ),
        ("Classify", classification(content=None), INVALID, "Input is empty."),
        ("Regress", regression(content=of([], context=example(x=1))), INVALID, "Input is empty."),
        ("Classify", classification("nope"), INVALID, "No signature was found with the name: nope"),
        ("Regress", regression("nope"), INVALID, "No signature was found with the name: nope"),
        ("Classify", classification("two"), INVALID, "Expected one input Tensor."),
        ("Regress", regression("two"), INVALID, "Expected one input Tensor."),
        ("Regress", regression("classify"), INVALID, "Expected one output Tensor."),
        ("Classify", classification("misnamed"), INVALID, "No classification inputs found in SignatureDef: "),
        ("Classify", classification("other"), INVALID, 'at least one of "classes" or "scores". Signature was: '),
        ("Regress", regression("other"), INVALID, "No regression outputs found in SignatureDef: "),
        (
            "Classify",
            classification("flat"),
            INVALID,
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        ("Classify", classification("numbers"), INVALID, "Expected classes Tensor of DT_STRING. Got: DT_INT32"),
        (
            "Classify",
            classification("uneven"),
            INVALID,
            "Tensors class and score should match in dim_size(1). Got 2 vs. 3",
        ),
        ("Regress", regression("short"), INVALID, "Input batch size did not match output batch size: 2 vs. 1"),
        (
            "Regress",
            regression("wide"),
            INVALID,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        ("Regress", regression("counts"), INVALID, "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
        ("Regress", regression("dense"), INVALID, "Expects arg[0] to be float but string is provided"),
        (
            "MultiInference",
            tasks(("classify", "predict")),
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: predict",
        ),
        (
            "MultiInference",
            tasks(("", REGRESS), ("serving_default", REGRESS)),
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        ("MultiInference", tasks(("no", REGRESS)), INVALID, "Requested signature not found in model graph: no"),
    ],
)
def test_refusals(rpcs, rpc, request_, code, message):
    got, sentence = rpcs.refused(rpc, request_)
    assert got is code
    assert message in sentence


def test_tasks_ask_one_model(rpcs):
    request = tasks(("classify", CLASSIFY), ("", REGRESS))
    request.tasks[1].model_spec.name = "other"
    code, message = rpcs.refused("MultiInference", request)
    assert (code, message) == (
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    )
    request.tasks[1].model_spec.name = ""
    assert rpcs.refused("MultiInference", request) == (INVALID, "Found ModelSpec with an empty model name.")


def test_method_names_are_checked_if_asked_for(path):
    servable = Servable.load("examples", 3, path)
    checked = Inference(servable, check_method_names=True)
    with pytest.raises(ServingError) as caught:
        checked.classify(classification())
    assert caught.value.message == (
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict"
    )
    with pytest.raises(ServingError, match="Expected regression signature method_name to be "):
        checked.regress(regression())
    servable.signatures["classify"].method_name = CLASSIFY
    assert len(checked.classify(classification()).result.classifications) == 2
    servable.close()


def test_a_late_request_is_not_run(path):
    servable = Servable.load("examples", 3, path)
    with pytest.raises(ServingError) as caught:
        Inference(servable, deadline=0.0).regress(regression())
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    servable.close()
