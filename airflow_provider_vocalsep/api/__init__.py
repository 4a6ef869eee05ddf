"""
The vendor's HTTP contract: typed models, dialects, parsing, classification of codes, signature.

Nothing here does I/O and nothing here knows Airflow. "Task" means the vendor's task throughout.
"""

from __future__ import annotations
