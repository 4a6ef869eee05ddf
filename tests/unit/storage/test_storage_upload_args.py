from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_vocalsep.storage.errors import DestinationError
from airflow_provider_vocalsep.storage.store import ObjectStore


class TestCheckUploadArgs:
    def test_known_arguments_are_returned(self, store: ObjectStore) -> None:
        args = {"ServerSideEncryption": "AES256", "StorageClass": "STANDARD_IA", "Metadata": {"owner": "me"}}

        assert ObjectStore(store.client, upload_args=args).upload_args == args

    def test_no_arguments_are_an_empty_dict(self, store: ObjectStore) -> None:
        assert store.upload_args == {}

    @pytest.mark.parametrize(
        "args, named",
        [
            ({"StorageKlass": "GLACIER"}, "'StorageKlass' cannot be passed.*StorageClass"),
            ({"ContentType": "x"}, "'ContentType' cannot be passed"),
            ({"ChecksumSHA256": "x"}, "'ChecksumSHA256' cannot be passed"),
            ({"SSECustomerKey": "x"}, "'SSECustomerKey' cannot be passed"),
            ({"RequestPayer": "requester"}, "'RequestPayer' cannot be passed"),
            ({"Metadata": {"a": 1}}, "Metadata"),
            ({"Metadata": {"sha256": "0"}}, "sha256 are reserved"),
            ({"Metadata": {"Vocalsep-Stem": "0"}}, "Vocalsep-Stem are reserved"),
        ],
    )
    def test_error_names_an_unknown_malformed_or_reserved_argument(
        self, store: ObjectStore, args: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(DestinationError, match=named):
            ObjectStore(store.client, upload_args=args)
