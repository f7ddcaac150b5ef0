"""How fast Ledger-QA streams are made, and in how much memory.

    python benchmarks/ledger.py [--out data/results/bench_ledger.json]

Two measurements on both tracks. Speed: sessions of every size, with their text and ground truth, a second of
processor time on one core; the best of several repeats counts. Length: one stream of size ``standard``, made
session by session and written to a file; the time for each session and the growth of the largest resident
memory say whether a stream ten times as long costs ten times as much and no more. Every case runs in a process
of its own, so that no case finds memory that another one has used, and its imports are not counted.

Processor time is measured and not the clock's, so that other work on the machine hardly matters.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

from uma_lib.files import atomic_write_json
from uma_lib.ledger import SIZES, TRACKS, Stream

STREAMS, SESSIONS = 8, 50  # for the speed
REPEATS = 5
LENGTHS = (2_500, 5_000, 10_000)
WANTED_PER_SECOND = 1_000  # standard sessions
WANTED_MB = 100  # growth over the longest stream


def megabytes() -> float:
    """The largest resident memory of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def speed(size: str, rate: float) -> float:
    """Sessions a second."""
    streams = [Stream(size, "train", SESSIONS, index, rate) for index in range(STREAMS)]
    begin = time.process_time()
    for stream in streams:
        for _ in stream:
            pass
    return STREAMS * SESSIONS / (time.process_time() - begin)


def write(sessions: int, rate: float) -> dict[str, float | int]:
    """Make one long stream and write it to a file, a line a session."""
    before = megabytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.jsonl"
        begin = time.process_time()
        with open(path, "w", encoding="utf-8") as file:
            for session in Stream("standard", "train", sessions, 0, rate):
                events = [[e.kind, e.turn, e.entry, e.date, e.scene, str(e.amount)] for e in session.events]
                file.write(json.dumps({"date": session.date, "text": session.text, "events": events}) + "\n")
        seconds = time.process_time() - begin
        written = path.stat().st_size
    return {
        "sessions": sessions,
        "seconds": round(seconds, 2),
        "milliseconds_a_session": round(1000 * seconds / sessions, 3),
        "file_mb": round(written / 1e6, 1),
        "growth_mb": round(megabytes() - before, 1),
    }


def alone(function, *arguments):
    """The result of a call in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ledger-QA sessions a second, and the memory of long streams.")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    arguments = parser.parse_args()

    cases = [(size, track) for size in SIZES for track in TRACKS]
    best = dict.fromkeys(cases, 0.0)
    for _ in range(REPEATS):  # the repeats go around the cases: a disturbance does not fall on one of them
        for size, track in cases:
            best[size, track] = max(best[size, track], alone(speed, size, TRACKS[track]))
    speeds = [{"size": size, "track": track, "per_second": round(best[size, track])} for size, track in cases]
    print(f"{'size':>10} {'track':>18} {'sessions/s':>11}")
    for row in speeds:
        print(f"{row['size']:>10} {row['track']:>18} {row['per_second']:>11,}")

    lengths = []
    print(f"{'track':>18} {'sessions':>9} {'seconds':>8} {'ms a session':>13} {'file MB':>8} {'growth MB':>10}")
    for track, rate in TRACKS.items():
        for sessions in LENGTHS:
            row = {"track": track, **alone(write, sessions, rate)}
            lengths.append(row)
            print(f"{track:>18} {sessions:>9,} {row['seconds']:>8.2f} {row['milliseconds_a_session']:>13.3f} "
                  f"{row['file_mb']:>8.1f} {row['growth_mb']:>10.1f}")  # fmt: skip

    slowest = min(row["per_second"] for row in speeds if row["size"] == "standard")
    largest = max(row["growth_mb"] for row in lengths)
    print(f"standard: {slowest:,} sessions/s at least (wanted: {WANTED_PER_SECOND:,})")
    print(f"growth: {largest:.1f} MB at most (wanted: less than {WANTED_MB})")
    if arguments.out is not None:
        results = {
            "streams": STREAMS,
            "sessions": SESSIONS,
            "repeats": {"speed": REPEATS, "kept": "best"},
            "time": "processor time of one core",
            "revisions": TRACKS,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "speeds": speeds,
            "lengths": lengths,
        }
        atomic_write_json(arguments.out, results)


if __name__ == "__main__":
    main()
