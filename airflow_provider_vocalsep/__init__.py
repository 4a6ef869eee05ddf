"""Apache Airflow provider that separates whole music catalogues into stems and lands them in object storage."""

from __future__ import annotations

__version__ = "0.1.0"
