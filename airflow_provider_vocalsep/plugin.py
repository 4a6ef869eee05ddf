"""What the provider adds to Airflow's own processes."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_vocalsep.links.stems import StemsLink


class VocalSepPlugin(AirflowPlugin):
    """Registers the links of the provider's operators."""

    name = "vocalsep"
    operator_extra_links = [StemsLink()]
