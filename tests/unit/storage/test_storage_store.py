from __future__ import annotations

import base64
import hashlib
import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError

from airflow_provider_vocalsep.storage.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidRangeError,
    NoBucketError,
    NotFoundError,
    StorageError,
)
from airflow_provider_vocalsep.storage.location import Location
from airflow_provider_vocalsep.storage.objects import ObjectTag
from airflow_provider_vocalsep.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_s3 import S3Client

BODY = b"sound" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()


def put(store: ObjectStore, key: str, body: bytes = BODY) -> ObjectTag:
    return store.put("stems", key, body, content_type="audio/mpeg")


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "PutObject")


class TestGet:
    def test_content_and_quoted_etag_are_returned(self, store: ObjectStore) -> None:
        tag = put(store, "a.mp3")

        assert store.get("stems", "a.mp3") == BODY
        assert store.get_versioned("stems", "a.mp3") == (BODY, f'"{tag.etag}"')

    def test_missing_object_is_not_found(self, store: ObjectStore) -> None:
        with pytest.raises(NotFoundError, match="s3://stems/a.mp3"):
            store.get("stems", "a.mp3")

    def test_missing_bucket_is_no_missing_object(self, store: ObjectStore) -> None:
        with pytest.raises(NoBucketError, match="'nobodys-bucket'"):
            store.get("nobodys-bucket", "a.mp3")


class TestOpen:
    def test_chunks_are_the_object(self, store: ObjectStore) -> None:
        put(store, "a.mp3")

        stream = store.open("stems", "a.mp3")

        assert (stream.bytes, stream.content_range) == (len(BODY), None)
        assert b"".join(stream.chunks(100)) == BODY

    def test_range_is_read_alone(self, store: ObjectStore) -> None:
        put(store, "a.mp3")

        stream = store.open("stems", "a.mp3", byte_range="bytes=5-9")

        assert stream.content_range == f"bytes 5-9/{len(BODY)}"
        assert b"".join(stream.chunks(100)) == BODY[5:10]

    def test_range_past_the_end_is_invalid(self, store: ObjectStore) -> None:
        put(store, "a.mp3")

        with pytest.raises(InvalidRangeError):
            store.open("stems", "a.mp3", byte_range="bytes=99999-")

    def test_other_version_is_a_conflict(self, store: ObjectStore) -> None:
        put(store, "a.mp3")

        with pytest.raises(ConflictError):
            store.open("stems", "a.mp3", if_match='"another"')


class TestDownload:
    def test_object_is_copied_into_a_file(self, store: ObjectStore) -> None:
        file = io.BytesIO()
        put(store, "a.mp3")

        store.download("stems", "a.mp3", file)

        assert file.getvalue() == BODY

    def test_missing_object_is_not_found(self, store: ObjectStore) -> None:
        with pytest.raises(NotFoundError):
            store.download("stems", "a.mp3", io.BytesIO())


class TestHead:
    def test_size_version_type_and_metadata_are_returned(self, store: ObjectStore) -> None:
        tag = store.put(
            "stems", "a.mp3", BODY, content_type="audio/mpeg", sha256=DIGEST, stem={"owner": "me"}
        )

        head = store.head("stems", "a.mp3")

        assert head is not None
        assert (head.bytes, head.content_type, head.metadata) == (len(BODY), "audio/mpeg", {"owner": "me"})
        assert head.tag == tag

    def test_missing_object_is_none(self, store: ObjectStore) -> None:
        assert store.head("stems", "a.mp3") is None


class TestObjectTag:
    def test_checksum_of_other_bytes_is_not_its_sha256(self) -> None:
        tag = ObjectTag("etag", base64.b64encode(bytes.fromhex(DIGEST)).decode())

        assert tag.has_sha256(DIGEST)
        assert not tag.has_sha256("00" * 32)

    def test_store_without_checksums_has_no_sha256(self) -> None:
        assert not ObjectTag("etag").has_sha256(DIGEST)


class TestListObjects:
    def test_objects_with_the_prefix_are_listed(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "b/1"):
            put(store, key)

        listed = list(store.list_objects("stems", "a/"))

        assert [(found.key, found.bytes) for found in listed] == [("a/1", len(BODY)), ("a/2", len(BODY))]

    def test_missing_bucket_is_an_error(self, store: ObjectStore) -> None:
        with pytest.raises(NoBucketError):
            list(store.list_objects("nobodys-bucket", ""))


