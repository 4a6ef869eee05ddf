from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.track import Track
from airflow_provider_vocalsep.ledger.source import source_of


def source(url: str) -> str:
    return source_of(Track(key="one", audio_url=url))


SIGNED = {
    "S3 Version 4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={0}&X-Amz-Date=2&X-Amz-Signature={0}",
    "S3 Version 2": "AWSAccessKeyId={0}&Signature={0}&Expires={0}",
    "Google Version 4": "X-Goog-Algorithm=a&X-Goog-Credential={0}&X-Goog-Expires=9&X-Goog-Signature={0}",
    "Google Version 2": "GoogleAccessId={0}&Expires={0}&Signature={0}",
    "CloudFront, canned policy": "Expires={0}&Signature={0}&Key-Pair-Id={0}",
    "CloudFront, custom policy": "Policy={0}&Signature={0}&Key-Pair-Id={0}",
    "Azure, service": "sv=2024-11-04&st={0}&se={0}&sr=b&sp=r&sig={0}",
    "Azure, user delegation": "sv=v&se={0}&sr=b&sp=r&skoid={0}&sktid=t&skt=1&ske=2&sks=b&skv=v&sig={0}",
}


class TestSourceOf:
    @pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED.keys())
    def test_newly_signed_url_of_a_file_is_the_same_source_without_its_signature(self, query):
        first, second = (source(f"https://h/a.mp3?{query.format(n)}") for n in (1, 2))

        assert first == second == "https://h/a.mp3"

    @pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED.keys())
    def test_parameter_that_does_not_sign_stays(self, query):
        assert source(f"https://h/a.mp3?versionId=7&{query.format(1)}") == "https://h/a.mp3?versionId=7"

    @pytest.mark.parametrize(
        "name", ["policyNumber", "signature_id", "expiresIn", "signature", "expires", "policy", "sig", "sp"]
    )
    def test_parameter_of_an_unsigned_url_tells_files_apart(self, name):
        assert source(f"https://h/a.mp3?{name}=17") != source(f"https://h/a.mp3?{name}=18")
