"""Links from a task instance to what it made."""

from __future__ import annotations
