"""``python -m airflow_provider_vocalsep.sandbox``: the same as ``vocalsep sandbox``."""

from __future__ import annotations

from airflow_provider_vocalsep.cli.sandbox import sandbox

if __name__ == "__main__":
    sandbox(prog_name="vocalsep sandbox")
