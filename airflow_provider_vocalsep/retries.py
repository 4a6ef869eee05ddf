"""
Which errors Airflow should retry, as a ``retry_policy`` (Airflow 3.3 and later).

The operators need none: they fail at once by themselves where no retry helps. The policy does the same for
``@task`` functions that call the hook, and waits as long as the vendor asked for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_vocalsep.api.errors import VendorError, VocalSepError

try:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
except ImportError as e:
    raise ImportError("airflow_provider_vocalsep.retries needs Airflow 3.3 or later (retry policies).") from e

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class VocalSepRetryPolicy(RetryPolicy):
    """
    Retry what may pass, fail at once what will not; leave errors of other code to Airflow.

    Use it as ``retry_policy=VocalSepRetryPolicy()`` beside ``retries``, on a task or in ``default_args``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the vendor's verdict."""
        if not isinstance(exception, VocalSepError):
            return RetryDecision.default()
        if not exception.retryable:
            return RetryDecision.fail(reason=str(exception))
        wait = exception.retry_after if isinstance(exception, VendorError) else None
        return RetryDecision.retry(delay=timedelta(seconds=wait) if wait else None, reason=str(exception))

    def serialize(self) -> dict[str, Any]:
        """There is nothing to serialize."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> VocalSepRetryPolicy:
        """Build it again."""
        return cls()
