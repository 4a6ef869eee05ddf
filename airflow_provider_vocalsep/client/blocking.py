"""The blocking client for workers."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, TypeVar

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_provider_vocalsep.api import answers
from airflow_provider_vocalsep.api.errors import (
    AnswerLostError,
    SubmitOutcomeUnknownError,
    UnreadableAnswerError,
    VendorError,
    VendorUnreachableError,
    Verdict,
)
from airflow_provider_vocalsep.api.requests import (
    PLACEHOLDER_CALLBACK_URL,
    ApiRequest,
    credits_request,
    read_request,
    submit_request,
)
from airflow_provider_vocalsep.client.pace import read_gate
from airflow_provider_vocalsep.client.session import new_session
from airflow_provider_vocalsep.client.settings import TIMEOUT, AccountSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.api.models import SeparationTask
    from airflow_provider_vocalsep.api.track import Track
    from airflow_provider_vocalsep.api.vocabulary import SeparationType

T = TypeVar("T")

#: Tries of a read before its error is raised to the caller, who retries on its own schedule.
_READ_TRIES = 4


def is_temporary(error: BaseException) -> bool:
    """Return whether a later read may succeed."""
    if isinstance(error, VendorError):
        return error.verdict in (Verdict.RETRY, Verdict.WAIT)
    return isinstance(error, VendorUnreachableError | AnswerLostError | UnreadableAnswerError)


def retry_after(headers: object) -> float | None:
    """Return the seconds of a ``Retry-After`` header; ignore a date there."""
    value = headers.get("Retry-After") if hasattr(headers, "get") else None
    return float(value) if isinstance(value, str) and value.isascii() and value.strip().isdigit() else None


class VendorClient:
    """
    Blocking client of the vendor's API for one account.

    :param session: HTTP session to use; by default a new one of :func:`new_session`.
    """

    def __init__(self, settings: AccountSettings, session: requests.Session | None = None) -> None:
        self.settings = settings
        self.session = session or new_session()
        self._read_gate = read_gate(settings.base_url, settings.account, settings.read_rate)

    def submit(
        self,
        track: Track,
        separation_type: SeparationType,
        *,
        stem_name: str | None = None,
        callback_url: str = PLACEHOLDER_CALLBACK_URL,
    ) -> str:
        """
        Submit a track. The request is sent once and never repeated: every accepted submit is charged.

        :param track: The track; an own file needs an ``http(s)`` URL.
        :param stem_name: The stem requested with ``split_stem_advanced``.
        :param callback_url: Where the vendor reports the end of the task; its API requires one.
        :return: The vendor's task id.
        :raises VendorUnreachableError: nothing was sent.
        :raises VendorError: the vendor refused; nothing was charged.
        :raises SubmitOutcomeUnknownError: the submit was sent and its answer lost; it may have been charged.
        """
        request = submit_request(track, separation_type, stem_name=stem_name, callback_url=callback_url)
        try:
            response = self._send(request)
        except AnswerLostError as e:
            raise SubmitOutcomeUnknownError(
                f"The submit was sent and its answer lost ({e}). The vendor may have accepted and charged it."
            ) from e
        return self._parse(answers.parse_submit, response)

    def read_task(self, vendor_task_id: str) -> SeparationTask | None:
        """
        Read the vendor's record of a task; retry temporary errors.

        :return: The record; ``None`` while the vendor does not know the id.
        :raises VendorError: the vendor refused.
        :raises VocalSepError: no readable answer arrived.
        """
        return self._read(lambda: self._read_once(vendor_task_id))

    def credits(self) -> float:
        """
        Read the account's balance; retry temporary errors.

        :return: Credits left; kie counts in fractions.
        """
        request = credits_request(self.settings.dialect)
        return self._read(lambda: self._parse(answers.parse_credits, self._send(request)))

    def close(self) -> None:
        """Close the HTTP session and its connections."""
        self.session.close()

    def _read_once(self, vendor_task_id: str) -> SeparationTask | None:
        self._read_gate.wait()
        try:
            task = self._parse(answers.parse_record, self._send(read_request(vendor_task_id)))
        except VendorError as e:
            self._read_gate.refused(e)
            raise
        self._read_gate.accepted()
        return task

    @staticmethod
    def _read(call: Callable[[], T]) -> T:
        return Retrying(
            retry=retry_if_exception(is_temporary),
            wait=wait_exponential(multiplier=0.5, max=8) + wait_random(0, 1),
            stop=stop_after_attempt(_READ_TRIES),
            reraise=True,
        )(call)

    def _parse(self, parse: Callable[..., T], response: requests.Response) -> T:
        return parse(
            response.status_code,
            response.content,
            self.settings.dialect,
            retry_after=retry_after(response.headers),
        )

    def _send(self, request: ApiRequest) -> requests.Response:
        try:
            return self.session.request(
                request.method,
                self.settings.url(request),
                params=request.params or None,
                json=request.json,
                headers=self.settings.headers,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.RequestException as e:
            if _was_never_sent(e):
                raise VendorUnreachableError(f"Could not connect to {self.settings.base_url}: {e}") from e
            raise AnswerLostError(f"No answer from {self.settings.base_url}: {e}") from e


def _was_never_sent(error: BaseException | None) -> bool:
    """Return whether the error proves that no byte of the request was sent."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        e = queue.pop()
        if e is None or id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, requests.ConnectTimeout | NewConnectionError | ConnectTimeoutError):
            return True
        if isinstance(e, ssl.SSLCertVerificationError):
            return True
        queue += [e.__cause__, e.__context__, getattr(e, "reason", None)]
        queue += [arg for arg in e.args if isinstance(arg, BaseException)]
    return False
