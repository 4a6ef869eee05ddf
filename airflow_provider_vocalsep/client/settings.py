"""Settings of one vendor account, from an Airflow connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_vocalsep import __version__
from airflow_provider_vocalsep.api.dialects import Dialect, get_dialect
from airflow_provider_vocalsep.api.errors import VocalSepError
from airflow_provider_vocalsep.client.pace import DEFAULT_READ_RATE, DEFAULT_SUBMIT_RATE, parse_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_vocalsep.api.requests import ApiRequest

#: The vendor's CDN answers default user agents with 403.
USER_AGENT = f"airflow-provider-vocalsep/{__version__}"

#: Seconds to connect, and to wait for an answer. Recorded answers take 0.45-0.85 s.
TIMEOUT = (10.0, 60.0)

#: Shortest callback secret in characters; 16 random ones cannot be guessed.
MIN_SECRET_LENGTH = 16

#: Spellings of a flag that Airflow's connection form stores as text.
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


class ConnectionSettingsError(VocalSepError):
    """A field of the Airflow connection is missing or invalid."""

    retryable = False


@dataclass(frozen=True)
class AccountSettings:
    """
    One account at one vendor.

    :param api_key: Secret that is sent as bearer token.
    :param base_url: Base URL of the vendor's API, without a slash at the end.
    :param account: Name of the account; the ledger keeps the purchases of different accounts apart.
    :param download_hosts: Hosts from which stems may be downloaded; empty for any public host.
    :param allow_private_hosts: Allow stems from private addresses and over plain HTTP. For the sandbox.
    :param callback_base_url: Public URL of Airflow's API server, without a slash at the end; ``None`` to poll
        only.
    :param callback_secrets: Secrets of callback URLs: the first signs new ones, all are accepted.
    :param submit_rate: Submits that the vendor accepts in a window, as ``20/10s``; batches stay below it.
    :param read_rate: Most status reads of a process in a window, as ``500/10s``.
    :param webhook_hmac_key: Key of the vendor's own signature; ``None`` when it does not sign.
    """

    api_key: str = field(repr=False)
    dialect: Dialect
    base_url: str
    account: str
    download_hosts: tuple[str, ...] = ()
    allow_private_hosts: bool = False
    callback_base_url: str | None = None
    callback_secrets: tuple[str, ...] = field(default=(), repr=False)
    submit_rate: str = DEFAULT_SUBMIT_RATE
    read_rate: str = DEFAULT_READ_RATE
    webhook_hmac_key: str | None = field(default=None, repr=False)

    @classmethod
    def build(
        cls,
        conn_id: str,
        *,
        password: str | None,
        login: str | None = None,
        host: str | None = None,
        schema: str | None = None,
        port: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> AccountSettings:
        """
        Build the settings from the fields of an Airflow connection.

        :raises ConnectionSettingsError: naming the connection, the field and its valid values.
        """
        extra = extra or {}
        if not password:
            raise ConnectionSettingsError(
                f"Connection {conn_id!r} has no API key: put the vendor's key into its password field."
            )
        try:
            dialect = get_dialect(extra.get("dialect") or "sunoapi")
        except ValueError as e:
            raise ConnectionSettingsError(f"Connection {conn_id!r}, field dialect: {e}.") from e
        return cls(
            api_key=password.strip(),
            dialect=dialect,
            base_url=_join_base_url(host, schema, port) or dialect.base_url,
            account=login or dialect.name,
            download_hosts=_parse_hosts(extra.get("download_hosts")),
            allow_private_hosts=_parse_flag(conn_id, "allow_private_hosts", extra.get("allow_private_hosts")),
            callback_base_url=_parse_callback_base_url(conn_id, extra),
            callback_secrets=_parse_callback_secrets(conn_id, extra),
            submit_rate=_validate_rate(
                conn_id, "submit_rate", extra.get("submit_rate") or DEFAULT_SUBMIT_RATE
            ),
            read_rate=_validate_rate(conn_id, "read_rate", extra.get("read_rate") or DEFAULT_READ_RATE),
            # ``webhook_hmac_key`` is the vendor's name, but Airflow does not mask fields of that name.
            webhook_hmac_key=extra.get("webhook_hmac_secret") or extra.get("webhook_hmac_key") or None,
        )

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of every request."""
        return {
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    def url(self, request: ApiRequest) -> str:
        """Return the URL of a request, without its query parameters."""
        return f"{self.base_url}{request.path}"


def _join_base_url(host: str | None, schema: str | None, port: int | None) -> str | None:
    if not host:
        return None
    url = host if "://" in host else f"{schema or 'https'}://{host}"
    if port and not url.rsplit(":", 1)[-1].isdigit():
        url = f"{url.rstrip('/')}:{port}"
    return url.rstrip("/")


def _parse_callback_base_url(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    url = str(extra.get("callback_base_url") or "").strip().rstrip("/")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConnectionSettingsError(
            f"Connection {conn_id!r}, field callback_base_url: write the public URL of Airflow's API server, "
            f"for example https://airflow.example.com, not {url!r}."
        )
    if not extra.get("callback_secret"):
        raise ConnectionSettingsError(
            f"Connection {conn_id!r} has a callback_base_url but no callback_secret: add one of at least "
            f"{MIN_SECRET_LENGTH} random characters, for example from `openssl rand -hex 32`."
        )
    return url


def _parse_callback_secrets(conn_id: str, extra: Mapping[str, Any]) -> tuple[str, ...]:
    secrets = tuple(str(extra.get("callback_secret") or "").replace(",", " ").split())
    if any(len(secret) < MIN_SECRET_LENGTH for secret in secrets):
        raise ConnectionSettingsError(
            f"Connection {conn_id!r}, field callback_secret: each secret needs at least {MIN_SECRET_LENGTH} "
            "characters, for example from `openssl rand -hex 32`."
        )
    return secrets


def _validate_rate(conn_id: str, name: str, value: Any) -> str:
    rate = str(value)
    try:
        parse_rate(rate)
    except ValueError as e:
        raise ConnectionSettingsError(f"Connection {conn_id!r}, field {name}: {e}.") from e
    return rate


def _parse_hosts(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value or ()
    return tuple(name.strip().lower() for name in names if name.strip())


def _parse_flag(conn_id: str, name: str, value: Any) -> bool:
    if isinstance(value, str):
        value = _FLAGS.get(value.strip().lower(), value)
    if value is None or isinstance(value, bool | int):
        return bool(value)
    raise ConnectionSettingsError(
        f"Connection {conn_id!r}, field {name}: write true or false, not {value!r}."
    )
