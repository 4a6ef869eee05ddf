"""
Separation engines.

An engine returns the vocals of a mix; the accompaniment is the mix without them. ``spleeter`` is Deezer's
2-stem network. ``dsp`` is signal processing, used if the network's weights are not installed.
"""

from __future__ import annotations
