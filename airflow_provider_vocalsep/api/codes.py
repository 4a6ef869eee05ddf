"""What a vendor's code means, which depends on the vendor and on the occasion."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import Verdict
from airflow_provider_vocalsep.api.vocabulary import TaskStatus

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.dialects import Dialect
    from airflow_provider_vocalsep.api.models import SeparationTask


#: Success in an answer's ``code``. 0 is not documented; clients in the field accept it beside 200.
SUCCESS = (0, 200)

#: What the HTTP status of an answer without a code means: it comes from a proxy or a router and has its meaning
#: from HTTP (RFC 9110, RFC 6585), not from the vendor. 429 is "too fast" even where the vendor's own 429 is not.
_STATUSES = {402: Verdict.OUT_OF_CREDITS, 408: Verdict.RETRY, 425: Verdict.RETRY, 429: Verdict.WAIT}


class Occasion(str, Enum):
    """What a code is the answer to."""

    SUBMIT = "submit"
    READ = "read"
    #: The code of a failed task: in its callback, or ``errorCode`` in its record.
    TASK = "task"


def classify(code: int, dialect: Dialect, occasion: Occasion) -> Verdict:
    """
    Say what a code means.

    :param code: From the body.
    :param dialect: Whose code it is.
    :param occasion: What it answers.
    :return: The verdict. Codes that are not documented: 5xx may pass, anything else will not.
    """
    if code in SUCCESS:
        return Verdict.OK
    verdict = dialect.codes.get(code, Verdict.RETRY if 500 <= code < 600 else Verdict.FATAL)
    if verdict is Verdict.REFUNDED and occasion is not Occasion.TASK:
        return Verdict.RETRY
    if verdict is Verdict.WAIT and occasion is Occasion.TASK:
        return Verdict.RETRY  # the task is over; nothing to wait for
    return verdict


def classify_status(status: int) -> Verdict:
    """
    Say what the HTTP status of an answer without a code means.

    :param status: HTTP status other than 2xx.
    :return: The verdict: 5xx may pass, 429 is "too fast", nearly everything else stays as it is.
    """
    return _STATUSES.get(status, Verdict.RETRY if 500 <= status < 600 else Verdict.FATAL)


def classify_task(task: SeparationTask, dialect: Dialect) -> Verdict:
    """
    Say what the failure of a task means.

    :param task: A failed task.
    :param dialect: Whose task it is.
    :return: The verdict of its code. Without one, a task that was never created had a fault in its source, and
        one that failed in the middle may work another time.
    """
    if task.error_code is not None and task.error_code not in SUCCESS:
        return classify(task.error_code, dialect, Occasion.TASK)
    return Verdict.FATAL if task.status is TaskStatus.CREATE_TASK_FAILED else Verdict.RETRY
