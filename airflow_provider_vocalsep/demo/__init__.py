"""A whole local stack: sandbox, S3 server and Airflow, for the demo and for live tests."""

from __future__ import annotations
