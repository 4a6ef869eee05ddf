"""Run reports and plans: written, listed and parsed."""

from __future__ import annotations