class TestSwap:
    def swap(self, store: ObjectStore, body: bytes, version: str | None) -> str:
        return store.swap("stems", "entry.json", body, content_type="application/json", version=version)

    def test_new_object_is_written_once(self, store: ObjectStore) -> None:
        self.swap(store, b"1", None)

        with pytest.raises(ConflictError):
            self.swap(store, b"2", None)
        assert store.get("stems", "entry.json") == b"1"

    def test_read_version_is_replaced(self, store: ObjectStore) -> None:
        version = self.swap(store, b"1", None)

        newer = self.swap(store, b"2", version)

        assert store.get_versioned("stems", "entry.json") == (b"2", newer)

    def test_replaced_version_is_a_conflict(self, store: ObjectStore) -> None:
        version = self.swap(store, b"1", None)
        self.swap(store, b"2", version)

        with pytest.raises(ConflictError):
            self.swap(store, b"3", version)

    def test_deleted_object_is_a_conflict(self, store: ObjectStore) -> None:
        version = self.swap(store, b"1", None)
        list(store.delete("stems", ["entry.json"]))

        with pytest.raises(ConflictError):
            self.swap(store, b"2", version)

    def test_new_object_without_its_bucket_is_no_conflict(self) -> None:
        client = ConditionalClient(honoured=(), rejected={"IfNoneMatch": "404"})

        with pytest.raises(NotFoundError):
            self.swap(ObjectStore(cast("Any", client)), b"1", None)


class ConditionalClient:
    """A client of a store that honours some headers of conditional writes, and rejects others."""

    def __init__(self, *, honoured: Iterable[str], rejected: dict[str, str] | None = None) -> None:
        self.honoured = set(honoured)
        self.rejected = rejected or {}
        self.exists = False

    def put_object(self, **arguments: Any) -> dict[str, str]:
        for condition, code in self.rejected.items():
            if condition in arguments:
                raise client_error(code)
        failed = "IfMatch" in arguments or ("IfNoneMatch" in arguments and self.exists)
        if failed and self.honoured & set(arguments):
            raise client_error("PreconditionFailed")
        self.exists = True
        return {"ETag": '"1"'}


class TestHonoursConditions:
    def honours_conditions(self, client: ConditionalClient) -> bool:
        return ObjectStore(cast("Any", client)).honours_conditions("stems", "test")

    def test_store_with_both_conditions_honours_them(self, store: ObjectStore) -> None:
        assert store.honours_conditions("stems", "test")
        assert store.honours_conditions("stems", "test"), "although the test object exists"

    @pytest.mark.parametrize("honoured", [[], ["IfNoneMatch"], ["IfMatch"]], ids=str)
    def test_store_that_ignores_a_condition_does_not(self, honoured: list[str]) -> None:
        assert not self.honours_conditions(ConditionalClient(honoured=honoured))

    @pytest.mark.parametrize("code", ["501", "NotImplemented", "InvalidArgument"])
    def test_store_that_rejects_a_condition_does_not(self, code: str) -> None:
        client = ConditionalClient(honoured=["IfNoneMatch"], rejected={"IfMatch": code})

        assert not self.honours_conditions(client)

    def test_store_that_denies_access_is_an_error(self) -> None:
        client = ConditionalClient(honoured=[], rejected={"IfNoneMatch": "AccessDenied"})

        with pytest.raises(AccessDeniedError):
            self.honours_conditions(client)


