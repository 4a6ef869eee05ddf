"""A local vendor with the HTTP API of either dialect, which really separates audio."""

from __future__ import annotations
