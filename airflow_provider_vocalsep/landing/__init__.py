"""Streaming of stems from the vendor to object storage, checked byte by byte."""

from __future__ import annotations
