"""
The vendor's callbacks: signed addresses, an endpoint in Airflow's API server, and the resumed Airflow task.

``token``, ``verification`` and ``inbox`` are plain functions; ``receiver`` is the HTTP endpoint; ``resume``
is the only module that touches what Airflow calls internal.
"""

from __future__ import annotations
