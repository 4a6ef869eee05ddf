"""
Reads a TensorFlow checkpoint ("tensor bundle") with numpy only.

Format: ``tensorflow/core/util/tensor_bundle`` (an index in LevelDB's table format that maps names to
``BundleEntryProto``, and one data file of raw little-endian tensors).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOOTER_BYTES = 48
_DTYPES = {1: "<f4", 9: "<i8"}  # DT_FLOAT, DT_INT64 of tensorflow/core/framework/types.proto


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray[Any, Any]]:
    """
    Return every float and integer tensor by name.

    :param prefix: Path of the checkpoint without ``.index`` and ``.data-00000-of-00001``.
    :raises ValueError: the index is compressed, which is not supported.
    """
    index = prefix.with_name(prefix.name + ".index").read_bytes()
    data = np.memmap(prefix.with_name(prefix.name + ".data-00000-of-00001"), dtype="u1", mode="r")
    tensors = {}
    for name, entry in _read_entries(index):
        fields = _read_fields(entry)
        dtype = _DTYPES.get(_first(fields, 1))
        if name and dtype:
            start, size = _first(fields, 4), _first(fields, 5)
            dimensions = _read_fields(fields[2][0]).get(2, []) if 2 in fields else []
            shape = [_first(_read_fields(dimension), 1) for dimension in dimensions]
            tensors[name.decode()] = np.frombuffer(data[start : start + size].tobytes(), dtype).reshape(shape)
    return tensors


def _read_entries(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = index[-_FOOTER_BYTES:]
    _, at = _read_varint(footer, 0)
    _, at = _read_varint(footer, at)
    offset, at = _read_varint(footer, at)
    size, _ = _read_varint(footer, at)
    for _, handle in _read_block(index, offset, size):
        offset, at = _read_varint(handle, 0)
        size, _ = _read_varint(handle, at)
        yield from _read_block(index, offset, size)


def _read_block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Read the entries of one LevelDB block, in which each key shares a prefix with the previous one."""
    if table[offset + size] != 0:
        raise ValueError("the checkpoint's index is compressed")
    block = table[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    at, end, key = 0, len(block) - 4 - 4 * restarts, b""
    while at < end:
        shared, at = _read_varint(block, at)
        own, at = _read_varint(block, at)
        length, at = _read_varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _read_fields(message: bytes) -> dict[int, list[Any]]:
    """Return the values of a protocol buffer message by field number."""
    at, fields = 0, dict[int, list[Any]]()
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _read_varint(message, at)
        elif wire == 2:
            size, at = _read_varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            size = {5: 4, 1: 8}[wire]
            value, at = message[at : at + size], at + size
        fields.setdefault(number, []).append(value)
    return fields


def _first(fields: dict[int, list[Any]], number: int) -> int:
    return int(fields.get(number, [0])[0])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
