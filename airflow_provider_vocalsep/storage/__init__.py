"""Object storage: the only package that knows S3, its errors, and where our own files lie in a bucket."""

from __future__ import annotations
