"""Runs the stack of ``docker-compose.yaml`` without Docker, breaks it, and checks the results. Not in the wheel."""

from __future__ import annotations
