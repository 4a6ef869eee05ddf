"""Links of a task instance: to its stems, and to the page."""

from __future__ import annotations
