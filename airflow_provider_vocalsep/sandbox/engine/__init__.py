"""
Separation engines.

An engine takes a mix and returns its vocals; the accompaniment is what is left. ``spleeter`` is Deezer's 2-stem
network; ``dsp`` is plain signal processing for when its weights are not installed.
"""

from __future__ import annotations
