"""Airflow transfer operators."""

from __future__ import annotations
