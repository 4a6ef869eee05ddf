"""
The stems of the sandbox, compared with the true ones.

Measure: gain in SI-SDR (Le Roux et al. 2019), the scale-invariant signal-to-distortion ratio in dB, of a stem
over the mix. The tests require the gains that ``docs/sandbox.md`` promises.
"""

from __future__ import annotations

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numpy as np
import pytest
import requests
import soundfile

from airflow_provider_vocalsep.sandbox.engine.audio import RATE, decode
from airflow_provider_vocalsep.sandbox.engine.checkpoint import read_checkpoint
from airflow_provider_vocalsep.sandbox.engine.dsp import DspEngine
from airflow_provider_vocalsep.sandbox.engine.spleeter import (
    INSTALL_HINT,
    WEIGHTS_PACKAGE,
    SpleeterEngine,
    find_weights,
)
from airflow_provider_vocalsep.sandbox.server import running_sandbox
from airflow_provider_vocalsep.sandbox.songs import songs

#: Least gain of vocals and backing of every song with the network.
NETWORK_GAIN = 5.0
#: Least mean gain of the vocals of all songs with signal processing; every single gain is positive.
DSP_MEAN_GAIN = 2.0

TWELVE = [
    *("vocalUrl", "backingVocalsUrl", "drumsUrl", "bassUrl", "guitarUrl", "keyboardUrl", "percussionUrl"),
    *("stringsUrl", "synthUrl", "fxUrl", "brassUrl", "woodwindsUrl"),
]


def weights_installed():
    try:
        return bool(metadata.files(WEIGHTS_PACKAGE))
    except metadata.PackageNotFoundError:
        return False


# Installed weights that do not work are a failure, not a skip.
needs_weights = pytest.mark.skipif(
    not weights_installed(), reason=f"the network's weights are missing: {INSTALL_HINT}"
)


def si_sdr(true, estimate):
    scaled = true * ((true * estimate).sum() / (true**2).sum())
    return 10 * np.log10((scaled**2).sum() / ((estimate - scaled) ** 2).sum())


def gain(true, mix, estimate):
    return si_sdr(true, estimate) - si_sdr(true, mix)


@pytest.fixture(scope="module")
def network():
    return SpleeterEngine(find_weights())


@needs_weights
class TestSpleeterEngine:
    def test_checkpoint_has_all_weights(self):
        tensors = read_checkpoint(find_weights())

        assert sum(tensor.size for tensor in tensors.values() if tensor.dtype == np.float32) > 19_600_000
        assert tensors["conv2d/kernel"].shape == (5, 5, 2, 16)

    def test_accompaniment_has_almost_no_vocals(self, network):
        backing = songs()[0].part("backing")

        assert np.square(network.vocals(backing)).mean() < 0.05 * np.square(backing).mean()

    @pytest.mark.parametrize("samples", [1, 1023, 4097], ids=str)
    def test_short_audio_keeps_its_length(self, network, samples):
        assert network.vocals(np.full((samples, 2), 0.1, "f4")).shape == (samples, 2)


class TestDspEngine:
    def test_vocals_of_every_song_improve(self):
        gains = []

        for song in songs():
            mix, vocals = song.mix(), song.part("vocals")
            gains.append(gain(vocals, mix, DspEngine().vocals(mix)))

        assert min(gains) > 0
        assert statistics.mean(gains) >= DSP_MEAN_GAIN


