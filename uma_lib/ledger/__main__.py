"""Ledger-QA on the command line: ``python -m uma_lib.ledger COMMAND``; ``-h`` after any command lists its options.

make      write streams to a file: parquet, the authors' JSON, or their training columns
rewrite   the same streams in the words of a chat model at a server, every line checked
verify    test sets against the manifest, or a file against its SHA-256 and its own events
describe  measurements of test sets as JSON
lock      write the manifest of all test sets
card      write the data card
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time to import
    from uma_lib.processes import end_at_signals

    end_at_signals("uma_lib.ledger")

import argparse
import glob
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from itertools import chain, islice
from pathlib import Path

from tqdm import tqdm

from uma_lib.files import RunError, atomic_write_json, atomic_write_text, read_json
from uma_lib.ledger import authors, files, testsets
from uma_lib.ledger.streams import SIZES, SPLITS, TRACKS, Stream
from uma_lib.parameters import check, unknown
from uma_lib.paths import DATA
from uma_lib.processes import carry_out, clear_temporaries

# of `make` and `rewrite`: a stream is one row, which must fit into memory a few times
MOST = {"sessions": 20_000, "streams": 1_000_000, "per-kind": 1_000}
FORMATS = {
    "parquet": (files.write_parquet, (".parquet",)),
    "authors": (authors.write_authors, (".json", ".json.gz")),
    "rl": (authors.write_rl, (".parquet",)),
}


def make(arguments: argparse.Namespace) -> None:
    write, number, streams = _asked(arguments)
    bar = tqdm(streams(), desc=arguments.out.name, total=number, disable=None)
    write(arguments.out, (files.sample(stream, arguments.per_kind) for stream in bar))
    print(f"{arguments.out}: {number} streams, {arguments.out.stat().st_size:,} bytes")


def rewrite(arguments: argparse.Namespace) -> None:
    from uma_lib.ledger import rewrite

    write, number, streams = _asked(arguments)
    if arguments.cache.resolve() == arguments.out.resolve():
        raise RunError(f"--cache and --out are the same path, {arguments.out}; choose another one for the cache")
    names = {field.name for field in fields(rewrite.RewriteConfig)}
    config = check(rewrite.RewriteConfig, {n: value for n, value in vars(arguments).items() if n in names})
    sessions, report = rewrite.rewrite(chain.from_iterable(streams()), config, arguments.cache)
    with closing(sessions):  # whatever happens, no request goes on
        total = number * arguments.sessions
        bar = iter(tqdm(sessions, desc=arguments.out.name, total=total, unit="session", disable=None))
        samples = (files.sample(s, arguments.per_kind, islice(bar, len(s)), config.model) for s in streams())
        write(arguments.out, samples)
    print(f"{arguments.out}: {number} streams, {arguments.out.stat().st_size:,} bytes\n{report}")


def _asked(arguments: argparse.Namespace) -> tuple[Callable, int, Callable[[], Iterator[Stream]]]:
    """What `make` and `rewrite` write: the function for the format, the number of streams, and these, made anew."""
    for what, known in (("track", TRACKS), ("size", SIZES), ("split", SPLITS), ("format", arguments.formats)):
        if getattr(arguments, what) not in known:
            raise RunError(f"--{what}: {unknown(what, getattr(arguments, what), known)}")
    write, endings = FORMATS[arguments.format]
    if not arguments.out.name.endswith(endings):
        raise RunError(f"--out {arguments.out}: the name of format {arguments.format} ends in {' or '.join(endings)}")
    rate = TRACKS[arguments.track] if arguments.revisions is None else arguments.revisions
    if (rate > 0) != (TRACKS[arguments.track] > 0):
        raise RunError(f"--revisions {rate}: 0 is track ledger-qa, more is track ledger-qa-revised")
    number = testsets.size_of_set(arguments.sessions) if arguments.streams is None else arguments.streams
    if arguments.out.is_dir():
        raise RunError(f"--out {arguments.out}: a folder is there; give the name of a file")
    for what, value in (("streams", number), ("per-kind", arguments.per_kind), ("sessions", arguments.sessions)):
        if value < 1:
            raise RunError(f"--{what} {value}: at least 1 is needed")
        if value > MOST[what]:
            raise RunError(f"--{what} {value}: at most {MOST[what]} is possible")
    try:
        Stream(arguments.size, arguments.split, arguments.sessions, 0, rate)
    except ValueError as error:  # revisions out of range
        raise RunError(str(error)) from error
    which = arguments.size, arguments.split, arguments.sessions, number, rate
    return write, number, lambda: testsets.first_streams(*which)


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
    for name in found["rewritten_by"]:
        print(f"streams of it are in the words of the model {name!r}: it is no test set")


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
    before = {}
    if testsets.MANIFEST.exists():  # of any version: it is compared, not used
        held = read_json(testsets.MANIFEST)
        files.check_shape(held, {"sets": [{"name": str}]}, str(testsets.MANIFEST))
        before = {entry["name"]: entry for entry in held["sets"]}
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
    listed = {"formatter_class": _Listed}
    _stream_options(commands.add_parser("make", **listed), make, tuple(FORMATS))
    command = commands.add_parser("rewrite", **listed)
    _stream_options(command, rewrite, ("parquet", "authors"))
    command.add_argument("--base-url", required=True, metavar="URL", help="of the model server, up to and with /v1")
    command.add_argument("--model", required=True, help="its name at the server")
    command.add_argument("--cache", type=Path, required=True, metavar="FOLDER", help="keeps every answer")
    for name, kind, text in (
        ("--key-variable", str, "environment variable that holds the API key, if the server wants one"),
        ("--tries", int, "answers asked for until one passes the checks"),
        ("--temperature", float, "of the model"),
        ("--max-tokens", int, "of one answer; models that think first need several hundred"),
        ("--parallel", int, "requests at a time"),
        ("--timeout", float, "seconds without a sign of the server"),
        ("--patience", float, "seconds to go on with a request that fails for a passing reason"),
    ):  # what is not given keeps the default of RewriteConfig
        command.add_argument(name, type=kind, default=argparse.SUPPRESS, help=text + _default_of(name))
    command.add_argument(
        "--kinds", nargs="+", default=argparse.SUPPRESS, help="some of purchase, answer, talk" + _default_of("--kinds")
    )
    command = commands.add_parser("verify", **listed)
    command.set_defaults(run=verify)
    command.add_argument("names", nargs="*", metavar="NAME", help=f"such as {testsets.NAMES[2]}; default: all")
    command.add_argument("--file", type=Path, help="a file of any format instead")
    command = commands.add_parser("describe", **listed)
    command.set_defaults(run=describe)
    command.add_argument("--track", help="default: all")
    command.add_argument("--size", help="default: all")
    command.add_argument("--sessions", type=int, default=50, help="horizon of the test sets")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: print")
    command = commands.add_parser("lock", **listed)
    command.set_defaults(run=lock)
    command = commands.add_parser("card", **listed)
    command.set_defaults(run=card)
    command.add_argument("--out", type=Path, default=DATA / "ledger_qa_card.md", metavar="FILE", help="what is written")
    return main


class _Listed(argparse.HelpFormatter):
    """Every option with its default, where it has one and does not tell it itself."""

    def _get_help_string(self, action: argparse.Action) -> str:
        said = action.help or ""
        told = action.default in (None, argparse.SUPPRESS) or "default" in said or not action.option_strings
        return said if told else f"{said} (default: %(default)s)".strip()


def _default_of(option: str) -> str:
    """The default of an option of `rewrite`, in brackets; looked up only where somebody may read it."""
    if "rewrite" not in sys.argv:
        return ""
    from uma_lib.ledger.rewrite import RewriteConfig

    found = {field.name: field.default for field in fields(RewriteConfig)}[option.strip("-").replace("-", "_")]
    return f" (default: {' '.join(found) if isinstance(found, tuple) else found or 'none'})"


def _stream_options(command: argparse.ArgumentParser, run: Callable, formats: tuple[str, ...]) -> None:
    command.set_defaults(run=run, formats=formats)
    command.add_argument("--track", default="ledger-qa", help=f"one of {', '.join(TRACKS)}")
    command.add_argument("--size", default="small", help=f"one of {', '.join(SIZES)}")
    command.add_argument("--split", default="train", help=f"one of {', '.join(SPLITS)}")
    command.add_argument("--sessions", type=int, required=True, help="sessions a stream")
    command.add_argument("--streams", type=int, help="how many streams, from the first; default: as many as a test set")
    command.add_argument("--revisions", type=float, help="revisions for each purchase; default: the track's")
    command.add_argument("--per-kind", type=int, default=1, help="questions of each kind a stream, at most; up to 1000")
    command.add_argument("--format", default="parquet", help=f"one of {', '.join(formats)}")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="what is written")


def kept(arguments: argparse.Namespace) -> str:
    """What an interrupted command leaves, and how to go on."""
    if arguments.command == "rewrite":
        return f"the answers so far are kept in {arguments.cache}; run the same command again to go on"
    return "no file was changed; run the same command again"


def main() -> None:
    arguments = parser().parse_args()

    def work() -> None:
        out = testsets.MANIFEST if arguments.command == "lock" else getattr(arguments, "out", None)
        if out:
            clear_temporaries(out.parent, [f".{glob.escape(out.name)}.*.tmp"])
        if arguments.command == "rewrite":
            clear_temporaries(arguments.cache)
        arguments.run(arguments)

    carry_out("uma_lib.ledger", work, lambda: kept(arguments))


if __name__ == "__main__":
    main()
