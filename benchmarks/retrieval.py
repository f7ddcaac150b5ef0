"""What dense search finds when long passages are encoded in windows, beside passages cut at the encoder's limit.

    python benchmarks/retrieval.py [--out data/results/bench_retrieval.json]

MiniLM reads 256 word pieces at a time. The naive way gives it the beginning of a passage and drops the rest; `MiniLM`
encodes the rest in further windows, and a passage has the score of its best one. Every purchase of a few test streams
is searched for in its stream by its amount and what was bought, such as "$12.50 for taxi". Right is a passage of its
session that holds the amount in figures; counted is how often one is among the first 1, 5 and 20, for all
purchases and for those whose amount stands behind the cut. Both ways encode the same passages on one thread with
nothing cached, and their times are compared.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from uma_lib.files import atomic_write_json
from uma_lib.ledger import Stream
from uma_lib.retrieval import Dense, MiniLM, minilm_folder, split_units
from uma_lib.terms import terms

SIZES = ("small", "standard", "hard")
STREAMS, SESSIONS = 2, 40
LIMIT = 254  # pieces of a window without its two marks
RANKS = (1, 5, 20)


def cut(tokenizer, text: str) -> str:
    """The text as far as one window reads it."""
    ends = [end for _, end in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    return text if len(ends) <= LIMIT else text[: ends[LIMIT - 1]]


def search(passages: list[str], queries: list[str]) -> tuple[float, list[list[int]]]:
    """Seconds to encode the passages, and the ranking for each query."""
    encode = MiniLM()
    encode(["warm up"])
    start = time.process_time()
    encode(passages)
    seconds = time.process_time() - start
    encode(queries)  # together
    index = Dense(encode)
    index.add(passages)
    return seconds, [[i for i, _ in index.search(query, max(RANKS))] for query in queries]


def measure(size: str) -> dict[str, float | int | str]:
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True, verbose=False)
    passages_in_all = long = 0
    seconds = np.zeros(2)
    unread: list[bool] = []  # of every purchase, whether its amount stands behind the cut
    hits: tuple[list[list[bool]], list[list[bool]]] = ([], [])  # of every purchase, by rank; cut and in windows
    for number in range(STREAMS):
        passages: list[str] = []
        searched: list[tuple[str, set[int]]] = []  # query, the passages that are right
        for session in Stream(size, "test", SESSIONS, number):
            units = split_units(session.text)
            for expense in session.expenses:
                (amount,) = terms(str(expense.amount))
                right = {len(passages) + place for place, unit in enumerate(units) if amount in terms(unit)}
                if right:
                    searched.append((f"${expense.amount} for {expense.scene}", right))
                    unread.append(all(amount not in terms(cut(tokenizer, unit)) for unit in units))
            passages += units
        starts = [cut(tokenizer, passage) for passage in passages]
        passages_in_all += len(passages)
        long += sum(start != passage for start, passage in zip(starts, passages, strict=True))
        for way, texts in enumerate((starts, passages)):
            taken, rankings = search(texts, [query for query, _ in searched])
            seconds[way] += taken
            for ranking, (_, right) in zip(rankings, searched, strict=True):
                hits[way].append([not right.isdisjoint(ranking[:rank]) for rank in RANKS])
    cut_hits, window_hits = map(np.array, hits)
    groups = {"cut": cut_hits, "windows": window_hits}
    if any(unread):
        groups |= {"cut_unread": cut_hits[unread], "windows_unread": window_hits[unread]}
    shares = {
        f"{name}_top_{rank}": round(float(share), 3)
        for name, found in groups.items()
        for rank, share in zip(RANKS, found.mean(axis=0), strict=True)
    }
    return {
        "size": size,
        "passages": passages_in_all,
        "long": long,
        "purchases": len(unread),
        "unread": sum(unread),
        **shares,
        "cut_seconds": round(seconds[0], 1),
        "windows_seconds": round(seconds[1], 1),
        "ratio": round(seconds[0] / seconds[1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Dense search with long passages cut and in windows.")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        row = measure(size)
        rows.append(row)
        print(f"{size}: {row['passages']} passages, {row['long'] / row['passages']:.0%} longer than a window; "
              f"{row['unread']} of {row['purchases']} amounts stand behind the cut")  # fmt: skip
        for name in ("cut", "windows", "cut_unread", "windows_unread"):
            if f"{name}_top_1" in row:
                found = ", ".join(f"{row[f'{name}_top_{rank}']:>6.1%} in the first {rank}" for rank in RANKS)
                print(f"  {name:<15} {found}")
        print(f"  encoded in {row['cut_seconds']} and {row['windows_seconds']} s, ratio {row['ratio']}")
    if arguments.out is not None:
        results = {
            "streams": STREAMS,
            "sessions": SESSIONS,
            "split": "test",
            "query": "the amount and the scene of every purchase told in figures",
            "time": "processor time of one thread",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "rows": rows,
        }
        atomic_write_json(arguments.out, results)


if __name__ == "__main__":
    main()
