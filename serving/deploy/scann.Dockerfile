# tensorflow_model_server with ScaNN's ops linked in: for bundles with ScaNN where it has to be the C++ server.
#
# NOT BUILT HERE, and not by anybody for TensorFlow 2.20 that we know of: a recipe to start from, with what is known to
# matter. Expect to adjust it; a build takes hours and tens of GB. README.md says what to try first.
ARG TF_SERVING_VERSION=2.20.0
FROM tensorflow/serving:${TF_SERVING_VERSION}-devel AS build

# google-research at a commit whose scann/ is built for the same TensorFlow minor version: 1.4.1 and 1.4.2 are for 2.20.
ARG GOOGLE_RESEARCH_COMMIT=give-one-with-build-arg
RUN mkdir /scann && curl -fsSL https://github.com/google-research/google-research/archive/${GOOGLE_RESEARCH_COMMIT}.tar.gz \
    | tar -xz --strip-components=2 -C /scann --wildcards '*/scann/*'

# What google-research's own patches for TensorFlow 2.11 and older (/scann/tf_serving/patches) do, in three steps:
# 1. ScaNN uses TF Serving's TensorFlow instead of an installed one: two copies in one binary register everything twice.
RUN sed -i '/libtensorflow_framework/d; s|@local_config_tf//:tf_header_lib|@org_tensorflow//tensorflow/core:tensorflow_opensource|' \
    /scann/scann/oss_wrappers/BUILD.bazel
# 2. A library of its ops and kernels that the linker keeps although nothing calls it; what needs pybind11 goes.
RUN python3 - <<'PATCH'
import pathlib, re
path = pathlib.Path("/scann/scann/scann_ops/cc/BUILD.bazel")
text = re.sub(r"(?ms)^load\([^)]*pybind11_bazel[^)]*\)\n|^pybind_\w+\(.*?^\)\n", "", path.read_text())
text += """
cc_library(
    name = "scann_ops_static",
    deps = [":scann_ops", ":scann_ops_kernels"],
    alwayslink = 1,
)
"""
path.write_text(text)
PATCH
# 3. TF Serving knows the repository and links that library.
WORKDIR /tensorflow-serving
RUN printf 'local_repository(\n    name = "com_google_scann",\n    path = "/scann",\n)\n' >> WORKSPACE \
    && sed -i 's|^SUPPORTED_TENSORFLOW_OPS = |&["@com_google_scann//scann/scann_ops/cc:scann_ops_static"] + |' \
       tensorflow_serving/model_servers/BUILD \
    && grep -q scann_ops_static tensorflow_serving/model_servers/BUILD

# AVX2 and FMA are ScaNN's requirement, C++17 its language; without -fsized-deallocation clang does not link it.
RUN CC=clang bazel build -c opt --copt=-mavx2 --copt=-mfma --cxxopt=-std=c++17 --copt=-fsized-deallocation \
    tensorflow_serving/model_servers:tensorflow_model_server \
    && cp bazel-bin/tensorflow_serving/model_servers/tensorflow_model_server /usr/local/bin/

# The stock image with the other binary: same entry point, same flags.
FROM tensorflow/serving:${TF_SERVING_VERSION}
COPY --from=build /usr/local/bin/tensorflow_model_server /usr/bin/tensorflow_model_server
