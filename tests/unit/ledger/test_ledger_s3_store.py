"""The ledger in a bucket: where its entries are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.ledger import Identity, S3LedgerStore
from airflow_provider_vocalsep.storage.location import Location

if TYPE_CHECKING:
    from airflow_provider_vocalsep.storage.store import ObjectStore

IDENTITY = Identity("sunoapi", "t/a", SeparationType.SEPARATE_VOCAL)
DIGEST = IDENTITY.digest
NO_STORE = cast("ObjectStore", cast("Any", None))


class TestUriOf:
    # The first version wrote "/ab/...json" for a ledger without a prefix: another key would pay again.
    @pytest.mark.parametrize(
        ("ledger", "folder"), [("s3://books/paid/", "s3://books/paid"), ("s3://books", "s3://books/")]
    )
    def test_entries_are_where_the_first_version_wrote_them(self, ledger: str, folder: str) -> None:
        store = S3LedgerStore(NO_STORE, Location.parse(ledger))

        assert store.uri_of(IDENTITY) == f"{folder}/{DIGEST[:2]}/{DIGEST}.json"
