"""Read stem links from a record or a callback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_vocalsep.api.fields import read_id, read_length
from airflow_provider_vocalsep.api.models import StemLink
from airflow_provider_vocalsep.api.requests import slug_of
from airflow_provider_vocalsep.api.vocabulary import STEM_SPELLINGS, Stem

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_GROUP = {slug_of(spelling.group): stem.value for stem, spelling in STEM_SPELLINGS.items()}
_BY_RECORD_KEY = {spelling.record: stem.value for stem, spelling in STEM_SPELLINGS.items()}
_BY_CALLBACK_KEY = {spelling.callback: stem.value for stem, spelling in STEM_SPELLINGS.items()}
_ORDER = {stem.value: index for index, stem in enumerate(Stem)}

#: Keys of the original mix, which is not a stem.
_NOT_STEMS = frozenset({"originUrl", "origin_url"})


def stems_of(container: Any) -> tuple[StemLink, ...]:
    """
    Read every stem that a container names, with or without a link.

    :param container: ``response`` of a record, or the container of a callback; anything else names no stem.
    :return: The stems: first the known ones, in the order of
        :class:`~airflow_provider_vocalsep.api.vocabulary.Stem`.
    """
    if not isinstance(container, dict):
        return ()
    found: dict[str, StemLink] = {}
    for key, value in container.items():
        name = _name_of(key)
        if name is not None and (name not in found or found[name].url is None):
            found[name] = StemLink(name, url_of(value))
    by_url = {stem.url: name for name, stem in found.items() if stem.url}
    for detail in _read_details(container):
        # An undocumented group name must not add a second stem with the same file.
        name = (by_url.get(detail.url) if detail.url else None) or detail.name
        if name:
            known = found.get(name)
            url = known.url if known and known.url else detail.url
            found[name] = StemLink(name, url, detail.audio_id, detail.duration)
    return tuple(sorted(found.values(), key=lambda stem: _ORDER.get(stem.name, len(_ORDER))))


def url_of(value: Any) -> str | None:
    """
    Read a link; return ``None`` for ``""``, null and anything that is not an ``http(s)`` URL.

    The file names of advanced stems contain literal spaces, which are percent-encoded here. What is already
    encoded stays.
    """
    if not isinstance(value, str):
        return None
    escaped_percents = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", value.strip())
    url = quote(escaped_percents, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogatepass")
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def _name_of(key: str) -> str | None:
    if key in _NOT_STEMS:
        return None
    if key in _BY_RECORD_KEY:
        return _BY_RECORD_KEY[key]
    if key in _BY_CALLBACK_KEY:
        return _BY_CALLBACK_KEY[key]
    if key.endswith("Url") and key != "Url":  # a stem added after this version
        return slug_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key.removesuffix("Url")))
    if key.endswith("_url") and key != "_url":
        return slug_of(key.removesuffix("_url"))
    return None


def _read_details(container: dict[str, Any]) -> Iterator[StemLink]:
    items = container.get("originData", container.get("origin_data"))
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        pair = [side for side in ("extract", "remove") if isinstance(item.get(side), dict)]
        if not pair:
            yield _read_detail(item, "")
            continue
        # Each side of an advanced separation may have a group name of its own; both belong to one stem.
        group = next((g for side in pair if (g := _group_of(item[side]))), "stem")
        for side in pair:
            yield _read_detail({**item[side], "stem_type_group_name": group}, f"_{side}")


def _read_detail(item: dict[str, Any], suffix: str) -> StemLink:
    """Read one item of ``originData``. Its name is empty when it has no group name."""
    group = _group_of(item)
    slug = slug_of(group) if group else ""
    return StemLink(
        f"{slug}{suffix}" if suffix else _BY_GROUP.get(slug, slug),
        url_of(item.get("audio_url")),
        read_id(item.get("id")),
        read_length(item.get("duration")),
    )


def _group_of(item: dict[str, Any]) -> str | None:
    group = item.get("stem_type_group_name")
    return group if isinstance(group, str) and group.strip() else None
