"""Messages of a client about a failed request: the expectation, the answer, and advice."""

import re

import grpc
from tensorflow_serving.apis import model_pb2

from tfdnc.contracts import bundle as contract

# Parts of TF Serving's messages.
_SIGNATURE_MISSING = 'Serving signature key "'
_NO_LABEL = "Unrecognized servable version label"
_EXTRA, _MISSING = "Sent extra: ", "Missing but required: "

_NODE = re.compile(r"\s*\[\[\{\{.*", re.DOTALL)
"""The name of the node of the graph that failed, and what TensorFlow says of it."""

_ASSERTION = re.compile(
    r"assertion failed: \[(?P<sentence>.*?)\](?: \[Condition .*?= \] \[(?P<got>[^\]]*)\].*)?", re.DOTALL
)

_DECLARED_INPUTS = ("history_", "request_", "user_")
"""Prefixes of the names of declared inputs."""


def explain(code: grpc.StatusCode, said: str, target: str, model: model_pb2.ModelSpec, seconds: float) -> str:
    """Returns the message of a `RetrievalError`.

    Args:
        code: Status code of the answer.
        said: Message of the server, or of gRPC.
        target: Address of the server.
        model: Model that was asked for.
        seconds: Time limit of the call.
    """
    if code is grpc.StatusCode.UNAVAILABLE:
        return (
            f"Expected a server at {target} that is ready, found none ({said}). Start one with "
            "`tfdnc serve BUNDLE`, give the address of one that runs, or ask again later."
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"Expected an answer from {target} within {seconds:g} s, none came. "
            "Look whether the server runs and keeps up, ask for less at once, or wait longer."
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return (
            f"Expected {_asked(model)} at {target}, the server has no such model or version ({said}). Give the name "
            f"that its --model_name or config file says ({contract.MODEL_NAME!r} unless changed), and a version it has."
        )
    return _sentence(said) + _advice(said, model)


def _sentence(said: str) -> str:
    """Returns what a check of a graph says without TensorFlow's own words around it, and the value that failed it."""
    text = _NODE.sub("", said)
    found = _ASSERTION.fullmatch(text)
    if found is None:
        return text
    sentence, got = found["sentence"], found["got"]
    is_number = bool(got) and got[0] in "-0123456789"  # a check of several conditions compares a Boolean
    return f"{sentence.rstrip('.')}, got {got}." if is_number else sentence


def means_other_inputs(said: str) -> bool:
    """Returns True for a request that was refused because the signature of the model has other inputs."""
    return _EXTRA in said and _MISSING in said


def _asked(model: model_pb2.ModelSpec) -> str:
    if model.HasField("version"):
        return f"model {model.name!r} in version {model.version.value}"
    if model.version_label:
        return f"model {model.name!r} in the version labelled {model.version_label!r}"
    return f"model {model.name!r}"


def _advice(said: str, model: model_pb2.ModelSpec) -> str:
    """Returns advice for a server that expected another kind of request, or ""."""
    if said.startswith(_NO_LABEL):
        return f". Give a label that the server's config file has for model {model.name!r}, or leave the label out."
    if said.startswith(_SIGNATURE_MISSING) and any(f'"{name}"' in said for name in contract.RULE_SIGNATURES):
        return (
            f" The bundle of model {model.name!r} was exported without attributes, or by a tfdnc without such rules. "
            "Name columns of the item file in export.attributes, and run `tfdnc export` again; it needs no training."
        )
    if said.startswith(_SIGNATURE_MISSING):
        return (
            f" Model {model.name!r} is no tfdnc bundle, or one that was exported by an older tfdnc: ask for the model "
            "by the name it is served under, or export it again."
        )
    missing, extra = said.partition(_MISSING)[2], said.partition(_EXTRA)[2].partition(_MISSING)[0]
    if contract.HISTORY_TIMES in missing:
        return " This model reads times: give `times` and `request_time`, [] and -1 for users whose times are unknown."
    if contract.HISTORY_TIMES in extra:
        return " This model reads no times: leave out `times` and `request_time`."
    named = (missing + extra).replace(contract.USER_EMBEDDINGS, "")
    if any(prefix in named for prefix in _DECLARED_INPUTS):
        return (
            " Give in `features` the inputs that the model of this bundle reads, and no others; {} if all are unknown."
        )
    if any(name in missing + extra for name in (contract.JOINT_ALPHA, contract.SEEN)):
        return " The bundle and this client are of different releases of tfdnc: export the bundle again, or update."
    return ""
