"""The vendor's API over HTTP: one blocking client for workers, one asynchronous for triggers."""

from __future__ import annotations
