"""The provider's metadata, for Airflow."""

from __future__ import annotations

from typing import Any

#: Section ``[vocalsep]`` of Airflow's configuration.
_OPTIONS: dict[str, Any] = {
    "warm_task_processes": {
        "description": (
            "Whether a scheduler or Celery worker imports, once, the modules that each of its task "
            "processes would import. They take about 30 MB of shared memory and save half a second "
            "of CPU per task."
        ),
        "version_added": "0.1.0",
        "type": "boolean",
        "example": None,
        "default": "True",
    },
    "destinations": {
        "description": (
            "Comma-separated s3:// addresses of destinations whose runs the page shows, in addition "
            "to those of the task instances in Airflow's database."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "s3://stems/catalogue, s3://archive",
        "default": "",
    },
    "aws_conn_id": {
        "description": "Connection of the object storage of these destinations.",
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "aws_default",
    },
}

#: Extra fields of a connection.
_CONNECTION_FIELDS: dict[str, Any] = {
    "dialect": {
        "label": "Vendor",
        "description": "The vendor's API: sunoapi (sunoapi.org and its resellers) or kie (kie.ai).",
        "schema": {
            "type": ["string", "null"],
            "enum": ["sunoapi", "kie"],
            "default": "sunoapi",
        },
    },
    "download_hosts": {
        "label": "Download hosts",
        "description": (
            "Comma-separated hosts from which stems may be downloaded. Empty allows any public "
            "host; mandatory behind a proxy."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "allow_private_hosts": {
        "label": "Allow private hosts",
        "description": (
            "Allow downloads from private and loopback addresses, and over plain HTTP. Only for "
            "the local sandbox."
        ),
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "callback_base_url": {
        "label": "Callback address",
        "description": ("Public address of this Airflow, for the vendor's callbacks. Empty: polling only."),
        "schema": {"type": ["string", "null"]},
    },
    "callback_secret": {
        "label": "Callback secret",
        "description": (
            "At least 16 random characters that sign callback addresses. To rotate: the new "
            "secret, a comma, the old one."
        ),
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "submit_rate": {
        "label": "Submit rate",
        "description": "Submits per window that the vendor accepts, for batches. Empty: 20/10s.",
        "schema": {"type": ["string", "null"]},
    },
    "read_rate": {
        "label": "Read rate",
        "description": "Status reads per window that one process makes at most. Empty: 500/10s.",
        "schema": {"type": ["string", "null"]},
    },
    "webhook_hmac_secret": {
        "label": "Webhook HMAC key",
        "description": (
            "kie.ai only: the key of its settings page; callbacks without its signature are refused."
        ),
        "schema": {"type": ["string", "null"], "format": "password"},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the shape of Airflow's ``provider_info.schema.json``."""
    name = "Vocal separation"
    package = "airflow_provider_vocalsep"
    return {
        "package-name": "airflow-provider-vocalsep",
        "name": name,
        "description": (
            "Separates whole music catalogues into stems through a vocal-separation API (sunoapi.org, "
            "kie.ai) and lands them in object storage, with a ledger that never pays twice."
        ),
        "integrations": [
            {
                "integration-name": name,
                "external-doc-url": "https://docs.sunoapi.org/suno-api/separate-vocals-from-music",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": name, "python-modules": [f"{package}.hooks.vocal_separation"]}],
        "operators": [
            {"integration-name": name, "python-modules": [f"{package}.operators.vocal_separation"]}
        ],
        "sensors": [{"integration-name": name, "python-modules": [f"{package}.sensors.vocal_separation"]}],
        "triggers": [
            {
                "integration-name": name,
                "python-modules": [f"{package}.triggers.vocal_separation", f"{package}.triggers.lost_submit"],
            }
        ],
        "transfers": [
            {
                "source-integration-name": name,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": f"{package}.transfers.vocal_separation_to_s3",
            }
        ],
        "extra-links": [f"{package}.links.page.PageLink", f"{package}.links.stems.StemsLink"],
        "cli": [f"{package}.cli.airflow_commands.airflow_commands"],
        "config": {
            "vocalsep": {
                "description": "Settings of airflow-provider-vocalsep.",
                "options": _OPTIONS,
            }
        },
        "connection-types": [
            {
                "connection-type": "vocalsep",
                "hook-name": name,
                "hook-class-name": f"{package}.hooks.vocal_separation.VocalSeparationHook",
                "conn-fields": _CONNECTION_FIELDS,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {"password": "API key", "host": "API address", "login": "Account name"},
                    "placeholders": {
                        "password": "the key from the vendor's dashboard",
                        "host": "empty: the vendor's own, https://api.sunoapi.org or https://api.kie.ai",
                        "login": "only needed when two accounts share a ledger",
                        "download_hosts": "*.aiquickdraw.com, cdn1.suno.ai",
                        "callback_base_url": "https://airflow.example.com",
                    },
                },
            }
        ],
    }
