"""Runs the stack of ``docker-compose.yaml`` without Docker, injects faults, and checks the results."""

from __future__ import annotations
