"""Object storage: the only package that knows S3, its errors, and the layout of a destination."""

from __future__ import annotations
