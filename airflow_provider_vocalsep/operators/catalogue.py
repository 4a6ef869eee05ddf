"""Catalogues in DAGs: the operator that plans chunks, and a function for mapped single tracks."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator

from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.catalogue.errors import CatalogueError, NoRoomError
from airflow_provider_vocalsep.catalogue.plan import Plan, SeenKeys, split_into_chunks
from airflow_provider_vocalsep.catalogue.sources import read_rows
from airflow_provider_vocalsep.links.page import PageLink, run_page
from airflow_provider_vocalsep.observability.lineage import MAX_LISTED, Dataset, report_hook_lineage
from airflow_provider_vocalsep.operators._runtime import airflow_errors, open_store
from airflow_provider_vocalsep.storage.clients import store_from_connection
from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.catalogue.sources import NumberedRow
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

#: Errors of a file system without room (``man 2 write``).
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Rows that are fetched from a database at a time.
_FETCH = 5000

_JSON_LINES = "application/x-ndjson"


def load_tracks(
    catalogue: str, *, aws_conn_id: str | None = "aws_default", bad_rows: str = "fail"
) -> list[dict[str, Any]]:
    """
    Read the tracks of a catalogue, ready for ``VocalSeparationOperator.partial(...).expand(track=...)``.

    :param catalogue: Address of the catalogue, see :class:`PlanCatalogueOperator`. Fields: ``key``,
        ``task_id`` and ``audio_id`` or ``audio_url``, and optionally ``title``, ``duration``.
    :param aws_conn_id: Connection of the object storage.
    :param bad_rows: ``fail`` refuses a catalogue with bad rows and names each; ``skip`` logs and skips them.
    :return: One mapping a track. A row that repeats an earlier one is left out.
    """
    with airflow_errors():
        _validate_bad_rows(bad_rows)
        plan = Plan(
            on_reject=lambda line, reason, _: log.warning("%s line %d: %s", catalogue, line, reason),
            on_duplicate=lambda line, reason: log.warning("%s line %d: %s", catalogue, line, reason),
        )
        with open_catalogue(catalogue, aws_conn_id) as file:
            tracks = list(plan.read_tracks(read_rows(file, catalogue)))
        _report_rejects(plan, catalogue, bad_rows)
    return [track.model_dump(exclude_none=True) for track in tracks]


class PlanCatalogueOperator(BaseOperator):
    """
    Cut a catalogue into chunks, one for each task instance of ``VocalSeparationBatchOperator``.

    Streams: a million rows take no more memory than a thousand. Every row is checked before anything is
    submitted. The chunks are JSON Lines in the folder of the run below the destination (see
    docs/catalogues.md), so that the plan of every run can be read later; bad rows are beside them in
    ``rejects.jsonl``, with line and reason.

    :param catalogue: Address of the catalogue: ``s3://``, a local path, or any address that Airflow's object
        storage supports. The ending says the format: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` (each also
        ``.gz``, ``.bz2``, ``.xz``), ``.parquet``. Or a list of tracks. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems will land. (templated)
    :param sql: Instead of ``catalogue``: a query whose columns are the fields of a track. (templated)
    :param sql_conn_id: Connection of the database. (templated)
    :param chunk_size: Tracks in a chunk. (templated)
    :param columns: For columns with other names: field of a track to name of its column. (templated)
    :param bad_rows: ``fail`` stops before anything is submitted; ``skip`` leaves bad rows out. (templated)
    :param only_new: Leave out tracks whose manifest is at the destination. (templated)
    :param separation_type: The separation type of the stems; with ``only_new``. (templated)
    :param stem_name: The stem for ``split_stem_advanced``; with ``only_new``. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :param upload_args: Extra arguments of every upload, as for ``VocalSeparationOperator``. (templated)
    :return: Addresses of the chunks; pass them to
        ``VocalSeparationBatchOperator.partial(...).expand(tracks=...)``.
    """

    template_fields: Sequence[str] = (
        "catalogue",
        "destination",
        "sql",
        "sql_conn_id",
        "chunk_size",
        "columns",
        "bad_rows",
        "only_new",
        "separation_type",
        "stem_name",
        "aws_conn_id",
        "upload_args",
    )
    template_fields_renderers = {"sql": "sql", "columns": "json"}
    operator_extra_links = (PageLink(),)
    ui_color = "#e4f0ff"

    def __init__(
        self,
        *,
        destination: str,
        catalogue: str | list[dict[str, Any]] | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        chunk_size: int | str = 200,
        columns: dict[str, str] | None = None,
        bad_rows: str = "fail",
        only_new: bool | str = False,
        separation_type: str = SeparationType.SEPARATE_VOCAL.value,
        stem_name: str | None = None,
        aws_conn_id: str | None = "aws_default",
        upload_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.catalogue = catalogue
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.chunk_size = chunk_size
        self.columns = columns
        self.bad_rows = bad_rows
        self.only_new = only_new
        self.separation_type = separation_type
        self.stem_name = stem_name
        self.aws_conn_id = aws_conn_id
        self.upload_args = upload_args

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the DAG run, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return run_page(ti)

    def execute(self, context: Context) -> list[str]:
        """Write the plan and return the addresses of its chunks."""
        ti: Any = context["ti"]
        try:
            with airflow_errors():
                _validate_bad_rows(self.bad_rows)
                folder = Location.parse(self.destination).run_folder(ti.dag_id, ti.run_id, ti.task_id)
                written = self._write_plan(open_store(self), folder)
        except OSError as e:
            if e.errno in _NO_ROOM:
                raise NoRoomError(e) from e
            raise
        self._report_lineage(written, folder)
        return written

    def _write_plan(self, store: ObjectStore, folder: Location) -> list[str]:
        size = self._parse_chunk_size()
        with tempfile.TemporaryFile("w+b") as rejects:
            plan = Plan(
                columns=self.columns,
                is_landed=self._find_landed(store) if str(self.only_new).lower() in ("true", "1") else None,
                on_reject=lambda line, reason, row: _write_reject(rejects, line, reason, row),
            )
            written = []
            for first, last, body in split_into_chunks(plan.read_tracks(self._rows()), size):
                key = folder.key(f"tracks-{first:06}-{last:06}.jsonl")
                store.put(folder.bucket, key, body, content_type=_JSON_LINES)
                written.append(folder.uri_of(key))
            where = ""
            if plan.counts.rejects:
                key = folder.key("rejects.jsonl")
                rejects.seek(0)
                store.put(folder.bucket, key, rejects, content_type=_JSON_LINES)
                where = f"All are in {folder.uri_of(key)}."
        _report_rejects(plan, self._name, self.bad_rows, where)
        _check_map_length(len(written), plan.counts.tracks)
        log.info(
            "%s: %d tracks in %d chunks, each for one task instance; left out: %d duplicate rows, %d landed "
            "tracks, %d bad rows.",
            self._name,
            plan.counts.tracks,
            len(written),
            plan.counts.duplicates,
            plan.counts.landed,
            plan.counts.rejects,
        )
        return written

    @property
    def _name(self) -> str:
        if self.sql:
            return f"the query to {self.sql_conn_id}"
        return self.catalogue if isinstance(self.catalogue, str) else "the list of tracks"

    def _parse_chunk_size(self) -> int:
        size = int(self.chunk_size)
        if size < 1:
            raise CatalogueError(f"chunk_size is a number of tracks, not {self.chunk_size!r}.")
        return size

    def _rows(self) -> Iterator[NumberedRow]:
        if (self.catalogue is None) is (self.sql is None):
            raise CatalogueError("Give either a catalogue or a sql query.")
        if self.sql is not None:
            yield from _query(self.sql, self.sql_conn_id)
        elif isinstance(self.catalogue, str):
            key_column = (self.columns or {}).get("key", "key").strip().lower()
            with open_catalogue(self.catalogue, self.aws_conn_id) as file:
                yield from read_rows(file, self.catalogue, key_column=key_column)
        else:
            yield from enumerate(self.catalogue or [], start=1)

    def _find_landed(self, store: ObjectStore) -> Callable[[Track], bool]:
        """List the manifests at the destination: a thousand a request, instead of a HEAD request for each."""
        destination, kind = Location.parse(self.destination), parse_separation_type(self.separation_type)
        manifests = SeenKeys()
        for item in store.list_objects(destination.bucket, destination.listing_prefix):
            if destination.is_manifest(item.key):
                manifests.add(item.key)
        return lambda track: destination.stems(track.key, kind, self.stem_name).manifest_key in manifests

    def _report_lineage(self, written: list[str], folder: Location) -> None:
        read = [self.catalogue] if isinstance(self.catalogue, str) and not self.sql else []
        report_hook_lineage(
            self.aws_conn_id,
            inputs=[Dataset.at(uri if "://" in uri else Path(uri).absolute().as_uri()) for uri in read],
            outputs=map(Dataset.at, written if len(written) <= MAX_LISTED else [folder.uri]),
        )


@contextmanager
def open_catalogue(catalogue: str, aws_conn_id: str | None) -> Iterator[IO[bytes]]:
    """
    Open a catalogue as a local file.

    :param aws_conn_id: Connection for ``s3://``.
    :raises CatalogueError: it does not exist or cannot be read.
    """
    try:
        if "://" not in catalogue or catalogue.startswith("file://"):
            with Path(catalogue.removeprefix("file://")).open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            if catalogue.startswith("s3://"):
                store_from_connection(aws_conn_id).download(*parse_s3_uri(catalogue), copy)
            else:
                from airflow.sdk import ObjectStoragePath

                remote_path: Any = ObjectStoragePath(catalogue)
                with remote_path.open("rb") as remote:
                    shutil.copyfileobj(remote, copy)
            copy.seek(0)
            yield copy
    except (DestinationError, OSError) as e:
        if isinstance(e, OSError) and e.errno in _NO_ROOM:
            raise NoRoomError(e) from e
        raise CatalogueError(f"Catalogue {catalogue} could not be read: {e}") from e


def _query(sql: str, conn_id: str | None) -> Iterator[NumberedRow]:
    if not conn_id:
        raise CatalogueError("A sql query needs sql_conn_id, the connection of its database.")
    hook: Any = BaseHook.get_hook(conn_id)
    with closing(hook.get_conn()) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        columns = [str(column[0]).lower() for column in cursor.description]
        number = 0
        while rows := cursor.fetchmany(_FETCH):
            for row in rows:
                number += 1
                yield number, dict(zip(columns, row, strict=True))


def _validate_bad_rows(bad_rows: str) -> None:
    if bad_rows not in ("fail", "skip"):
        raise CatalogueError(f"bad_rows is 'fail' or 'skip', not {bad_rows!r}.")


def _report_rejects(plan: Plan, name: str, bad_rows: str, where: str = "") -> None:
    if bad_rows == "fail":
        plan.raise_for_rejects(name, where)
    elif plan.counts.rejects:
        log.warning("Skipped %d bad rows of %s. %s", plan.counts.rejects, name, where)
    if not plan.counts.tracks:
        log.warning("%s has no tracks to separate.", name)


def _check_map_length(found: int, tracks: int) -> None:
    """Name the chunk size that is needed; Airflow's own error does not."""
    most = conf.getint("core", "max_map_length", fallback=1024)
    if found > most:
        raise CatalogueError(
            f"{tracks} tracks make {found} chunks, and Airflow maps a task at most {most} times "
            f"([core] max_map_length). Set chunk_size to {-(-tracks // most)} or more. Nothing was submitted."
        )


def _write_reject(file: IO[bytes], line: int, reason: str, row: Any) -> None:
    file.write(json.dumps({"line": line, "reason": reason, "row": row}, default=str).encode() + b"\n")
