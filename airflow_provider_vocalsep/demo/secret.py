"""Secrets of the demo: generated once and stored in its folder."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def load_or_create_secret(path: Path, generate: Callable[[], str] = secrets.token_urlsafe) -> str:
    """Return the secret in a file that only its owner can read; generate it if the file does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(generate())
    return path.read_text()
