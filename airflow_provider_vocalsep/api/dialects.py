"""
Where the vendors' APIs differ.

Sources: docs.sunoapi.org and docs.kie.ai, the pages "separate vocals from music", "get vocal separation
details", their callback pages, "get remaining credits", and kie's "webhook verification".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Codes that mean the same at both vendors, from every edition of their pages: each page omits some.
_COMMON: dict[int, Verdict] = {
    200: Verdict.OK,
    201: Verdict.WAIT,  # still running; documented for the "recovery" call only
    400: Verdict.FATAL,
    401: Verdict.FATAL,
    402: Verdict.OUT_OF_CREDITS,  # sunoapi: only on the cover pages
    404: Verdict.FATAL,
    408: Verdict.RETRY,  # no result from upstream for ten minutes
    409: Verdict.FATAL,  # the record exists already
    413: Verdict.FATAL,
    422: Verdict.FATAL,
    433: Verdict.FATAL,  # the key's own spending cap
    451: Verdict.FATAL,  # the source could not be fetched
    455: Verdict.WAIT,  # maintenance
    500: Verdict.RETRY,
    501: Verdict.RETRY,  # generation failed
    505: Verdict.FATAL,  # feature disabled
    531: Verdict.REFUNDED,  # failed, credits refunded
}


@dataclass(frozen=True)
class Dialect:
    """
    One vendor's variant of the API.

    :param name: As written in the connection.
    :param credit_path: Path that returns the balance.
    :param callback_container: Key that holds the stems in a callback.
    :param signs_callbacks: Whether the vendor can sign its callbacks.
    :param codes: Verdict of each code.
    """

    name: str
    base_url: str
    credit_path: str
    callback_container: str
    signs_callbacks: bool
    codes: Mapping[int, Verdict] = field(repr=False, compare=False)


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "sunoapi": Dialect(
            name="sunoapi",
            base_url="https://api.sunoapi.org",
            credit_path="/api/v1/generate/credit",
            callback_container="vocal_removal_info",
            signs_callbacks=False,
            codes=MappingProxyType(
                {**_COMMON, 405: Verdict.WAIT, 429: Verdict.OUT_OF_CREDITS, 430: Verdict.WAIT}
            ),
        ),
        "kie": Dialect(
            name="kie",
            base_url="https://api.kie.ai",
            credit_path="/api/v1/chat/credit",
            callback_container="vocal_separation_info",
            signs_callbacks=True,
            codes=MappingProxyType({**_COMMON, 429: Verdict.WAIT}),
        ),
    }
)


def get_dialect(name: str) -> Dialect:
    """
    Return a dialect by its name.

    :raises ValueError: listing the known names.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise ValueError(f"unknown dialect {name!r}; write one of: {', '.join(DIALECTS)}") from None