class Vendor:
    """A client of the sandbox, independent of the package's own."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.headers = {"Authorization": f"Bearer {sandbox.api_key}"}

    def separated(self, **fields):
        body = {"callBackUrl": "https://callback.invalid/", **fields}
        url = f"{self.sandbox.url}/api/v1/vocal-removal"
        vendor_task_id = requests.post(f"{url}/generate", json=body, headers=self.headers, timeout=5).json()[
            "data"
        ]["taskId"]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            answer = requests.get(
                f"{url}/record-info?taskId={vendor_task_id}", headers=self.headers, timeout=5
            )
            if answer.json()["data"]["successFlag"] != "PENDING":
                return answer.json()["data"]
            time.sleep(0.05)
        raise AssertionError("still pending")

    def song(self, number, **fields):
        row = self.sandbox.catalogue()[number]
        return self.separated(taskId=row["task_id"], audioId=row["audio_id"], **fields)


def download(url):
    return decode(requests.get(url, timeout=10).content)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory):
    """A sandbox with an empty cache and the best installed engine."""
    with running_sandbox(task_seconds=0, cache_dir=tmp_path_factory.mktemp("cache")) as sandbox:
        yield Vendor(sandbox)


class TestSandbox:
    @needs_weights
    @pytest.mark.parametrize("number", range(len(songs())), ids=[song.key for song in songs()])
    def test_stems_of_every_song_improve_by_the_promised_gain(self, vendor, number):
        song = songs()[number]

        data = vendor.song(number, type="separate_vocal")

        assert data["successFlag"] == "SUCCESS"
        for link, true in (("vocalUrl", song.part("vocals")), ("instrumentalUrl", song.part("backing"))):
            found = download(data["response"][link])
            assert len(found) / RATE == pytest.approx(song.duration, abs=0.1)
            length = min(len(found), len(true))
            assert gain(true[:length], song.mix()[:length], found[:length]) >= NETWORK_GAIN

    def test_split_stem_links_only_the_present_ones_of_twelve(self, vendor):
        response = vendor.song(0, type="split_stem")["response"]

        assert set(TWELVE) <= set(response)
        assert response["instrumentalUrl"] is None
        there = {name for name in TWELVE if response[name]}
        assert there == {"vocalUrl", "drumsUrl", "bassUrl", "guitarUrl", "keyboardUrl"}
        assert len(response["originData"]) == len(there)
        stems = [download(response[name]) for name in there]
        length = min(map(len, stems))
        # The parts add up to the song.
        assert si_sdr(songs()[0].mix()[:length], sum(stem[:length] for stem in stems)) > 15

    def test_second_task_of_a_song_is_not_separated_again(self, vendor):
        first = vendor.song(1, type="separate_vocal")
        separations = vendor.sandbox.totals()["separations"]

        second = vendor.song(1, type="separate_vocal")

        assert vendor.sandbox.totals()["separations"] == separations
        assert first["taskId"] != second["taskId"]
        links = [data["response"]["vocalUrl"] for data in (first, second)]
        assert requests.get(links[0], timeout=5).content == requests.get(links[1], timeout=5).content

    @pytest.mark.parametrize("kind", ["WAV", "MP3", "OGG"])
    def test_own_file_of_any_format_is_separated(self, vendor, httpserver, kind):
        out = io.BytesIO()
        soundfile.write(out, songs()[3].mix()[: 5 * RATE], RATE, format=kind)
        httpserver.expect_request("/own file").respond_with_data(out.getvalue())

        data = vendor.separated(audioUrl=httpserver.url_for("/own%20file"))

        assert data["successFlag"] == "SUCCESS", data
        assert data["response"]["originData"][0]["duration"] == pytest.approx(5, abs=0.1)

    def test_other_requests_are_answered_during_a_separation(self, vendor):
        def measure_slowest_answer(seconds):
            began, slowest = time.monotonic(), 0.0
            while time.monotonic() < began + seconds:
                sent = time.monotonic()
                requests.get(f"{vendor.sandbox.url}/sandbox/health", timeout=10)
                slowest = max(slowest, time.monotonic() - sent)
            return slowest

        before = vendor.sandbox.totals()["separations"]
        with ThreadPoolExecutor(1) as pool:
            slowest = pool.submit(measure_slowest_answer, 1.0)
            vendor.song(2, type="split_stem")
        assert vendor.sandbox.totals()["separations"] == before + 1
        assert slowest.result() < 1
