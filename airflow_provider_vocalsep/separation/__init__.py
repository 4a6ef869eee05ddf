"""One track from request to manifest, and many of them in one process."""

from __future__ import annotations
