"""What others observe: metrics, lineage and asset events."""

from __future__ import annotations
