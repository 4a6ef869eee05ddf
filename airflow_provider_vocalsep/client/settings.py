"""What is known about one vendor account."""

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

#: The vendor's CDN refuses clients that do not name themselves (vendor-side 403 for default user agents).
USER_AGENT = f"airflow-provider-vocalsep/{__version__}"

#: Seconds to connect and to wait for an answer. Recorded answers take 0.45-0.85 s; a minute is past any hope.
TIMEOUT = (10.0, 60.0)

#: Characters of a callback secret; 16 random ones are beyond guessing.
MIN_SECRET_LENGTH = 16


class ConnectionSettingsError(VocalSepError):
    """The Airflow connection cannot be used as it is."""

    retryable = False


@dataclass(frozen=True)
class AccountSettings:
    """
    One account at one vendor.

    :param api_key: Secret that is sent as bearer token.
    :param dialect: Which vendor's contract is spoken.
    :param base_url: Where its API is, without a slash at the end.
    :param account: Name of the account; the ledger keeps apart what different accounts paid for.
    :param download_hosts: Hosts from which stems may be downloaded; empty for any public one.
    :param allow_private_hosts: Stems may come from private addresses and over plain HTTP. For the sandbox.
    :param callback_base_url: Public address of Airflow's API server, without a slash at the end; ``None`` for polling alone.
    :param callback_secrets: What signs callback addresses; the first makes new ones, all are accepted.
    :param submit_rate: Submits that the vendor accepts in a window, as ``20/10s``; batches keep to it.
    :param read_rate: Status reads that a process makes in a window at most, as ``500/10s``.
    :param webhook_hmac_key: Key of the vendor's own signature, when it has one.
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
        Read the fields of an Airflow connection.

        :raises ConnectionSettingsError: naming the connection, the field and what belongs into it.
        """
        extra = extra or {}
        if not password:
            raise ConnectionSettingsError(
                f"Connection {conn_id!r} has no API key: put the vendor's key into its password field."
            )
        try:
            dialect = get_dialect(extra.get("dialect") or "sunoapi")
        except ValueError as e:
            raise ConnectionSettingsError(f"Connection {conn_id!r}, field dialect: {e}") from e
        return cls(
            api_key=password.strip(),
            dialect=dialect,
            base_url=_base_url(host, schema, port) or dialect.base_url,
            account=login or dialect.name,
            download_hosts=_hosts(extra.get("download_hosts")),
            allow_private_hosts=_flag(conn_id, "allow_private_hosts", extra.get("allow_private_hosts")),
            callback_base_url=_callback_base_url(conn_id, extra),
            callback_secrets=_callback_secrets(conn_id, extra),
            submit_rate=_rate(conn_id, "submit_rate", extra.get("submit_rate") or DEFAULT_SUBMIT_RATE),
            read_rate=_rate(conn_id, "read_rate", extra.get("read_rate") or DEFAULT_READ_RATE),
            # The second is the vendor's own name for it, but Airflow shows fields of such a name to whoever may read connections.
            webhook_hmac_key=extra.get("webhook_hmac_secret") or extra.get("webhook_hmac_key") or None,
        )

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    def url(self, request: ApiRequest) -> str:
        """Return the full address of a request, without its parameters."""
        return f"{self.base_url}{request.path}"


def _base_url(host: str | None, schema: str | None, port: int | None) -> str | None:
    if not host:
        return None
    url = host if "://" in host else f"{schema or 'https'}://{host}"
    if port and not url.rsplit(":", 1)[-1].isdigit():
        url = f"{url.rstrip('/')}:{port}"
    return url.rstrip("/")


def _callback_base_url(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    url = str(extra.get("callback_base_url") or "").strip().rstrip("/")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConnectionSettingsError(
            f"Connection {conn_id!r}, field callback_base_url: write the public address of Airflow's API server, for "
            f"example https://airflow.example.com, not {url!r}."
        )
    if not extra.get("callback_secret"):
        raise ConnectionSettingsError(
            f"Connection {conn_id!r} has a callback_base_url and no callback_secret: put at least {MIN_SECRET_LENGTH} "
            "random characters there, for example of `openssl rand -hex 32`."
        )
    return url


def _callback_secrets(conn_id: str, extra: Mapping[str, Any]) -> tuple[str, ...]:
    secrets = tuple(str(extra.get("callback_secret") or "").replace(",", " ").split())
    if any(len(secret) < MIN_SECRET_LENGTH for secret in secrets):
        raise ConnectionSettingsError(
            f"Connection {conn_id!r}, field callback_secret: each secret needs at least {MIN_SECRET_LENGTH} characters, "
            "for example of `openssl rand -hex 32`."
        )
    return secrets


def _rate(conn_id: str, name: str, value: Any) -> str:
    rate = str(value)
    try:
        parse_rate(rate)
    except ValueError as e:
        raise ConnectionSettingsError(f"Connection {conn_id!r}, field {name}: {e}.") from e
    return rate


def _hosts(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value or ()
    return tuple(name.strip().lower() for name in names if name.strip())


def _flag(conn_id: str, name: str, value: Any) -> bool:
    if isinstance(value, str):
        value = {
            "true": True,
            "1": True,
            "yes": True,
            "false": False,
            "0": False,
            "no": False,
            "": False,
        }.get(value.strip().lower(), value)
    if value is None or isinstance(value, bool | int):
        return bool(value)
    raise ConnectionSettingsError(
        f"Connection {conn_id!r}, field {name}: write true or false, not {value!r}."
    )
