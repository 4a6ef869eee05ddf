"""Catalogues inside DAGs."""

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
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.api.requests import parse_separation_type
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.catalogue.errors import CatalogueError, NoRoomError
from airflow_provider_vocalsep.catalogue.plan import Plan, SeenKeys, split_into_chunks
from airflow_provider_vocalsep.catalogue.sources import read_rows
from airflow_provider_vocalsep.links.page import PageLink, run_page
from airflow_provider_vocalsep.observability.lineage import LISTED, Data, tell_hook_lineage
from airflow_provider_vocalsep.operators._runtime import raise_for_airflow, s3_client_of, task_instance_ref
from airflow_provider_vocalsep.runs.report_file import run_folder
from airflow_provider_vocalsep.storage.errors import StorageError
from airflow_provider_vocalsep.storage.location import Location, parse_s3_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskInstanceKey
    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.catalogue.sources import NumberedRow

log = logging.getLogger(__name__)

#: What the file system says when it has no room (``man 2 write``).
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Rows that are fetched from a database at a time.
_FETCH = 5000


def load_tracks(
    catalogue: str, *, aws_conn_id: str | None = "aws_default", bad_rows: str = "fail"
) -> list[dict[str, Any]]:
    """
    Read the tracks of a catalogue, ready for ``VocalSeparationOperator.partial(...).expand(track=...)``.

    :param catalogue: Address of the catalogue, see :class:`PlanCatalogueOperator`. Fields: ``key``, ``task_id`` and
        ``audio_id`` or ``audio_url``, and optionally ``title``, ``duration``.
    :param aws_conn_id: Connection of the object storage.
    :param bad_rows: ``fail`` refuses a catalogue with rows that cannot be used, naming each; ``skip`` logs them and
        goes on with the others.
    :return: One mapping a track. A row that repeats an earlier one is left out.
    """
    try:
        plan = Plan(
            on_reject=lambda line, reason, _: log.warning("%s line %d: %s", catalogue, line, reason),
            on_duplicate=lambda line, reason: log.warning("%s line %d: %s", catalogue, line, reason),
        )
        with opened(catalogue, aws_conn_id) as file:
            tracks = list(plan.read_tracks(read_rows(file, catalogue)))
        _after(plan, catalogue, _checked(bad_rows))
    except VocalSepError as e:
        raise_for_airflow(e)
    return [track.model_dump(exclude_none=True) for track in tracks]


