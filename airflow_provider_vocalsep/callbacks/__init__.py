"""
The vendor's callbacks: made unforgeable, received in Airflow's API server, turned into a resumed Airflow task.

``token`` and ``memory`` are plain functions; ``receiver`` is the HTTP endpoint; ``resume`` is the only module that
touches what Airflow calls internal.
"""

from __future__ import annotations
