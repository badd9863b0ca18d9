"""Run as a script: answers requests from bundles in a fresh process, with plain TensorFlow and nothing of tfdnc.

The way K ScaNN searchers collapse into one on loading cannot be seen in the process that saved them.
"""

import json
import pickle
import sys
from pathlib import Path

import tensorflow as tf


def answer_like_tf_serving(folder, requests):
    """Loads with the TF1 loader and runs a session, as TF Serving does."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def
        for signature, inputs in requests:
            definition = signatures[signature]
            fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
            feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
            yield attempt(lambda fetches=fetches, feeds=feeds: session.run(fetches, feeds))


def answer_like_python(folder, requests):
    """Loads with `tf.saved_model.load` and calls the signatures."""
    loaded = tf.saved_model.load(str(folder))
    for signature, inputs in requests:
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        yield attempt(
            lambda call=loaded.signatures[signature], tensors=tensors: {
                k: v.numpy() for k, v in call(**tensors).items()
            }
        )


def attempt(call):
    """The answer, or the error as (code, message)."""
    try:
        return call()
    except tf.errors.OpError as error:
        return error.error_code, error.message


LOADERS = {"tf1_session": answer_like_tf_serving, "saved_model_load": answer_like_python}


def main(loader, requests_file, answers_file):
    """Answers every bundle's requests; bundles without ScaNN come first, before its ops are known."""
    bundles = pickle.loads(Path(requests_file).read_bytes())
    manifests = {folder: json.loads((folder / "assets.extra/manifest.json").read_text()) for folder in bundles}
    answers = {}
    for folder in sorted(bundles, key=lambda folder: manifests[folder]["uses_scann"]):
        if manifests[folder]["uses_scann"]:
            from scann import scann_ops  # noqa: F401  registers the ops
        answers[folder] = list(LOADERS[loader](folder, bundles[folder]))
    Path(answers_file).write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
