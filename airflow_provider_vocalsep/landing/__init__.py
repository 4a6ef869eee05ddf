"""Landing: stems streamed from the vendor to object storage, and checked byte by byte."""

from __future__ import annotations
