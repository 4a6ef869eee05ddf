"""
The ``retry_policy`` for tasks that call the hook (Airflow 3.3 and later).

The operators do not need it: they fail without a retry if none can help. The policy does the same for
``@task`` functions, and waits for as long as the vendor asks.
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
    Retry transient errors, fail on permanent ones; leave errors of other code to Airflow.

    Use it as ``retry_policy=VocalSepRetryPolicy()`` beside ``retries``, on a task or in ``default_args``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by whether the error is retryable."""
        if not isinstance(exception, VocalSepError):
            return RetryDecision.default()
        if not exception.retryable:
            return RetryDecision.fail(reason=str(exception))
        wait = exception.retry_after if isinstance(exception, VendorError) else None
        return RetryDecision.retry(delay=timedelta(seconds=wait) if wait else None, reason=str(exception))

    def serialize(self) -> dict[str, Any]:
        """Return no arguments: it has none."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> VocalSepRetryPolicy:
        """Return a policy."""
        return cls()
