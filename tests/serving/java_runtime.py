"""TensorFlow for Java as who answers a bundle's recorded requests: fetched through Maven, asked in one process."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from beam_jobs.engines import packages
from serving import tensors

HERE = Path(__file__).parent / "java"
TIMEOUT = 300


def fetch() -> Path:
    """Returns the folder of the jars; skips the test that asks where Java, Maven or Maven's repository is missing."""
    if not shutil.which("javac"):
        pytest.skip("a JDK is needed, there is no javac in the PATH")
    goal = ["--file", HERE / "pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    try:
        return packages._fetch("tensorflow-java-1.1.0", goal)
    except packages.UnavailableError as error:
        pytest.skip(str(error))


def ask(jars: Path, version: Path, requests: Sequence[predict_pb2.PredictRequest]) -> list:
    """Returns the answers to requests, in their order.

    Args:
        jars: What `fetch` returned.
        version: Folder of the version that is asked.
        requests: For its signatures.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "requests"), Path(folder, "answers")
        asked.write_bytes(packed(requests))
        command = ["java", "-cp", f"{jars}/*", HERE / "Replay.java", version, asked, answered]
        done = subprocess.run(list(map(str, command)), timeout=TIMEOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return unpacked(answered.read_bytes())


def packed(requests: Sequence[predict_pb2.PredictRequest]) -> bytes:
    """Returns what Replay.java reads."""
    pieces = [struct.pack(">i", len(requests))]
    for request in requests:
        pieces += [text(request.model_spec.signature_name), struct.pack(">i", len(request.inputs))]
        for name, proto in request.inputs.items():
            array = tensors.decode(proto)
            content = tensors.encode(array, as_content=array.dtype != object).SerializeToString()
            pieces += [text(name), struct.pack(">i", len(content)), content]
    return b"".join(pieces)


def text(name: str) -> bytes:
    return struct.pack(">H", len(name)) + name.encode("ascii")


def unpacked(content: bytes) -> list[predict_pb2.PredictResponse]:
    """Returns what Replay.java has written."""
    at, answers = 0, []

    def number(code):
        nonlocal at
        at += struct.calcsize(code)
        return struct.unpack(code, content[at - struct.calcsize(code) : at])[0]

    def take(length):
        nonlocal at
        at += length
        return content[at - length : at]

    for _ in range(number(">i")):
        answer = predict_pb2.PredictResponse()
        answer.model_spec.signature_name = take(number(">H")).decode()
        for _ in range(number(">i")):
            name = take(number(">H")).decode()
            answer.outputs[name].CopyFrom(tensor_pb2.TensorProto.FromString(take(number(">i"))))
        answers.append(answer)
    return answers
