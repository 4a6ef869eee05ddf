"""What the sandbox can be told at its start."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path

#: The vendors' price list: kie's submit page, and api.box for sunoapi's.
PRICES = {"separate_vocal": 10, "split_stem": 50, "split_stem_advanced": 20}


def default_cache_dir() -> Path:
    """Return where separated songs are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vocalsep-sandbox"


@dataclass(frozen=True)
class SandboxOptions:
    """
    Options of the sandbox, the same for the command and for tests.

    :param host: Address to listen on.
    :param port: Port; 0 takes a free one.
    :param dialect: ``sunoapi`` or ``kie``.
    :param api_key: The one key that is accepted.
    :param credits: Balance of a new account.
    :param submit_rate: Submits accepted in a window, as ``20/10s``.
    :param task_seconds: Seconds that a task is pending at least.
    :param finish_rate: Tasks that end per second, at most; 0 for any number.
    :param visible_after: Seconds after a submit in which its record is not visible yet.
    :param link_expiry: Seconds that a stem's link works; 0 for ever.
    :param public_url: Address under which others reach the sandbox, for links; what it listens on by default.
    :param state_dir: Folder of the books; in memory without one.
    :param cache_dir: Folder of separated songs.
    :param engine: ``auto``, ``spleeter`` or ``dsp``.
    :param tiny_stems: Answer with a third of a second of each track instead of separating it.
    :param webhook_hmac_key: Sign callbacks with it, as kie does.
    :param callback_timeout: Seconds to wait for the answer to a callback.
    :param callback_retries: Tries after the first.
    :param callback_backoff: Seconds before the first retry, doubling.
    :param allow_urllib: Serve stems to Python's default user agent too, which the vendor's CDN refuses.
    :param faults: Fault switches from the start, as JSON objects, see ``docs/sandbox.md``.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    dialect: str = "sunoapi"
    api_key: str = field(default_factory=lambda: f"sandbox-{secrets.token_hex(8)}", repr=False)
    credits: float = 10_000
    submit_rate: str = "20/10s"
    task_seconds: float = 2.0
    finish_rate: float = 0.0
    visible_after: float = 0.0
    link_expiry: float = 0.0
    public_url: str | None = None
    state_dir: Path | None = None
    cache_dir: Path = field(default_factory=default_cache_dir)
    engine: str = "auto"
    tiny_stems: bool = False
    webhook_hmac_key: str | None = field(default=None, repr=False)
    callback_timeout: float = 15.0
    callback_retries: int = 3
    callback_backoff: float = 1.0
    allow_urllib: bool = False
    faults: tuple[str, ...] = ()

    @property
    def rate(self) -> tuple[int, float]:
        """
        Submits, and the seconds of the window.

        :raises ValueError: the rate is not written as ``20/10s``.
        """
        match = re.fullmatch(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*s?", self.submit_rate.strip())
        if match is None or not int(match[1]) or not float(match[2]):
            raise ValueError(f"write a rate as 20/10s (submits per seconds), not {self.submit_rate!r}")
        return int(match[1]), float(match[2])

    def arguments(self) -> list[str]:
        """Return the arguments of ``vocalsep sandbox`` that mean the same."""
        found: list[str] = []
        for option in fields(self):
            value, name = getattr(self, option.name), "--" + option.name.replace("_", "-")
            if option.name == "faults":
                found += [part for fault in self.faults for part in ("--fault", fault)]
            elif value is True:
                found.append(name)
            elif value is not None and value is not False:
                found += [name, str(value)]
        return found
