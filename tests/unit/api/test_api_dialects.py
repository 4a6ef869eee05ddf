from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_vocalsep.api.dialects import DIALECTS, get_dialect


class TestGetDialect:
    def test_dialects_are_those_of_the_two_vendors(self):
        assert [
            (d.name, d.base_url, d.credit_path, d.callback_container, d.signs_callbacks)
            for d in DIALECTS.values()
        ] == [
            (
                "sunoapi",
                "https://api.sunoapi.org",
                "/api/v1/generate/credit",
                "vocal_removal_info",
                False,
            ),
            ("kie", "https://api.kie.ai", "/api/v1/chat/credit", "vocal_separation_info", True),
        ]

    @pytest.mark.parametrize("name", DIALECTS)
    def test_dialect_is_found_by_name(self, name):
        assert get_dialect(name).name == name

    @pytest.mark.parametrize("name", ["suno", "KIE", "", None])
    def test_unknown_name_raises_with_the_known_names(self, name):
        with pytest.raises(ValueError, match="write one of: sunoapi, kie"):
            get_dialect(name)


def test_api_package_imports_neither_airflow_nor_an_http_client():
    script = (
        "import sys, pkgutil, importlib, airflow_provider_vocalsep.api as api\n"
        "for m in pkgutil.iter_modules(api.__path__, api.__name__ + '.'): importlib.import_module(m.name)\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "print(sorted(loaded & {'airflow', 'requests', 'aiohttp', 'urllib3', 'boto3'}))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
