"""Reading catalogues of tracks."""

from __future__ import annotations
