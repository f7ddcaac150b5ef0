"""BM25 against a naive reference, fusion against worked numbers, MiniLM against known values."""

import doctest
import math
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uma_lib import retrieval
from uma_lib.retrieval import (
    BM25,
    Dense,
    MiniLM,
    RetrievalIndex,
    minilm_folder,
    reciprocal_rank_fusion,
    split_units,
    terms,
)


class HashEncoder:
    """A stand-in for MiniLM: counts of letters as a unit vector; remembers what it was asked to encode."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        counts = np.array([[1e-3] + [text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def naive_bm25(texts, query, k1=1.2, b=0.75):
    """Every score from the formula (Robertson and Zaragoza 2009, with Lucene's idf), from scratch."""
    documents = [terms(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for term in terms(query):
            df = sum(term in other for other in documents)
            tf = document.count(term)
            if tf:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                total += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(document) / mean))
        scores.append(total)
    return scores


TEXTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=8).map(" ".join), min_size=1, max_size=12)


@given(TEXTS, st.lists(st.sampled_from("abcdefgz"), max_size=5).map(" ".join), st.integers(1, 15))
def test_growing_bm25_equals_the_naive_reference_after_every_text(texts, query, top_k):
    index = BM25()
    for size, text in enumerate(texts, start=1):
        index.add(text)
        expected = naive_bm25(texts[:size], query)
        found = index.search(query, top_k)
        assert len(found) == min(top_k, sum(value > 0 for value in expected))
        for i, value in found:
            assert value == pytest.approx(expected[i], rel=1e-12)
        values = [value for _, value in found]
        assert values == sorted(values, reverse=True)
        left = [expected[i] for i in range(size) if i not in {i for i, _ in found}]
        assert not values or all(value <= values[-1] * (1 + 1e-12) for value in left)
    assert len(index) == len(texts)


def test_bm25_ties_go_to_the_older_text_also_at_the_cut():
    index = BM25()
    for i in range(200):
        index.add("coffee" if i % 2 else "coffee and tea")  # shorter is better, so odd ones come first
    assert [i for i, _ in index.search("coffee", 150)] == [*range(1, 200, 2), *range(0, 100, 2)]


def test_bm25_finds_nothing_where_nothing_matches():
    index = BM25()
    assert index.search("coffee", 3) == []
    index.add("")
    assert index.search("coffee", 3) == []
    index.add("tea")
    assert index.search("", 3) == []
    assert index.search("tea", 3)[0][0] == 1


def test_dates_and_amounts_are_single_terms():
    index = BM25()
    for text in ("2024-05-01 paid 12.50", "2024-01-05 paid 50.12", "May 2024"):
        index.add(text)
    assert [i for i, _ in index.search("2024-05-01", 3)] == [0]
    assert [i for i, _ in index.search("50.12", 3)] == [1]


def test_bm25_is_fast_on_15_000_units():
    rng = random.Random(0)
    vocabulary = [f"t{i}" for i in range(20_000)]
    weights = np.cumsum(1 / np.arange(1, 20_001)).tolist()  # Zipf: some terms are in nearly every unit
    index = BM25()
    for _ in range(15_000):
        index.add(" ".join(rng.choices(vocabulary, cum_weights=weights, k=60)))
    seconds = []
    for _ in range(50):
        query = " ".join(["t0", "t1", *rng.choices(vocabulary, cum_weights=weights, k=8)])
        start = time.perf_counter()
        assert len(index.search(query, 20)) == 20
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005


def test_fusion_worked_example():
    # 1: 1/61 + 1/63 = 0.032266; 2: 1/62 + 1/61 = 0.032522; 3: 1/63; 4: 1/62
    assert reciprocal_rank_fusion([[1, 2, 3], [2, 4, 1]]) == [2, 1, 4, 3]
    assert reciprocal_rank_fusion([[5, 4], [4, 5]]) == [4, 5]  # equal sums: the smaller item
    assert reciprocal_rank_fusion([[1, 2, 3, 4], [4, 3]], k=1) == [4, 3, 1, 2]
    assert reciprocal_rank_fusion([[], []]) == []


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=4))
def test_fusion_does_not_depend_on_the_order_of_the_rankings(rankings):
    assert reciprocal_rank_fusion(rankings) == reciprocal_rank_fusion(rankings[::-1])


