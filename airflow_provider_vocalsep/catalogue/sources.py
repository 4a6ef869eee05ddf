"""Read the rows of a catalogue from CSV, TSV, JSON Lines or Parquet, one at a time."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_vocalsep.catalogue.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: A row with its line number, or with its position in files without lines.
NumberedRow = tuple[int, Any]

_COMPRESSIONS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_rows(file: IO[bytes], name: str, *, key_column: str = "key") -> Iterator[NumberedRow]:
    """
    Read rows as a stream.

    :param file: The catalogue, opened for reading bytes. Parquet needs a file that can seek.
    :param name: Its address. The ending decides the format: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson``,
        ``.parquet``; text formats also end in ``.gz``, ``.bz2`` or ``.xz``. Anything else is CSV.
    :param key_column: Column that a file with columns must have.
    :return: Each row with its line. A line that is not a row comes as text that says why.
    :raises CatalogueError: the file is not a catalogue.
    """
    ending = name.lower()
    for suffix, opener in _COMPRESSIONS.items():
        if ending.endswith(suffix):
            file, ending = opener(file), ending.removesuffix(suffix)
    if ending.endswith((".parquet", ".pq")):
        yield from _read_parquet(file, name, key_column)
        return
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        if ending.endswith((".jsonl", ".ndjson")):
            yield from _read_json_lines(text)
        else:
            yield from _read_csv(text, name, "\t" if ending.endswith(".tsv") else ",", key_column)
    except (UnicodeDecodeError, EOFError, OSError) as e:
        raise CatalogueError(f"Catalogue {name} could not be read: {e}") from e
    finally:
        text.detach()  # otherwise it closes the caller's file


def _read_json_lines(lines: Iterable[str]) -> Iterator[NumberedRow]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as e:
                yield number, f"not JSON ({e})"


def _read_csv(lines: Iterable[str], name: str, delimiter: str, key_column: str) -> Iterator[NumberedRow]:
    reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        columns = [column.strip().lower() for column in reader.fieldnames or []]
        _check_columns(columns, name, key_column)
        reader.fieldnames = columns
        for row in reader:
            yield reader.line_num, {column: value for column, value in row.items() if isinstance(column, str)}
    except csv.Error as e:
        line = reader.reader.line_num  # that of DictReader is the last row's
        raise CatalogueError(f"Catalogue {name} could not be read, line {line}: {e}") from e


def _check_columns(columns: list[str], name: str, key_column: str) -> None:
    if key_column not in columns:
        raise CatalogueError(
            f"{name} has no column {key_column!r} (it has: {', '.join(columns) or 'nothing'}). "
            "The first line of a CSV catalogue names its columns: key, task_id and audio_id (or audio_url), "
            "title, duration."
        )


def _read_parquet(file: IO[bytes], name: str, key_column: str) -> Iterator[NumberedRow]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise CatalogueError(
            f"Reading {name} needs pyarrow: pip install 'airflow-provider-vocalsep[parquet]'"
        ) from e
    number = 0
    try:
        table = parquet.ParquetFile(file)
        _check_columns([column.strip().lower() for column in table.schema_arrow.names], name, key_column)
        for batch in table.iter_batches(batch_size=5000):
            for row in batch.to_pylist():
                number += 1
                yield number, {str(column).strip().lower(): value for column, value in row.items()}
    except pyarrow.ArrowException as e:
        raise CatalogueError(f"Catalogue {name} could not be read: {e}") from e
