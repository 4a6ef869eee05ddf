from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from s3transfer.exceptions import RetriesExceededError

from airflow_provider_vocalsep.storage.errors import (
    AccessDeniedError,
    ConflictError,
    DestinationError,
    InvalidRangeError,
    NoBucketError,
    NotFoundError,
    StorageError,
)
from airflow_provider_vocalsep.storage.translation import AT_A_SHELL, IN_AIRFLOW, Advice, translate_errors


def translated(error: Exception, *, key: str = "a.mp3", advice: Advice = IN_AIRFLOW) -> StorageError:
    with pytest.raises(StorageError) as e, translate_errors("write", "music", key, advice):
        raise error
    return e.value


def client_error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")


class TestTranslateErrors:
    @pytest.mark.parametrize(
        "code, expected",
        [
            ("404", NotFoundError),
            ("NoSuchKey", NotFoundError),
            ("NoSuchBucket", NoBucketError),
            ("403", AccessDeniedError),
            ("AccessDenied", AccessDeniedError),
            ("InvalidAccessKeyId", AccessDeniedError),
            ("SignatureDoesNotMatch", AccessDeniedError),
            ("412", ConflictError),
            ("PreconditionFailed", ConflictError),
            ("ConditionalRequestConflict", ConflictError),
            ("416", InvalidRangeError),
            ("InvalidRange", InvalidRangeError),
            ("InvalidArgument", DestinationError),
            ("InvalidStorageClass", DestinationError),
            ("KMS.NotFoundException", DestinationError),
            ("PermanentRedirect", DestinationError),
            ("500", StorageError),
            ("SlowDown", StorageError),
            ("", StorageError),
        ],
    )
    def test_code_decides_the_error(self, code: str, expected: type[StorageError]) -> None:
        assert type(translated(client_error(code))) is expected

    @pytest.mark.parametrize(
        "error, expected",
        [
            (NoCredentialsError(), DestinationError),
            (ParamValidationError(report="Invalid bucket name"), DestinationError),
            (EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), StorageError),
            (ReadTimeoutError(endpoint_url="http://127.0.0.1:9"), StorageError),
            (RetriesExceededError(None), StorageError),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
    )
    def test_error_without_an_answer_is_translated(
        self, error: Exception, expected: type[StorageError]
    ) -> None:
        raised = translated(error)

        assert type(raised) is expected
        assert raised.__cause__ is error

    @pytest.mark.parametrize("code", ["404", "NoSuchBucket", "AccessDenied", "InvalidTag"])
    def test_error_that_a_person_has_to_fix_is_not_retryable(self, code: str) -> None:
        assert not translated(client_error(code)).retryable

    @pytest.mark.parametrize("code", ["SlowDown", "412", "416"])
    def test_error_that_may_pass_is_retryable(self, code: str) -> None:
        assert translated(client_error(code)).retryable

    def test_message_names_request_object_and_answer_of_the_store(self) -> None:
        message = str(translated(client_error("SlowDown", "Reduce your request rate.")))

        assert message.startswith("Could not write s3://music/a.mp3: ")
        assert "SlowDown (Reduce your request rate.)" in message

    def test_message_about_a_bucket_has_no_key(self) -> None:
        assert str(translated(client_error("500"), key="")).startswith("Could not write s3://music: ")

    @pytest.mark.parametrize(
        "code, hint",
        [("AccessDenied", "s3:PutObject"), ("NoSuchBucket", "Create it"), ("500", "A retry goes on")],
    )
    def test_message_for_airflow_advises_the_user_of_a_connection(self, code: str, hint: str) -> None:
        assert hint in str(translated(client_error(code), advice=IN_AIRFLOW))

    @pytest.mark.parametrize(
        "error", [client_error("AccessDenied"), client_error("NoSuchBucket"), NoCredentialsError()]
    )
    def test_message_for_a_shell_advises_to_check_the_credentials(self, error: Exception) -> None:
        assert "AWS_PROFILE or --profile" in str(translated(error, advice=AT_A_SHELL))

    def test_other_errors_pass_unchanged(self) -> None:
        with pytest.raises(ZeroDivisionError), translate_errors("write", "music", "a.mp3", IN_AIRFLOW):
            raise ZeroDivisionError
