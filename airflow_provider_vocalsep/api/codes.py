"""Classify the vendor's codes. What a code means depends on the vendor and on the call that it answers."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.dialects import Dialect
    from airflow_provider_vocalsep.api.models import SeparationTask


#: Codes of success. 0 is not documented; clients in the field accept it beside 200.
SUCCESS = (0, 200)

#: HTTP statuses of answers without a code. A proxy or a router sends them, so HTTP defines what they mean
#: (RFC 9110, RFC 6585), not the vendor: 429 is "too fast" even where the vendor's own code 429 is not.
_STATUSES = {402: Verdict.OUT_OF_CREDITS, 408: Verdict.RETRY, 425: Verdict.RETRY, 429: Verdict.WAIT}


class Occasion(str, Enum):
    """What a code answers."""

    SUBMIT = "submit"
    READ = "read"
    #: The end of a failed task: ``code`` in its callback, ``errorCode`` in its record.
    TASK = "task"


def classify(code: int, dialect: Dialect, occasion: Occasion) -> Verdict:
    """
    Return the verdict of a code.

    An undocumented 5xx counts as temporary (``RETRY``), any other undocumented code as ``FATAL``.
    """
    if code in SUCCESS:
        return Verdict.OK
    verdict = dialect.codes.get(code, Verdict.RETRY if 500 <= code < 600 else Verdict.FATAL)
    if verdict is Verdict.REFUNDED and occasion is not Occasion.TASK:
        return Verdict.RETRY
    if verdict is Verdict.WAIT and occasion is Occasion.TASK:
        return Verdict.RETRY  # the task has ended; there is nothing to wait for
    return verdict


def classify_status(status: int) -> Verdict:
    """
    Return the verdict of the HTTP status (other than 2xx) of an answer without a code.

    5xx is ``RETRY``, 429 is ``WAIT``, nearly everything else is ``FATAL``.
    """
    return _STATUSES.get(status, Verdict.RETRY if 500 <= status < 600 else Verdict.FATAL)


def classify_task(task: SeparationTask, dialect: Dialect) -> Verdict:
    """
    Return the verdict of a failed task.

    Its error code decides. Without one, a task that the vendor never created is ``FATAL`` (the source is at
    fault), and one that failed later is ``RETRY``.
    """
    if task.error_code is not None and task.error_code not in SUCCESS:
        return classify(task.error_code, dialect, Occasion.TASK)
    return Verdict.FATAL if task.status is TaskStatus.CREATE_TASK_FAILED else Verdict.RETRY