def test_dense_encodes_late_and_once():
    encoder = HashEncoder()
    index = Dense(encoder)
    index.add(["aaa", "bbb"])
    index.add(["abb"])
    assert encoder.calls == [] and len(index) == 3
    assert [i for i, _ in index.search("b", 2)] == [1, 2]
    index.add(["bb"])
    assert [i for i, _ in index.search("b", 5)] == [1, 3, 2, 0]
    assert encoder.calls == [["aaa", "bbb", "abb"], ["b"], ["bb"], ["b"]]


def test_dense_scores_are_cosines_and_ties_go_to_the_older_text():
    index = Dense(HashEncoder())
    assert index.search("a", 3) == []
    index.add(["ab"] * 9 + ["c"])
    found = index.search("a", 10)
    assert [i for i, _ in found] == list(range(10))
    assert found[0][1] == pytest.approx(math.sqrt(0.5), abs=1e-3)
    assert found[-1][1] == pytest.approx(0, abs=1e-3)


def test_a_text_of_several_windows_ranks_by_its_best():
    index = Dense(lambda texts: [np.concatenate([HashEncoder()([part]) for part in text.split("|")]) for text in texts])
    index.add(["b", "a|b", "a|c"])
    index.add(["ab", "c|d|b|b"])
    assert [i for i, _ in index.search("b", 3)] == [0, 1, 4]  # equal scores: the older text first
    assert [i for i, _ in index.search("d|c", 2)] == [2, 4]  # a long query as well
    index.add(["d"])
    found = index.search("d", 9)
    assert [i for i, _ in found][:2] == [4, 5] and sorted(i for i, _ in found) == list(range(6)) == [*range(len(index))]


@pytest.mark.parametrize(
    "wrong",
    [np.ones(3), np.ones((2, 3)), np.ones((1, 1, 1, 3)), [], [np.float64(1)], [np.ones((0, 3))]],
)
def test_a_wrong_encoder_is_named(wrong):
    index = Dense(lambda texts: wrong)
    index.add(["a"])
    with pytest.raises(ValueError, match="the encoder gave arrays of shapes"):
        index.search("a", 1)


LINES = st.lists(st.text(st.sampled_from("ab "), max_size=30), max_size=12)


@given(LINES, st.integers(3, 40))
def test_units_are_short_and_lose_nothing(lines, size):
    text = "\n".join(lines)
    units = split_units(text, size)
    assert all(unit.strip() and len(unit) <= size for unit in units)
    assert "".join("".join(units).split()) == "".join(text.split())
    if all(len(line) <= size for line in lines):  # then only line ends were cut
        kept = [line for unit in units for line in unit.splitlines() if line.strip()]
        assert kept == [line for line in lines if line.strip()]


@pytest.mark.parametrize("size", [0, -1])
def test_units_of_no_characters_are_refused_at_once(size):
    with pytest.raises(ValueError, match=f"{size}"):
        split_units("some text", size)
    with pytest.raises(ValueError, match=f"unit_chars is {size}"):
        RetrievalIndex(HashEncoder(), unit_chars=size)


def test_units_do_not_depend_on_line_ends():
    for end in ("\r\n", "\r", "\x0b", "\x85", "\u2028"):
        assert split_units(end.join(["one", "", "two", " \t", "three"]), 8) == ["one\n\ntwo", " \t\nthree"]


def test_one_very_long_line():
    words = [f"w{i}" for i in range(200_000)]
    units = split_units("   ".join(words))
    assert [word for unit in units for word in unit.split()] == words
    assert split_units("x" * 1_000_000) == ["x" * 1000] * 1000
    assert split_units("x" + " " * 1_000_000 + "y") == ["x" + " " * 999, "y"]


def test_units_are_filled():
    assert split_units("\n".join(["x" * 100] * 30)) == ["\n".join(["x" * 100] * n) for n in (9, 9, 9, 3)]
    assert split_units("") == split_units("\n \n") == []


def test_index_over_chunks():
    index = RetrievalIndex(HashEncoder(), unit_chars=12)
    assert index.bm25("a", 3) == index.embedding("a", 3) == index.hybrid("a", 3) == []
    index.add_chunk("apple pie\nbus ticket\n")
    index.add_chunk("coffee")
    assert len(index) == 3
    assert index.bm25("ticket bus", 2) == ["bus ticket"]
    assert index.embedding("eeffoc", 1) == ["coffee"]
    assert index.hybrid("bus coffee ticket", 2) == ["bus ticket", "coffee"]
    for search in (index.bm25, index.embedding, index.hybrid):
        for top_k in (0, -1):
            with pytest.raises(ValueError, match=f"top_k is {top_k};"):
                search("a", top_k)
        assert len(search("apple bus coffee", 10**9)) == 3
    assert index.bm25("?!", 3) == [] and len(index.hybrid("?!", 3)) == 3