class PlanCatalogueOperator(BaseOperator):
    """
    Cut a catalogue into chunks, one for each task instance of ``VocalSeparationBatchOperator``.

    Streams: a million rows take no more memory than a thousand. Every row is checked before anything is submitted. The
    chunks are JSON Lines under ``{destination}/_vocalsep/runs/{dag}/{run}/{task}/``, so that the plan of every run can be
    read later; rows that cannot be used are beside them in ``rejects.jsonl`` with line and reason.

    :param catalogue: Address of the catalogue: ``s3://``, a local path, or any other that Airflow's object storage
        knows. The ending says what it is: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` (each also ``.gz``, ``.bz2``,
        ``.xz``), ``.parquet``. Or a list of tracks. (templated)
    :param destination: ``s3://bucket/prefix`` under which the stems will land. (templated)
    :param sql: Instead of ``catalogue``: a query whose columns are the fields of a track. (templated)
    :param sql_conn_id: Connection of the database. (templated)
    :param chunk_size: Tracks in a chunk. (templated)
    :param columns: For columns that are called otherwise: field of a track to name of its column. (templated)
    :param bad_rows: ``fail`` stops before anything is submitted; ``skip`` goes on with the others. (templated)
    :param only_new: Leave out tracks whose manifest is at the destination. (templated)
    :param separation_type: What will be asked for; with ``only_new``. (templated)
    :param stem_name: The stem for ``split_stem_advanced``; with ``only_new``. (templated)
    :param aws_conn_id: Connection of the object storage. (templated)
    :return: Addresses of the chunks; pass them to ``VocalSeparationBatchOperator.partial(...).expand(tracks=...)``.
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

    def page(self, ti: TaskInstanceKey) -> str:
        """Return the page of the DAG run, for :class:`~airflow_provider_vocalsep.links.page.PageLink`."""
        return run_page(ti)

    def execute(self, context: Context) -> list[str]:
        """Write the plan and return the addresses of its chunks."""
        try:
            return self._plan(context)
        except VocalSepError as e:
            raise_for_airflow(e)
        except OSError as e:
            if e.errno in _NO_ROOM:
                raise NoRoomError(e) from e
            raise

    def _plan(self, context: Context) -> list[str]:
        bad_rows, size = _checked(self.bad_rows), int(self.chunk_size)
        if size < 1:
            raise CatalogueError(f"chunk_size is a number of tracks, not {self.chunk_size!r}.")
        client = s3_client_of(self.aws_conn_id)
        bucket, folder = run_folder(self.destination, task_instance_ref(context))
        only_new = str(self.only_new).lower() in ("true", "1")
        with tempfile.TemporaryFile("w+b") as rejects:
            plan = Plan(
                columns=self.columns,
                is_landed=self._landed(client) if only_new else None,
                on_reject=lambda line, reason, row: _write_reject(rejects, line, reason, row),
            )
            found = []
            for first, last, body in split_into_chunks(plan.read_tracks(self._rows()), size):
                key = f"{folder}/tracks-{first:06}-{last:06}.jsonl"
                _put(client, bucket, key, body)
                found.append(f"s3://{bucket}/{key}")
            where = ""
            if plan.counts.rejects:
                rejects.seek(0)
                _put(client, bucket, f"{folder}/rejects.jsonl", rejects)
                where = f"All are in s3://{bucket}/{folder}/rejects.jsonl."
        _after(plan, self._name, bad_rows, where)
        _check_map_length(len(found), plan.counts.tracks)
        log.info(
            "%s: %d tracks in %d chunks, each for one task instance; %d rows say nothing new, %d have landed, %d cannot be used.",
            self._name, plan.counts.tracks, len(found), plan.counts.duplicates, plan.counts.landed, plan.counts.rejects,
        )  # fmt: skip
        read = [Data.at(_uri_of(self.catalogue))] if isinstance(self.catalogue, str) and not self.sql else []
        written = found if len(found) <= LISTED else [f"s3://{bucket}/{folder}"]
        tell_hook_lineage(self.aws_conn_id, inputs=read, outputs=map(Data.at, written))
        return found

    @property
    def _name(self) -> str:
        if self.sql:
            return f"the query to {self.sql_conn_id}"
        return self.catalogue if isinstance(self.catalogue, str) else "the list of tracks"

    def _rows(self) -> Iterator[NumberedRow]:
        if (self.catalogue is None) is (self.sql is None):
            raise CatalogueError("Give either a catalogue or a sql query.")
        if self.sql is not None:
            yield from _query(self.sql, self.sql_conn_id)
        elif isinstance(self.catalogue, str):
            key_column = (self.columns or {}).get("key", "key").strip().lower()
            with opened(self.catalogue, self.aws_conn_id) as file:
                yield from read_rows(file, self.catalogue, key_column=key_column)
        else:
            yield from enumerate(self.catalogue or [], start=1)

    def _landed(self, client: S3Client) -> Any:
        """Find the manifests that are there: a listing is a request for a thousand objects, a look at each is one each."""
        kind = parse_separation_type(self.separation_type)
        bucket, prefix = parse_s3_uri(self.destination)
        manifests = SeenKeys()
        try:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    if item["Key"].endswith("/manifest.json"):
                        manifests.add(item["Key"])
        except (ClientError, BotoCoreError) as e:
            raise StorageError(f"What has landed at {self.destination} could not be listed: {e}") from e

        def is_landed(track: Track) -> bool:
            return (
                Location.parse(self.destination).stems(track.key, kind, self.stem_name).manifest_key
                in manifests
            )

        return is_landed


@contextmanager
def opened(catalogue: str, aws_conn_id: str | None) -> Iterator[IO[bytes]]:
    """
    Open a catalogue as a local file.

    :param catalogue: Its address.
    :param aws_conn_id: Connection for ``s3://``.
    :raises CatalogueError: it is not there or may not be read.
    """
    try:
        if "://" not in catalogue or catalogue.startswith("file://"):
            with Path(catalogue.removeprefix("file://")).open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            if catalogue.startswith("s3://"):
                s3_client_of(aws_conn_id).download_fileobj(*parse_s3_uri(catalogue), copy)
            else:
                from airflow.sdk import ObjectStoragePath

                remote_path: Any = ObjectStoragePath(catalogue)
                with remote_path.open("rb") as remote:
                    shutil.copyfileobj(remote, copy)
            copy.seek(0)
            yield copy
    except (ClientError, BotoCoreError, OSError) as e:
        if isinstance(e, OSError) and e.errno in _NO_ROOM:
            raise NoRoomError(e) from e
        raise CatalogueError(f"Catalogue {catalogue} could not be read: {e}") from e


def _uri_of(catalogue: str) -> str:
    return catalogue if "://" in catalogue else Path(catalogue).absolute().as_uri()


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


def _after(plan: Plan, name: str, bad_rows: str, where: str = "") -> None:
    if bad_rows == "fail":
        plan.raise_for_rejects(name, where)
    elif plan.counts.rejects:
        log.warning("%d rows of %s cannot be used and are skipped. %s", plan.counts.rejects, name, where)
    if not plan.counts.tracks:
        log.warning("%s has no tracks to separate.", name)


def _checked(bad_rows: str) -> str:
    if bad_rows not in ("fail", "skip"):
        raise CatalogueError(f"bad_rows is 'fail' or 'skip', not {bad_rows!r}.")
    return bad_rows


def _check_map_length(found: int, tracks: int) -> None:
    """Say what to do where Airflow would only say that there are too many."""
    most = conf.getint("core", "max_map_length", fallback=1024)
    if found > most:
        raise CatalogueError(
            f"{tracks} tracks make {found} chunks, and Airflow maps a task at most {most} times ([core] max_map_length). "
            f"Set chunk_size to {-(-tracks // most)} or more. Nothing was submitted."
        )


def _write_reject(file: IO[bytes], line: int, reason: str, row: Any) -> None:
    file.write(json.dumps({"line": line, "reason": reason, "row": row}, default=str).encode() + b"\n")


def _put(client: S3Client, bucket: str, key: str, body: bytes | IO[bytes]) -> None:
    try:
        client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/x-ndjson")
    except (ClientError, BotoCoreError) as e:
        raise StorageError(f"The plan s3://{bucket}/{key} could not be written: {e}") from e
