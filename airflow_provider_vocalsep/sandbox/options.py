"""Options of the sandbox."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path

#: Credits by separation type (price lists: kie's submit page, api.box for sunoapi).
PRICES = {"separate_vocal": 10, "split_stem": 50, "split_stem_advanced": 20}


def default_cache_dir() -> Path:
    """Return the default folder of separated songs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vocalsep-sandbox"


@dataclass(frozen=True)
class SandboxOptions:
    """
    Options of the sandbox, for the command and for tests.

    :param host: Address on which it listens.
    :param port: Port on which it listens; 0 for any free one.
    :param dialect: ``sunoapi`` or ``kie``.
    :param api_key: The accepted API key.
    :param credits: Balance of a new account.
    :param submit_rate: Submits accepted in a window, such as ``20/10s``.
    :param task_seconds: Least number of seconds that a task is pending.
    :param finish_rate: Largest number of tasks that end per second; 0 for no limit.
    :param visible_after: Seconds after a submit until its record is visible.
    :param link_expiry: Seconds until the link to a stem expires; 0 for never.
    :param public_url: Address in links to stems; by default the address on which it listens.
    :param state_dir: Folder of the books; by default they are in memory.
    :param cache_dir: Folder of separated songs.
    :param engine: ``auto``, ``spleeter`` or ``dsp``.
    :param tiny_stems: Return a third of a second of each track instead of separating it.
    :param webhook_hmac_key: Key that signs callbacks, as with kie.
    :param callback_timeout: Seconds to wait for the answer to a callback.
    :param callback_retries: Number of retries of a callback.
    :param callback_backoff: Seconds before the first retry; each further retry waits twice as long.
    :param allow_urllib: Serve stems to Python's default user agent, which the vendor's CDN refuses.
    :param faults: Faults that are active from the start, as JSON objects, see ``docs/sandbox.md``.
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
        Number of submits in a window, and seconds of the window.

        :raises ValueError: the format is not that of ``20/10s``.
        """
        match = re.fullmatch(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*s?", self.submit_rate.strip())
        if match is None or not int(match[1]) or not float(match[2]):
            raise ValueError(f"write a rate as 20/10s (submits per seconds), not {self.submit_rate!r}")
        return int(match[1]), float(match[2])

    def arguments(self) -> list[str]:
        """Return the equivalent arguments of ``vocalsep sandbox``."""
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