def test_bm25_alone_never_encodes():
    encoder = HashEncoder()
    index = RetrievalIndex(encoder)
    index.add_chunk("bus ticket")
    assert index.bm25("bus", 1) == ["bus ticket"]
    assert encoder.calls == []


@pytest.fixture(scope="module")
def minilm():
    return MiniLM(cache=6)


def test_minilm_equals_sentence_transformers(minilm):
    vectors = minilm(["I paid 12.50 for coffee.", "", "A long text. " * 200])
    # 800 pieces: 254 in the first window, 190 more in each further one
    assert [windows.shape for windows in vectors] == [(1, 384), (1, 384), (4, 384)]
    assert all(windows.dtype == np.float32 for windows in vectors)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(vectors), axis=1), 1, atol=1e-6)
    # what SentenceTransformer.encode of sentence-transformers 6.2.0 gives for the first text
    np.testing.assert_allclose(vectors[0][0, :4], [0.00302524, 0.11512856, 0.07304903, 0.04145268], atol=1e-6)


@pytest.mark.parametrize("words, windows", [(0, 1), (254, 1), (255, 2), (444, 2), (445, 3), (634, 3), (635, 4)])
def test_windows_of_minilm(minilm, words, windows):
    (found,) = minilm(["tea " * words])  # one piece a word
    assert len(found) == windows


def test_minilm_reads_a_text_to_its_end(minilm):
    start = "We talked about the weather and the garden. " * 40
    plain, taxi, dentist = minilm([start, f"{start}The taxi was $12.50.", f"{start}The dentist was $80."])
    np.testing.assert_allclose(plain[0], taxi[0], atol=1e-5)  # the first window is the same
    index = RetrievalIndex(minilm, unit_chars=2000)
    for end in ("The taxi was $12.50.", "", "The dentist was $80."):
        index.add_chunk(start + end)
    assert index.embedding("a ride in a cab", 1) == [f"{start}The taxi was $12.50."]
    assert index.embedding("a doctor for teeth", 1) == [f"{start}The dentist was $80."]
    assert len(index.embedding(start + "a ride in a cab", 3)) == 3


def test_minilm_takes_whatever_a_model_writes(minilm):
    index = RetrievalIndex(minilm, unit_chars=40)
    index.add_chunk("The espresso cost four dollars.\nI took a taxi downtown. \ud83d")
    for query in ("taxi \ud83d", "\udc00", "", "\x00", "🚕"):
        assert len(index.hybrid(query, 5)) == len(index.embedding(query, 5)) == 2
    assert minilm([]) == []


def test_minilm_finds_by_meaning(minilm):
    index = RetrievalIndex(minilm, unit_chars=40)
    index.add_chunk("The espresso cost four dollars.\nMy dentist cleaned my teeth.\nI took a taxi downtown.")
    assert index.embedding("a hot drink at the cafe", 1) == ["The espresso cost four dollars."]
    assert index.embedding("medical appointment", 1) == ["My dentist cleaned my teeth."]
    assert index.embedding("transportation", 3) == index.embedding("transportation", 3)


def test_minilm_encodes_a_text_once_and_forgets_the_oldest(monkeypatch):
    encoder = MiniLM(cache=3, batch=2)
    batches = []

    def windows(texts):
        batches.append(texts)
        return [np.array([[len(text), 1.0]]) for text in texts]

    monkeypatch.setattr(encoder, "_windows", windows)
    assert np.concatenate(encoder(["ccc", "a", "a", "bb"])).tolist() == [[3, 1], [1, 1], [1, 1], [2, 1]]
    assert batches == [["a", "bb"], ["ccc"]]
    encoder(["ccc", "a"])
    encoder(["dddd"])  # "bb" was used longest ago
    encoder(["a", "ccc", "dddd"])
    assert batches == [["a", "bb"], ["ccc"], ["dddd"]]
    encoder(["bb"])
    assert batches[-1] == ["bb"]


def test_a_missing_model_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="give a folder with all-MiniLM-L6-v2"):
        MiniLM(tmp_path)
    monkeypatch.setattr(retrieval, "_PACKAGE", "no-such-package-is-installed")
    with pytest.raises(FileNotFoundError, match="pip install no-such-package-is-installed"):
        minilm_folder()


def test_examples():
    assert doctest.testmod(retrieval).failed == 0
