"""The state machine submit, wait, land: plain functions and classes that know nothing of Airflow."""

from __future__ import annotations
