"""A local vendor that speaks the API of either dialect and really separates audio."""

from __future__ import annotations