class TestDelete:
    def test_objects_are_deleted_in_batches_of_a_thousand(
        self, store: ObjectStore, s3: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_vocalsep.storage.store._DELETED_AT_ONCE", 2)
        for key in "abcd":
            put(store, key)

        answers = list(store.delete("stems", ["a", "b", "c"]))

        assert answers == [(2, []), (1, [])]
        assert [found.key for found in store.list_objects("stems", "")] == ["d"]

    def test_object_that_remains_is_named_with_the_reason(self) -> None:
        errors = [{"Key": "b", "Code": "AccessDenied", "Message": "locked"}]
        client = SimpleNamespace(delete_objects=lambda **_: {"Errors": errors})

        answers = list(ObjectStore(cast("Any", client)).delete("stems", ["a", "b"]))

        assert answers == [(1, ["s3://stems/b: AccessDenied locked"])]


class TestUpload:
    def test_parts_become_one_object_with_a_checksum(self, store: ObjectStore) -> None:
        bodies = [b"a" * (5 << 20), b"b"]
        upload = store.begin_upload("stems", "a.mp3", content_type="audio/mpeg", stem={})

        parts = [
            store.send_part(
                "stems", "a.mp3", upload, number, io.BytesIO(body), hashlib.sha256(body).hexdigest()
            )
            for number, body in enumerate(bodies, 1)
        ]
        tag = store.complete_upload("stems", "a.mp3", upload, parts)

        assert store.get("stems", "a.mp3") == b"".join(bodies)
        assert tag.etag is not None
        assert tag.etag.endswith("-2")

    def test_aborted_upload_leaves_no_parts(self, store: ObjectStore, s3: S3Client) -> None:
        store.abort_upload(
            "stems", "a.mp3", store.begin_upload("stems", "a.mp3", content_type="audio/mpeg", stem={})
        )

        assert "Uploads" not in s3.list_multipart_uploads(Bucket="stems")

    def test_failed_abort_is_logged(self, store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
        store.abort_upload("nobodys-bucket", "a.mp3", "id")

        assert "unfinished upload of s3://nobodys-bucket/a.mp3" in caplog.text


class TestCheckWritable:
    def test_check_leaves_nothing_in_the_bucket(self, store: ObjectStore, s3: S3Client) -> None:
        ObjectStore(s3, upload_args={"ServerSideEncryption": "AES256"}).check_writable("stems", "a.mp3")

        assert "Contents" not in s3.list_objects_v2(Bucket="stems")
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="stems")

    def test_missing_bucket_is_named_and_not_created(self, store: ObjectStore, s3: S3Client) -> None:
        with pytest.raises(NoBucketError, match="no bucket 'nobodys-bucket'. Create it"):
            store.check_writable("nobodys-bucket", "a.mp3")

        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["stems"]

    def test_credentials_that_may_not_check_the_bucket_may_still_write(
        self, store: ObjectStore, s3: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deny(**_: Any) -> None:
            raise client_error("403")

        monkeypatch.setattr(s3, "head_bucket", deny)

        store.check_writable("stems", "a.mp3")


class TestConsoleUrl:
    def test_aws_has_a_console(self, store: ObjectStore) -> None:
        url = store.console_url(Location("stems", "out/a b"))

        assert url == "https://us-east-1.console.aws.amazon.com/s3/buckets/stems?prefix=out/a%20b/"

    def test_other_store_has_its_endpoint(self) -> None:
        meta = SimpleNamespace(endpoint_url="http://localhost:8333", region_name="us-east-1")
        store = ObjectStore(cast("Any", SimpleNamespace(meta=meta)))

        assert store.console_url(Location("stems", "out")) == "http://localhost:8333/stems/out/"


class TestPresign:
    def test_link_names_the_object_and_expires(self, store: ObjectStore) -> None:
        link = store.presign("stems", "out/a.mp3", seconds=60)

        assert "stems" in link
        assert "out/a.mp3?" in link
        assert "Expires" in link


class TestErrors:
    def test_store_that_does_not_answer_is_retryable(self) -> None:
        def slow_down(**_: Any) -> None:
            raise client_error("SlowDown")

        store = ObjectStore(cast("Any", SimpleNamespace(get_object=slow_down)))

        with pytest.raises(StorageError, match="SlowDown") as e:
            store.get("stems", "a.mp3")
        assert e.value.retryable


class TestUploadArgs:
    ARGS = {"ServerSideEncryption": "AES256", "StorageClass": "STANDARD_IA", "Metadata": {"owner": "me"}}

    @pytest.fixture
    def sent(self, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """The arguments of every PutObject."""
        sent: list[dict[str, Any]] = []
        put = s3.put_object
        monkeypatch.setattr(s3, "put_object", lambda **arguments: sent.append(arguments) or put(**arguments))
        return sent

    def test_they_reach_every_object_and_only_stems_a_storage_class(
        self, s3: S3Client, sent: list[dict[str, Any]]
    ) -> None:
        store = ObjectStore(s3, upload_args=self.ARGS)

        store.put("stems", "a.mp3", BODY, content_type="audio/mpeg", stem={"name": "vocals"})
        store.put("stems", "report.jsonl", BODY, content_type="application/x-ndjson")
        store.swap("stems", "entry.json", BODY, content_type="application/json", version=None)
        store.honours_conditions("stems", "probe")

        assert {arguments["ServerSideEncryption"] for arguments in sent} == {"AES256"}
        assert [a["Key"] for a in sent if "StorageClass" in a] == ["a.mp3"]
        assert sent[0]["Metadata"] == {"owner": "me", "name": "vocals"}
