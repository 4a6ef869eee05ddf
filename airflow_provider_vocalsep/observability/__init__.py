"""Metrics, lineage and asset events."""

from __future__ import annotations
