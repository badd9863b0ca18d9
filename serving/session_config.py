"""Session config of the models: the `ConfigProto` that tensorflow_model_server makes of its flags."""

from tensorflow.core.protobuf import config_pb2

from serving import text_proto
from serving.options import ServerOptions


def session_config(options: ServerOptions) -> config_pb2.ConfigProto:
    """Returns the config of the file, changed by the flags.

    TensorFlow makes its pools with the first session of a process: all models of a server share these numbers. A
    negative `inter_op_parallelism_threads`, which only the file can say, runs every op in the request's own thread.

    Raises:
        UserError: No such file, or not a text of this message.
    """
    config = config_pb2.ConfigProto()
    if options.tensorflow_session_config_file:
        text_proto.read(options.tensorflow_session_config_file, config)
    intra, inter = options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism
    if not intra and not inter:  # beside one of them the flag for both is ignored, as in TF Serving
        intra = inter = options.tensorflow_session_parallelism
    if intra:
        config.intra_op_parallelism_threads = intra
    if inter:
        config.inter_op_parallelism_threads = inter
    if options.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    return config
