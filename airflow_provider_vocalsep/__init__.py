"""Apache Airflow provider: separates whole music catalogues into stems in object storage."""

from __future__ import annotations

__version__ = "0.1.0"
