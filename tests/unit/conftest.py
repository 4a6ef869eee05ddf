"""What the quick tests share."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from botocore.loaders import JSONFileLoader

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def descriptions_of_services_are_read_once() -> Iterator[None]:
    """Hundreds of tests make a client of their own, and botocore reads a megabyte of JSON for each."""
    read = JSONFileLoader().load_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(functools.cache(read)))
        yield
