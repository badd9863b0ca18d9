"""Packaging of tfdnc; every pin carries its reason."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# What every part needs: the contracts between the stations, and the command line.
BASE = [
    "numpy>=2.0,<2.5",  # scann wants numpy 2, apache-beam 2.77 wants < 2.5
    "pyarrow>=16",  # Parquet, columnar CSV; the upper bound is apache-beam's
    "pydantic>=2.7,<3",  # typed configs that reject unknown keys
    "PyYAML>=6",
    "rich>=13",  # tables and progress bars on the terminal
]

# ScaNN's wheels are compiled against one TensorFlow minor version (1.4.1+ against 2.20), and every other
# TensorFlow pin follows from that: raise them together or not at all.
CLIENT = [
    "tensorflow~=2.20.0",  # the version scann 1.4.2 is built for; the stubs of tensorflow-serving-api need it too
    "tensorflow-serving-api~=2.20.0",  # 2.21 forces TensorFlow 2.21, which scann's ops do not load into
    "grpcio>=1.70",  # what the tensorflow-serving-api stubs of 2.20 are generated for
]

SERVE = [
    *CLIENT,
    "tf-keras~=2.20.0",  # Keras 2 for this TensorFlow; TFRS refuses Keras 3
    "scann[tf]>=1.4.1,<1.5",  # 1.4.0 is built for TensorFlow 2.19
    "grpcio-health-checking>=1.70",  # the health service that probes of TF Serving expect
    "waitress>=3,<4",  # HTTP of the REST API; the standard library's server is not made for strangers
]

JOBS = [
    "apache-beam>=2.77,<3",  # byte-identical output was checked from 2.77 on
    "google-crc32c>=1.5",  # masked CRC of TFRecord frames; plain apache-beam brings none
]

TRAIN = [
    *SERVE,  # an export is verified by the code that serves it
    *JOBS,  # stations of a run
    "tensorflow-recommenders~=0.7.7",  # tfrs.Model; first release that asks for tf-keras by itself
    "gensim>=4.4",  # first release for numpy 2
    "scikit-learn>=1.5",  # KMeans on numpy 2
    "threadpoolctl>=3.1",  # k-means sums in thread order; one thread makes clusters reproducible
    "matplotlib>=3.8",  # the alpha curve, and round ticks for the page
    "jinja2>=3.1,<4",  # the page of `tfdnc report`; escapes every title by default
]

DEV = [
    *TRAIN,
    "pytest>=8",
    "pytest-timeout>=2.3",  # a Beam worker or a server that hangs must fail, not block
    "pytest-cov>=7,<8",  # `make coverage`; from 7 on, coverage.py itself measures child processes
    "pytest-xdist>=3.8",  # the suite on both cores; 3.8 can keep the order of the files
    "prometheus-client>=0.20",  # its parser reads our metrics page in the tests
    "polars>=1.30,<3",  # the plain script that developer_benchmarks/data_jobs.py compares the data jobs with
    "scipy>=1.13",  # oracles of the tests
    "selenium>=4.20,<5",  # the page of `tfdnc explore` in a browser, where there is one
    "trustme>=1.1",  # certificates for the tests of encrypted connections
    "mkdocs-material>=9.7,<10",  # the site of `make docs`
    "mkdocstrings-python>=2,<3",  # its API pages, from docstrings
    "jupytext>=1.17,<2",  # reads the notebooks of the site, which are Python files
    "nbclient>=0.10,<1",  # runs them; a cell that raises ends `make docs`
    "ipykernel>=7,<8",  # in its processes
    "mypy>=2.4,<2.5",  # types of the three packages; new minors find more
    "types-PyYAML>=6",  # PyYAML brings no types
    "ruff>=0.17,<0.18",  # lint and format; new minors move the rules
]

setup(
    name="tfdnc",
    version=re.search(r'^__version__ = "(.+)"$', (ROOT / "tfdnc/contracts/version.py").read_text(), re.MULTILINE)[1],
    description="Divide-and-conquer embedding-based retrieval: from an interaction log to a gRPC answer",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11,<3.14",  # numpy 2.4 starts at 3.11, scann's wheels end at 3.13
    packages=find_packages(include=["tfdnc*", "beam_jobs*", "serving*"]),
    package_data={
        **{package: ["py.typed"] for package in ("tfdnc", "beam_jobs", "serving")},  # PEP 561: they carry types
        "tfdnc.page": ["templates/*"],
        "beam_jobs.engines": ["*.xml"],
    },
    install_requires=BASE,
    extras_require={"client": CLIENT, "jobs": JOBS, "serve": SERVE, "train": TRAIN, "all": TRAIN, "dev": DEV},
    entry_points={"console_scripts": ["tfdnc = tfdnc.cli.main:main"]},
)
