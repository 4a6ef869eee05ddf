"""Every `vocalsep` and `airflow vocalsep` command."""

from __future__ import annotations
