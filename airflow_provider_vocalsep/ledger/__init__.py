"""Durable state of every paid separation: one entry per track and separation, changed by compare-and-swap."""

from __future__ import annotations
