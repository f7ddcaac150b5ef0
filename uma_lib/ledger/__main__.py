"""Ledger-QA on the command line: ``python -m uma_lib.ledger COMMAND``; ``-h`` after any command lists its options.

make      write streams to a file: parquet, the authors' JSON, or their training columns
verify    test sets against the manifest, or a file against its SHA-256 and its own events
describe  measurements of test sets as JSON
lock      write the manifest of all test sets
card      write the data card
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from uma_lib.ledger import authors, files, testsets
from uma_lib.ledger.streams import SIZES, SPLITS, TRACKS, Stream
from uma_lib.paths import DATA
from uma_lib.runs import RunError, atomic_write_json, atomic_write_text, unknown

FORMATS = {
    "parquet": (files.write_parquet, (".parquet",)),
    "authors": (authors.write_authors, (".json", ".json.gz")),
    "rl": (authors.write_rl, (".parquet",)),
}


def make(arguments: argparse.Namespace) -> None:
    for what, known in (("track", TRACKS), ("size", SIZES), ("split", SPLITS), ("format", FORMATS)):
        if getattr(arguments, what) not in known:
            raise RunError(f"--{what}: {unknown(what, getattr(arguments, what), known)}")
    write, endings = FORMATS[arguments.format]
    if not arguments.out.name.endswith(endings):
        raise RunError(f"--out {arguments.out}: the name of format {arguments.format} ends in {' or '.join(endings)}")
    rate = TRACKS[arguments.track] if arguments.revisions is None else arguments.revisions
    if (rate > 0) != (TRACKS[arguments.track] > 0):
        raise RunError(f"--revisions {rate}: 0 is track ledger-qa, more is track ledger-qa-revised")
    count = testsets.size_of_set(arguments.sessions) if arguments.streams is None else arguments.streams
    for what, value in (("streams", count), ("per-kind", arguments.per_kind)):
        if value < 1:
            raise RunError(f"--{what} {value}: at least 1 is needed")

    def samples() -> Iterator[files.Sample]:
        for index in tqdm(range(count), desc=arguments.out.name, disable=None):
            stream = Stream(arguments.size, arguments.split, arguments.sessions, index, revisions=rate)
            yield files.sample(stream, arguments.per_kind)

    try:
        write(arguments.out, samples())
    except ValueError as error:  # sessions or revisions out of range
        raise RunError(str(error)) from error
    print(f"{arguments.out}: {count} streams, {arguments.out.stat().st_size:,} bytes")


def verify(arguments: argparse.Namespace) -> None:
    if arguments.file is None:
        for name in testsets.verify(arguments.names or None):
            print(f"{name}: as in the manifest")
        return
    if arguments.names:
        raise RunError("give names of test sets or --file, not both")
    found = testsets.verify_file(arguments.file)
    same = [e["name"] for e in testsets.load().values() if e["sha256"] == found["sha256"]]
    print(f"{arguments.file}: format {found['format']}, {found['streams']} streams, {found['questions']} questions")
    if found["sha256"] is None:
        print("not written by this package: it has no hash, and its answers were not checked")
    elif same:
        print(f"it is the test set {same[0]}")


def describe(arguments: argparse.Namespace) -> None:
    from uma_lib.ledger.card import describe as measure

    names = [
        f"{track}/{size}/test/{arguments.sessions}"
        for track in ([arguments.track] if arguments.track else TRACKS)
        for size in ([arguments.size] if arguments.size else SIZES)
    ]
    found = {name: measure(name) for name in tqdm(names, desc="describe", disable=None)}
    if arguments.out:
        atomic_write_json(arguments.out, found)
    else:
        print(json.dumps(found, indent=2))


def lock(arguments: argparse.Namespace) -> None:
    before = testsets.load() if testsets.MANIFEST.exists() else {}
    entries = testsets.lock()["sets"]
    changed = sum(entry["name"] in before and entry != before[entry["name"]] for entry in entries)
    print(f"{testsets.MANIFEST}: {len(entries)} test sets, {changed} of them not as before")


def card(arguments: argparse.Namespace) -> None:
    from uma_lib.ledger.card import card as text

    atomic_write_text(arguments.out, text())
    print(arguments.out)


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        "uma_lib.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = main.add_subparsers(dest="command", required=True)
    command = commands.add_parser("make")
    command.set_defaults(run=make)
    command.add_argument("--track", default="ledger-qa", help=f"one of {', '.join(TRACKS)}")
    command.add_argument("--size", default="small", help=f"one of {', '.join(SIZES)}")
    command.add_argument("--split", default="train", help=f"one of {', '.join(SPLITS)}")
    command.add_argument("--sessions", type=int, required=True, help="sessions a stream")
    command.add_argument("--streams", type=int, help="how many streams, from index 0; default: as many as a test set")
    command.add_argument("--revisions", type=float, help="revisions for each purchase; default: the track's")
    command.add_argument("--per-kind", type=int, default=1, help="questions of each kind a stream, at most")
    command.add_argument("--format", default="parquet", help=f"one of {', '.join(FORMATS)}")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command = commands.add_parser("verify")
    command.set_defaults(run=verify)
    command.add_argument("names", nargs="*", metavar="NAME", help=f"such as {testsets.NAMES[2]}; default: all")
    command.add_argument("--file", type=Path, help="a file of any format instead")
    command = commands.add_parser("describe")
    command.set_defaults(run=describe)
    command.add_argument("--track", help="default: all")
    command.add_argument("--size", help="default: all")
    command.add_argument("--sessions", type=int, default=50, help="horizon of the test sets")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: print")
    command = commands.add_parser("lock")
    command.set_defaults(run=lock)
    command = commands.add_parser("card")
    command.set_defaults(run=card)
    command.add_argument("--out", type=Path, default=DATA / "ledger_qa_card.md", metavar="FILE")
    return main


def main() -> None:
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except RunError as error:
        raise SystemExit(f"uma_lib.ledger: {error}") from None


if __name__ == "__main__":
    main()
