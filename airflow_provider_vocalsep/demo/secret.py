"""Secrets of a demo: made once, kept beside its data, never in the code."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def kept_secret(path: Path, make: Callable[[], str] = secrets.token_urlsafe) -> str:
    """
    Return the secret in a file that only its owner can read, and make it the first time.

    :param path: The file.
    :param make: Makes a new secret.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text()
