"""The hook for vocal-separation APIs (sunoapi.org, kie.ai, the sandbox)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_vocalsep.api.errors import VendorError, VocalSepError
from airflow_provider_vocalsep.api.requests import PLACEHOLDER_CALLBACK_URL
from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.client.blocking import VendorClient
from airflow_provider_vocalsep.client.settings import AccountSettings

if TYPE_CHECKING:
    import requests

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.client.asynchronous import AsyncVendorClient


#: The vendor's code for a key that it does not know: it may have been rotated.
UNAUTHORIZED = 401


def outcome_of(task: SeparationTask) -> dict[str, Any]:
    """Return the XCom value of a vendor task: id, status, and the address of each stem by its name."""
    return {
        "vendor_task_id": task.task_id,
        "status": task.status.value,
        "stems": {stem.name: stem.url for stem in task.present},
    }


class VocalSeparationHook(BaseHook):
    """
    Call a vocal-separation API with the account of an Airflow connection.

    Connection fields:

    - **Password**: the vendor's API key.
    - **Host** (optional): address of the API; the dialect's own by default.
    - **Login** (optional): name of the account. Give one when two accounts of a vendor share a ledger.
    - **Extra** ``dialect``: ``sunoapi`` (default) or ``kie``.
    - **Extra** ``download_hosts``: comma-separated hosts from which stems may be downloaded (by default any
      public one; ``*.example.com`` includes sub-domains).
    - **Extra** ``allow_private_hosts``: stems may come from private addresses, and over plain HTTP. For the
      sandbox.

    :param vocalsep_conn_id: Id of the connection.
    """

    conn_name_attr = "vocalsep_conn_id"
    default_conn_name = "vocalsep_default"
    conn_type = "vocalsep"
    hook_name = "Vocal separation"

    def __init__(self, vocalsep_conn_id: str = default_conn_name, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.vocalsep_conn_id = vocalsep_conn_id

    @cached_property
    def settings(self) -> AccountSettings:
        """
        The account, read from the connection once.

        :raises ConnectionSettingsError: naming the field that is wrong.
        """
        connection = self.get_connection(self.vocalsep_conn_id)
        return self._settings(connection, connection.extra_dejson)

    @cached_property
    def client(self) -> VendorClient:
        """The blocking client, which reuses its connections."""
        return VendorClient(self.settings)

    def get_conn(self) -> requests.Session:
        """Return the HTTP session of the blocking client."""
        return self.client.session

    def submit(
        self,
        track: Track | dict[str, Any],
        separation_type: SeparationType | str = SeparationType.SEPARATE_VOCAL,
        *,
        stem_name: str | None = None,
        callback_url: str = PLACEHOLDER_CALLBACK_URL,
    ) -> str:
        """
        Submit a track, without a retry: the vendor charges every submit that it accepts.

        This is the bare call.
        :class:`~airflow_provider_vocalsep.operators.vocal_separation.VocalSeparationOperator` records it in a
        ledger first, so that no retry pays again.

        :param track: The track; an own file needs an ``https`` address.
        :param separation_type: What to separate it into.
        :param stem_name: The stem for ``split_stem_advanced``.
        :param callback_url: Where the vendor calls back; its contract requires one.
        :return: The vendor's task id, 32 hex characters.
        :raises TrackError: the arguments are not valid.
        :raises VendorUnreachableError: nothing was sent.
        :raises VendorError: the vendor refused; nothing was charged.
        :raises SubmitOutcomeUnknownError: the answer was lost; the submit may have been charged.
        """
        return self.client.submit(
            Track.parse(track),
            SeparationType(separation_type),
            stem_name=stem_name,
            callback_url=callback_url,
        )

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        """
        Read the vendor's record of a task; transient errors are retried a few times.

        :param vendor_task_id: The id that the submit returned.
        :return: ``None`` while the vendor does not know the id.
        """
        return self.client.read_task(vendor_task_id)

    def get_credits(self) -> float:
        """Return the account's balance in credits."""
        return self.client.credits()

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection by reading the credit balance."""
        try:
            credits_left = self.get_credits()
        except VocalSepError as e:
            return False, str(e)
        account = self.settings
        return (
            True,
            f"Connected to {account.base_url} ({account.dialect.name}): {credits_left:g} credits left.",
        )

    async def get_async_client(self) -> AsyncVendorClient:
        """Return the asynchronous client, one per account and event loop."""
        # Imported here: it brings aiohttp, a quarter of all that workers would import, only for triggers.
        from airflow_provider_vocalsep.client.shared import shared_client

        return await shared_client(self.vocalsep_conn_id, self._async_settings)

    async def aread_task(self, vendor_task_id: str) -> SeparationTask | None:
        """Read the vendor's record of a task, once; see :meth:`read_task`."""
        client = await self.get_async_client()
        try:
            return await client.read_task(vendor_task_id)
        except VendorError as e:
            if e.code == UNAUTHORIZED:
                from airflow_provider_vocalsep.client.shared import expire_client

                expire_client(self.vocalsep_conn_id)
            raise

    async def _async_settings(self) -> AccountSettings:
        connection = await get_async_connection(self.vocalsep_conn_id, hook=self)
        return self._settings(connection, await get_async_extra_dejson(connection))

    def _settings(self, connection: Any, extra: dict[str, Any]) -> AccountSettings:
        return AccountSettings.build(
            self.vocalsep_conn_id,
            password=connection.password,
            login=connection.login,
            host=connection.host,
            schema=connection.schema,
            port=connection.port,
            extra=extra,
        )
