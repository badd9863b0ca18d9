"""Every flag of tensorflow_model_server 2.20 is known: it works, does nothing and says so, or is refused."""

import argparse
import logging
import shutil

import numpy as np
import pytest
import serving_models
import tensorflow as tf
from serving_models import predict_request

from serving import server as embedded
from serving import tensors, upstream_flags
from serving.__main__ import main
from serving.options import ServerOptions, add_flags, from_arguments
from tfdnc.contracts.errors import UserError

ONES = np.ones([2, 1], np.float32)

# Names and types as main.cc of 2.20 has them; `version` is the command line's own.
FLAGS = {
    int: """port rest_api_port rest_api_num_threads rest_api_timeout_in_ms model_config_file_poll_wait_seconds
        num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
        file_system_poll_wait_seconds tensorflow_session_parallelism tensorflow_intra_op_parallelism
        tensorflow_inter_op_parallelism grpc_max_threads num_request_iterations_for_warmup num_tflite_pools
        num_tflite_interpreters_per_pool""",
    float: "per_process_gpu_memory_fraction",
    bool: """rest_api_enable_cors_support enable_batching allow_version_labels_for_unavailable_models
        enable_per_model_batching_parameters flush_filesystem_caches use_alts_credentials enable_model_warmup
        remove_unused_fields_from_bundle_metagraph prefer_tflite_model enable_signature_method_name_check
        xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler skip_initialize_tpu
        enable_grpc_healthcheck_service enable_serialization_as_tensor_content""",
    str: """grpc_socket_path batching_parameters_file model_config_file model_name model_base_path
        tensorflow_session_config_file ssl_config_file platform_config_file saved_model_tags grpc_channel_arguments
        monitoring_config_file thread_pool_factory_config_file mixed_precision""",
}
VALUES = {int: "1", float: "0.25", bool: "false", str: ""}
OURS = {"host", "max_message_bytes", "request_log", "request_log_rate"}


def parsed(*flags):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return parser.parse_args(["--model_base_path=/m", *flags])


def test_every_flag_is_known_with_its_type():
    given = {name: kind for kind, names in FLAGS.items() for name in names.split()}
    arguments = vars(parsed(*(f"--{name}={VALUES[kind]}" for name, kind in given.items())))
    assert arguments.keys() == given.keys() | OURS
    for name, kind in given.items():
        if kind is not str:  # a path is one here
            assert (name, type(arguments[name])) == (name, kind)
    for name in (name for name, kind in given.items() if kind is bool):
        assert vars(parsed(f"--{name}"))[name] is True
        with pytest.raises(argparse.ArgumentError):
            parsed(f"--{name}=yes")


def test_a_flag_that_does_nothing_says_so_in_one_line(caplog):
    """These stopped the start: a deployment file for the real server did not work with this one."""
    flags = ["--flush_filesystem_caches", "--xla_cpu_compilation_enabled=false", "--num_tflite_pools=2"]
    with caplog.at_level(logging.WARNING):
        assert from_arguments(parsed(*flags)) == from_arguments(parsed())
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == [
        "--flush_filesystem_caches=true does nothing here",
        "--xla_cpu_compilation_enabled=false does nothing here",
        "--num_tflite_pools=2 does nothing here",
    ]
    assert all(f"does nothing here: {reason}" in line for line, (_, reason) in zip(lines, reasons(flags), strict=True))


def reasons(flags):
    return [upstream_flags.IDLE[flag.strip("-").split("=")[0]] for flag in flags]


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--platform_config_file=f", "Expected no platform_config_file, got f: models get their settings from"),
        ("--mixed_precision=bfloat16", "Expected no mixed_precision, got bfloat16: graphs run in the precision"),
        ("--use_alts_credentials", "Expected no use_alts_credentials, got True: there is no ALTS"),
    ],
)
def test_what_would_change_answers_is_refused(flag, sentence, capsys):
    assert main(["--model_base_path=/m", flag]) == 2
    assert capsys.readouterr().err.startswith(sentence)
    name, _, _ = flag.partition("=")
    from_arguments(parsed(f"{name}=false" if name == "--use_alts_credentials" else f"{name}="))


def test_a_rest_timeout_of_zero_or_less_is_none():
    assert ServerOptions(model_base_path="/m", rest_api_timeout_in_ms=500).rest_timeout == 0.5
    for milliseconds in (0, -1):
        assert ServerOptions(model_base_path="/m", rest_api_timeout_in_ms=milliseconds).rest_timeout is None


def test_tags_choose_the_graph(tmp_path, connect):
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 1])
        signatures = [tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x + add}) for add in (1.0, 2.0)]
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signatures[0]})
        builder.add_meta_graph(["serve", "gpu"], {"serving_default": signatures[1]})
    builder.save()
    for flags, answer in (({}, 2.0), ({"saved_model_tags": "serve,gpu"}, 3.0)):
        with embedded.running(tmp_path, model_name="m", **flags) as server:
            response = connect(server.address).Predict(predict_request({"x": ONES}, model="m"))
            assert response.outputs["y"].float_val == [answer, answer]
    with pytest.raises(UserError, match="could not be found in SavedModel"):
        embedded.build_server(tmp_path, port=0, max_num_load_retries=0, saved_model_tags="none")


def test_answers_in_tensor_content(half_plus_two, connect):
    flags = {"model_name": "half", "enable_serialization_as_tensor_content": True}
    with embedded.running(half_plus_two, **flags) as server:
        outputs = connect(server.address).Predict(predict_request({"x": ONES})).outputs
    for name, values in (("y", [[20.5], [20.5]]), ("text", [[b"1.000000"], [b"1.000000"]])):
        assert not outputs[name].float_val
        assert not outputs[name].string_val
        assert tensors.decode(outputs[name]).tolist() == values


def test_with_prefer_tflite_model_only_a_version_that_has_one_is_refused(tmp_path, half_plus_two):
    version = shutil.copytree(half_plus_two / "1", tmp_path / "1")
    flags = {"port": 0, "prefer_tflite_model": True, "max_num_load_retries": 0}
    embedded.build_server(tmp_path, **flags).stop(0)
    (version / "model.tflite").touch()
    with pytest.raises(UserError, match=r"Expected no model.tflite in .* beside --prefer_tflite_model"):
        embedded.build_server(tmp_path, **flags)


def test_a_version_brings_its_own_batching_parameters(tmp_path, half_plus_two, connect):
    shutil.copytree(half_plus_two / "1", tmp_path / "half" / "1")
    version = shutil.copytree(half_plus_two / "1", tmp_path / "batched" / "1")
    (version / "batching_params.pbtxt").write_text("max_batch_size { value: 1 }")
    (tmp_path / "models").write_text(serving_models.models_config(half=tmp_path / "half", batched=tmp_path / "batched"))
    flags = {"enable_batching": True, "enable_per_model_batching_parameters": True}
    with embedded.running(model_config_file=tmp_path / "models", **flags) as server:
        stubs = connect(server.address)
        assert stubs.Predict(predict_request({"x": ONES})).outputs["y"].float_val == [2.5, 2.5]
        message = stubs.refused("Predict", predict_request({"x": ONES}, model="batched"))[1]
        assert message == "Task size 2 is larger than maximum input batch size 1"
