"""The page in Airflow's UI: what happened to every track, and what it sounds like. Reads only."""

from __future__ import annotations
