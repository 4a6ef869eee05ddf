"""The stack of `docker-compose.yaml` without Docker, and what breaks it and checks it. Never shipped."""

from __future__ import annotations
