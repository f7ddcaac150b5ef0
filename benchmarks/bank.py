"""How many operations a second the memory bank does, beside a bank that is a file.

    python benchmarks/bank.py [--out data/results/bench_bank.json]

At each size the same seeded mix, a quarter each of add, update, retrieve and delete on keys drawn at random,
runs on a `MemoryBank` and on a JSONL file that is read again at every call and written again at every change
(the way of the authors' code). The size stays about the same throughout. The file gets fewer operations at
the larger sizes, since each costs O(n) there. The best of several repeats counts; the repeats go around the
sizes, so that a disturbance of the machine does not fall on one of them. Filling the bank is not timed;
running the operations is, with everything that Python does meanwhile.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from uma_lib.files import atomic_write_json
from uma_lib.memory import MemoryBank, Result

SIZES = (100, 1_000, 10_000, 100_000)
BANK_OPERATIONS = 20_000
FILE_OPERATIONS = {100: 400, 1_000: 120, 10_000: 20, 100_000: 4}
BANK_REPEATS, FILE_REPEATS = 15, 3
KINDS = ("add", "update", "retrieve", "delete")

Operation = tuple[str, tuple[str, ...]]


class FileBank:
    """The naive way: a JSONL file is the only state."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, str]:
        with open(self.path, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        return {entry["key"]: entry["value"] for entry in entries}

    def write(self, entries: dict[str, str]) -> None:
        with open(self.path, "w", encoding="utf-8") as file:
            for key, value in entries.items():
                file.write(json.dumps({"key": key, "value": value}) + "\n")

    def add(self, key: str, value: str) -> Result:
        entries = self.read()
        if key in entries:
            return Result.failure("exists", key)
        entries[key] = value
        self.write(entries)
        return Result(True, "ok")

    def update(self, key: str, value: str) -> Result:
        entries = self.read()
        if key not in entries:
            return Result.failure("missing", key)
        entries[key] = value
        self.write(entries)
        return Result(True, "ok")

    def retrieve(self, key: str) -> Result:
        entries = self.read()
        return Result(True, entries[key]) if key in entries else Result.failure("missing", key)

    def delete(self, key: str) -> Result:
        entries = self.read()
        if key not in entries:
            return Result.failure("missing", key)
        del entries[key]
        self.write(entries)
        return Result(True, "ok")


def key_of(number: int) -> str:
    return f"2024-{number % 12 + 1:02}-{number % 28 + 1:02} Dining {number}"


def mixed_operations(size: int, count: int, seed: int) -> list[Operation]:
    """A mix that succeeds throughout on a bank that holds the keys 0 .. size - 1."""
    rng = random.Random(seed)
    live = list(range(size))
    operations: list[Operation] = []
    for number in range(count):
        kind = KINDS[number % 4]
        at = rng.randrange(len(live))
        if kind == "add":
            live.append(size + number)
            operations.append((kind, (key_of(size + number), f"{number}.50")))
        elif kind == "update":
            operations.append((kind, (key_of(live[at]), f"{number}.25")))
        elif kind == "retrieve":
            operations.append((kind, (key_of(live[at]),)))
        else:
            live[at], live[-1] = live[-1], live[at]
            operations.append((kind, (key_of(live.pop()),)))
    return operations


def run(bank: MemoryBank | FileBank, operations: list[Operation]) -> float:
    """Operations a second; an operation that fails stops the benchmark."""
    bound: list[tuple[Callable[..., Result], tuple[str, ...]]] = [
        (getattr(bank, kind), arguments) for kind, arguments in operations
    ]
    failed = 0
    begin = time.perf_counter()
    for method, arguments in bound:
        failed += not method(*arguments).ok
    seconds = time.perf_counter() - begin
    if failed:
        raise RuntimeError(f"{failed} operations failed; the mix should succeed throughout")
    return len(operations) / seconds


def full_bank(size: int) -> MemoryBank:
    bank = MemoryBank()
    for number in range(size):
        bank.add(key_of(number), f"{number}.00")
    return bank


def full_file(size: int, path: Path) -> FileBank:
    bank = FileBank(path)
    bank.write({key_of(number): f"{number}.00" for number in range(size)})
    return bank


def measure(seed: int) -> list[dict[str, float | int]]:
    """A row a size: its best operations a second, each way."""
    bank_best = dict.fromkeys(SIZES, 0.0)
    file_best = dict.fromkeys(SIZES, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(max(BANK_REPEATS, FILE_REPEATS)):
            for size in SIZES:
                operations = mixed_operations(size, BANK_OPERATIONS, seed + repeat)
                if repeat < BANK_REPEATS:
                    bank_best[size] = max(bank_best[size], run(full_bank(size), operations))
                if repeat < FILE_REPEATS:
                    few = operations[: FILE_OPERATIONS[size]]
                    file, bank = full_file(size, Path(folder) / "bank.jsonl"), full_bank(size)
                    file_best[size] = max(file_best[size], run(file, few))
                    run(bank, few)
                    if file.read() != dict(bank.items()):
                        raise RuntimeError(f"the two banks disagree at {size} entries")
    return [
        {
            "entries": size,
            "bank_operations": BANK_OPERATIONS,
            "bank_per_second": round(bank_best[size]),
            "file_operations": FILE_OPERATIONS[size],
            "file_per_second": round(file_best[size], 2),
            "ratio": round(bank_best[size] / file_best[size]),
        }
        for size in SIZES
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Operations a second of MemoryBank and of a JSONL file.")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.add_argument("--seed", type=int, default=0, help="of the mix of operations (default: 0)")
    arguments = parser.parse_args()
    rows = measure(arguments.seed)
    print(f"{'entries':>9} {'MemoryBank ops/s':>17} {'JSONL file ops/s':>17} {'ratio':>11}")
    for row in rows:
        entries, bank, file, ratio = (
            row[k] for k in ("entries", "bank_per_second", "file_per_second", "ratio")
        )
        print(f"{entries:>9,} {bank:>17,} {file:>17,.1f} {ratio:>10,}x")
    flatness = rows[-1]["bank_per_second"] / rows[0]["bank_per_second"]
    print(f"MemoryBank at {SIZES[-1]:,} entries reaches {flatness:.2f} of its speed at {SIZES[0]:,}")
    if arguments.out is not None:
        results = {
            "mix": "add, update, retrieve, delete, a quarter each",
            "repeats": {"bank": BANK_REPEATS, "file": FILE_REPEATS, "kept": "best"},
            "seed": arguments.seed,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "rows": rows,
            "largest_to_smallest": round(flatness, 3),
        }
        atomic_write_json(arguments.out, results)


if __name__ == "__main__":
    main()
