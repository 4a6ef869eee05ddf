"""Read catalogues of tracks and cut them into chunks."""

from __future__ import annotations
