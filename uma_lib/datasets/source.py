"""Where data sets come from: a folder of files, or the hub. Nothing that is read is ever run.

Files are read as they were published (`rows`): .json, .jsonl, .csv, .tsv and .parquet, each also gzipped. Whatever is
wrong with one is a `RunError` of one line: the file, the record (from 0), the field, and what is wrong.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uma_lib.files import RunError, file_error, sha256
from uma_lib.ledger.files import check_shape, short


@dataclass
class Source:
    """The files of one data set.

    name: the data set's, and its folder's below ``folder``. folder: where data sets lie on this machine; None: the
    hub. hub, revision: a dataset repository and the commit, tag or branch to take from it; None: its newest.
    ``read`` holds the SHA-256 of every file that `find` gave, by name.
    """

    name: str
    folder: Path | None = None
    hub: str = ""
    revision: str | None = None
    read: dict[str, str] = field(default_factory=dict)

    def find(self, *patterns: str) -> list[Path]:
        """The files of the first pattern that there are files for, sorted by name.

        >>> Source("trec", Path("/nowhere")).find("train_5500.label")
        Traceback (most recent call last):
        ...
        uma_lib.files.RunError: /nowhere/trec: no train_5500.label there; put the files there or correct data
        """
        if self.folder is None:
            return self._from_hub(patterns)
        place = Path(self.folder) / self.name
        for pattern in patterns:
            if found := sorted(path for path in place.glob(pattern) if path.is_file()):
                return self._noted({str(path.relative_to(place)): path for path in found})
        raise RunError(f"{place}: no {' or '.join(patterns)} there; put the files there or correct data")

    def has(self, pattern: str) -> bool:
        """Whether there are files of an optional kind."""
        return self.folder is not None and any((Path(self.folder) / self.name).glob(pattern))

    def _noted(self, found: dict[str, Path]) -> list[Path]:
        for name, path in found.items():
            self.read.setdefault(f"{self.name}/{name}", sha256(path))
        return list(found.values())

    def _from_hub(self, patterns: tuple[str, ...]) -> list[Path]:
        if not self.hub:
            raise RunError(f"{self.name} is not on the hub: set data to a folder that holds {self.name}/{patterns[0]}")
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        place = f"{self.hub}{'@' + self.revision if self.revision else ''}"
        try:
            info = HfApi().dataset_info(self.hub, revision=self.revision)
            names = sorted(sibling.rfilename for sibling in info.siblings or [])
            for pattern in patterns:
                if chosen := [name for name in names if fnmatch.fnmatch(name, pattern)]:
                    # of the commit that was looked at, whatever is pushed meanwhile
                    paths = {
                        name: Path(hf_hub_download(self.hub, name, repo_type="dataset", revision=info.sha))
                        for name in chosen
                    }
                    return self._noted({f"{self.hub}@{info.sha}/{name}": path for name, path in paths.items()})
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            line = " ".join(str(error).split())[:200] or type(error).__name__
            raise RunError(
                f"{self.name}: {place} could not be read from the hub ({line}); go online, or set data to a folder "
                f"that holds {self.name}/{patterns[0]}"
            ) from error
        raise RunError(f"{self.name}: {place} has no {' or '.join(patterns)}; name another revision, or set data")


# --- records ------------------------------------------------------------------------------------------------------


def rows(path: Path, shape: dict[str, Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record of a file as (where it stands, the record), checked against a shape (`ledger.files.check_shape`).

    A JSON file holds a list of records, or one record.
    """
    for number, row in enumerate(_read(Path(path))):
        where = f"{path}: record {number}"
        check_shape(row, shape or {}, where)
        yield where, row


def first_of(row: dict[str, Any], names: tuple[str, ...], where: str) -> Any:
    """The value of the first of some names that a record has."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise RunError(f"{where}: has no field {' or '.join(names)}, only: {', '.join(map(str, row)) or 'none'}")


def filled(value: Any, where: str, name: str) -> str:
    """A text, or a number as text, that is not blank."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not text:
        raise RunError(f"{where}: {name} is {short(value)}, not a text with something in it")
    return text


def _read(path: Path) -> Iterator[Any]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    text = _text(path)
    if suffix == ".jsonl":
        for number, line in enumerate(line for line in text.split("\n") if line.strip()):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(f"{path}: record {number}: not a line of JSON ({error}); get the file again") from error
    elif suffix == ".json":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid JSON ({error}); get the file again") from error
        yield from found if isinstance(found, list) else [found]
    elif suffix in (".csv", ".tsv"):
        yield from _table(path, text, "\t" if suffix == ".tsv" else ",")
    else:
        raise RunError(f"{path}: a file of records ends in .json, .jsonl, .csv, .tsv or .parquet, perhaps with .gz")


def _table(path: Path, text: str, delimiter: str) -> Iterator[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for number, row in enumerate(reader):
            if None in row or None in row.values():
                raise RunError(f"{path}: record {number} has more or fewer fields than the header; get the file again")
            yield row
    except csv.Error as error:
        raise RunError(f"{path}: not a table ({error}); get the file again") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Rows, a group at a time; numbers of classes give way to their names where the file knows these."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = _class_names(file.schema_arrow.metadata or {})
        for batch in file.iter_batches(1000):
            for row in batch.to_pylist():
                for column, classes in names.items():
                    if isinstance(row.get(column), int) and 0 <= row[column] < len(classes):
                        row[column] = classes[row[column]]
                yield row
    except OSError as error:  # pyarrow's own among them
        if getattr(error, "errno", None):
            raise file_error(error, path, "read") from error
        raise RunError(f"{path}: not a whole parquet file; get it again") from error
    except (pyarrow.ArrowException, ValueError) as error:
        raise RunError(f"{path}: not a whole parquet file ({type(error).__name__}); get it again") from error


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Names of classes by column, as the package datasets writes them into a file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {column: kind["names"] for column, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, unpacked if need be."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(encoding).removeprefix("\ufeff")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(f"{path}: not a whole gzip file; get it again") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not {encoding} text; get the file again") from error
    except OSError as error:
        raise file_error(error, path, "read") from error


def lines_of(path: Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file."""
    return _text(path, encoding).splitlines()
