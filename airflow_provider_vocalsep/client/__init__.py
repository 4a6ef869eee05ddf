"""HTTP clients of the vendor's API: a blocking one for workers, an asynchronous one for triggers."""

from __future__ import annotations
