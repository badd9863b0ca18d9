"""Packaging of tfdnc; every pin carries its reason."""

from setuptools import find_packages, setup

# ScaNN's wheels are compiled against one TensorFlow minor version (1.4.1+ against 2.20), and every other
# TensorFlow pin follows from that: raise them together or not at all.
INSTALL = [
    "tensorflow~=2.20.0",  # the version scann 1.4.2 is built for
    "tf-keras~=2.20.0",  # Keras 2 for this TensorFlow; TFRS refuses Keras 3
    "tensorflow-recommenders~=0.7.7",  # tfrs.Model; first release that asks for tf-keras by itself
    "tensorflow-serving-api~=2.20.0",  # 2.21 forces TensorFlow 2.21, which scann's ops do not load into
    "scann[tf]>=1.4.1,<1.5",  # 1.4.0 is built for TensorFlow 2.19
    "apache-beam>=2.77,<3",  # byte-identical output was checked from 2.77 on
    "google-crc32c>=1.5",  # masked CRC of TFRecord frames; plain apache-beam brings none
    "numpy>=2.0,<2.5",  # scann wants numpy 2, apache-beam 2.77 wants < 2.5
    "pyarrow>=16",  # Parquet, columnar CSV; the upper bound is apache-beam's
    "gensim>=4.4",  # first release for numpy 2
    "scikit-learn>=1.5",  # KMeans on numpy 2
    "threadpoolctl>=3.1",  # k-means sums in thread order; one thread makes clusters reproducible
    "grpcio>=1.70",  # what the tensorflow-serving-api stubs of 2.20 are generated for
    "grpcio-health-checking>=1.70",  # the health service that probes of TF Serving expect
    "waitress>=3,<4",  # HTTP of the REST API; the standard library's server is not made for strangers
    "pydantic>=2.7,<3",  # typed configs that reject unknown keys
    "PyYAML>=6",
    "rich>=13",  # tables and progress bars on the terminal
    "matplotlib>=3.8",  # the alpha curve, and round ticks for the page
    "jinja2>=3.1,<4",  # the page of `tfdnc report`; escapes every title by default
]

DEV = [
    "pytest>=8",
    "pytest-timeout>=2.3",  # a Beam worker or a server that hangs must fail, not block
    "prometheus-client>=0.20",  # its parser reads our metrics page in the tests
    "polars>=1.30,<3",  # the plain script that benchmarks/data_jobs.py compares the data jobs with
    "trustme>=1.1",  # certificates for the tests of encrypted connections
    "ruff>=0.17,<0.18",  # lint and format; new minors move the rules
]

setup(
    name="tfdnc",
    version="0.1.0",
    description="Divide-and-conquer embedding-based retrieval: from an interaction log to a gRPC answer",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",  # numpy 2.4 starts at 3.11, scann's wheels end at 3.13
    packages=find_packages(include=["tfdnc*", "beam_jobs*", "serving*"]),
    package_data={"tfdnc.page": ["templates/*"], "beam_jobs.engines": ["pom.xml"]},
    install_requires=INSTALL,
    extras_require={"dev": DEV},
    entry_points={"console_scripts": ["tfdnc = tfdnc.cli.main:main"]},
)
