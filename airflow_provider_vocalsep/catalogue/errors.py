"""What is wrong with catalogues."""

from __future__ import annotations

from airflow_provider_vocalsep.api.errors import VocalSepError


class CatalogueError(VocalSepError):
    """A catalogue cannot be used as it is. Nothing of it was submitted."""
