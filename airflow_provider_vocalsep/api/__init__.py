"""
The vendor's HTTP contract: typed models, dialects, parsers, classification of codes, signature.

This package does no I/O and does not import Airflow. "Task" means the vendor's task throughout.
"""

from __future__ import annotations
