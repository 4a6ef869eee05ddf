"""Airflow triggers."""

from __future__ import annotations

#: Class paths, as Airflow stores them with deferred task instances.
VOCAL_SEPARATION_TRIGGER = f"{__name__}.vocal_separation.VocalSeparationTrigger"
BATCH_TRIGGER = f"{__name__}.batch.BatchTrigger"
LOST_SUBMIT_TRIGGER = f"{__name__}.lost_submit.LostSubmitTrigger"
