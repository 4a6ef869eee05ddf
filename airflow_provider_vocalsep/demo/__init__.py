"""What ``vocalsep demo`` and the compose file's demo service run: a sandbox, an S3 server and an Airflow."""

from __future__ import annotations
