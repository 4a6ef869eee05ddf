"""``vocalsep verify``: the stems are still the bytes that landed."""

from __future__ import annotations

import json

import pytest

from airflow_provider_vocalsep.audit.verify import Verifier
from airflow_provider_vocalsep.storage.errors import StorageError
from tests.support.sample_bucket import BUCKET, DESTINATION, manifest_key, stem_key


@pytest.fixture
def landed(sample):
    for key in ("one", "two/🎵", "three"):
        sample.land(key)
    return sample


@pytest.fixture
def problems(vocalsep):
    def ask(*options):
        answer = vocalsep("verify", DESTINATION, *options, "--format", "json")
        found = {
            (p["kind"], p["uri"].removeprefix(f"{DESTINATION}/"))
            for p in json.loads(answer.stdout)["problems"]
        }
        return answer.exit_code, found

    return ask


def flip_a_byte(sample, key, at=5):
    body = bytearray(sample.get(key))
    body[at] ^= 1
    sample.put(key, bytes(body))


def without_prefix(key):
    return key.removeprefix("music/")


class TestVerify:
    def test_unchanged_stems_are_as_they_landed(self, vocalsep, landed):
        answer = vocalsep("verify", DESTINATION)

        assert answer.exit_code == 0
        assert answer.stdout == "6 stems of 3 tracks (0.1 MB) are as they landed; 0 are not.\n"
        assert answer.stderr == "", "no progress bar without a terminal"

    def test_one_flipped_byte_is_different(self, vocalsep, landed):
        flip_a_byte(landed, stem_key("two/🎵"))

        answer = vocalsep("verify", DESTINATION)

        assert answer.exit_code == 1
        (line, last) = answer.stdout.splitlines()
        assert line.startswith(
            f"different  s3://{BUCKET}/{stem_key('two/🎵')} (track 'two/🎵'): vocals has SHA-256 "
        )
        assert last.endswith("5 stems of 3 tracks (0.1 MB) are as they landed; 1 are not.")

    def test_missing_cut_and_unreadable_objects_are_named(self, problems, landed):
        landed.delete(stem_key("one"))
        landed.put(stem_key("one", "instrumental"), b"cut")
        landed.delete(manifest_key("three"))
        landed.put(manifest_key("two/🎵"), b"{}")

        assert problems() == (
            1,
            {
                ("missing", without_prefix(stem_key("one"))),
                ("different", without_prefix(stem_key("one", "instrumental"))),
                ("missing", without_prefix(manifest_key("three"))),
                ("different", without_prefix(manifest_key("two/🎵"))),
            },
        )

    def test_track_option_reads_only_that_track(self, problems, landed):
        flip_a_byte(landed, stem_key("one"))

        assert problems("--track", "three") == (0, set())
        assert problems("--track", "one") == (1, {("different", without_prefix(stem_key("one")))})

    def test_stem_that_cannot_be_read_is_unread_and_not_different(self, problems, landed, monkeypatch):
        read = Verifier._digest

        def refuse(self, key):
            if key == stem_key("one"):
                raise StorageError("the store answered SlowDown")
            return read(self, key)

        monkeypatch.setattr(Verifier, "_digest", refuse)

        assert problems() == (2, {("unread", without_prefix(stem_key("one")))})
        landed.delete(stem_key("three"))
        assert problems()[0] == 1, "a missing stem counts for more"

    def test_ledger_entry_that_cannot_be_read_is_unread(self, problems, landed):
        landed.put("music/_vocalsep/ledger/00/bad.json", b"[]")

        assert problems() == (2, {("unread", "_vocalsep/ledger/00/bad.json")})

    def test_stem_outside_the_folder_of_its_manifest_is_different(self, problems, landed):
        manifest = landed.json(manifest_key("one"))
        manifest["stems"][0]["uri"] = f"s3://{BUCKET}/music/three/separate_vocal/vocals.mp3"
        landed.put(manifest_key("one"), json.dumps(manifest).encode())

        code, found = problems("--track", "one")

        assert code == 1
        assert {kind for kind, _ in found} == {"different"}

    def test_copy_of_a_destination_is_as_it_landed(self, vocalsep, landed):
        for key in [key for key in landed.keys() if "/_vocalsep/" not in key]:
            landed.client.copy_object(
                Bucket=BUCKET, Key=f"copy/{without_prefix(key)}", CopySource=f"{BUCKET}/{key}"
            )
            landed.delete(key)

        answer = vocalsep("verify", f"s3://{BUCKET}/copy")

        assert (answer.exit_code, answer.stdout[:21]) == (0, "6 stems of 3 tracks (")

    def test_without_manifests_there_is_nothing_to_verify(self, vocalsep):
        answer = vocalsep("verify", DESTINATION)

        assert answer.exit_code == 0
        assert answer.stdout == f"There is no manifest of stems at {DESTINATION}: nothing to verify.\n"
        assert "no manifest of track 'x'" in vocalsep("verify", DESTINATION, "--track", "x").stdout

    def test_ctrl_c_ends_it_with_the_results_so_far(self, vocalsep, landed, monkeypatch):
        check, checked = Verifier._check_one, []

        def interrupt_second(self, key, track):
            checked.append(key)
            if len(checked) == 2:
                raise KeyboardInterrupt
            return check(self, key, track)

        monkeypatch.setattr(Verifier, "_check_one", interrupt_second)

        answer = vocalsep("verify", DESTINATION, "--threads", "1")

        assert answer.exit_code == 130
        assert "are as they landed" in answer.stdout
        assert "of 3 tracks. A new run starts with the first." in answer.stderr
