"""``vocalsep verify``: are the stems still the bytes that landed?"""

from __future__ import annotations

import json

import pytest
from audit_world import BUCKET, DESTINATION, manifest_key, stem_key

from airflow_provider_vocalsep.audit import verify as checking


@pytest.fixture
def landed(world):
    for key in ("one", "two/🎵", "three"):
        world.land(key)
    return world


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


def flip(world, key, at=5):
    body = bytearray(world.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    body[at] ^= 1
    world.put(key, bytes(body))


def short(key):
    return key.removeprefix("music/")


class TestVerify:
    def test_says_that_all_is_as_it_landed(self, vocalsep, landed):
        answer = vocalsep("verify", DESTINATION)
        assert answer.exit_code == 0
        assert answer.stdout == "6 stems of 3 tracks (0.1 MB) are as they landed; 0 are not.\n"
        assert answer.stderr == "", "no progress bar where nobody watches"

    def test_names_one_flipped_byte(self, vocalsep, landed):
        flip(landed, stem_key("two/🎵"))
        answer = vocalsep("verify", DESTINATION)
        assert answer.exit_code == 1
        (line, last) = answer.stdout.splitlines()
        assert line.startswith(
            f"different  s3://{BUCKET}/{stem_key('two/🎵')} (track 'two/🎵'): vocals has SHA-256 "
        )
        assert last.endswith("5 stems of 3 tracks (0.1 MB) are as they landed; 1 are not.")

    def test_names_what_is_missing_cut_or_lost(self, problems, landed):
        landed.client.delete_object(Bucket=BUCKET, Key=stem_key("one"))
        landed.put(stem_key("one", "instrumental"), b"cut")
        landed.client.delete_object(Bucket=BUCKET, Key=manifest_key("three"))
        landed.put(manifest_key("two/🎵"), b"{}")
        assert problems() == (
            1,
            {
                ("missing", short(stem_key("one"))),
                ("different", short(stem_key("one", "instrumental"))),
                ("missing", short(manifest_key("three"))),
                ("different", short(manifest_key("two/🎵"))),
            },
        )

    def test_of_one_track_looks_at_that_alone(self, problems, landed):
        flip(landed, stem_key("one"))
        assert problems("--track", "three") == (0, set())
        assert problems("--track", "one") == (1, {("different", short(stem_key("one")))})

    def test_says_that_it_could_not_read_rather_than_that_something_is_wrong(
        self, problems, landed, monkeypatch
    ):
        read = checking.Verifier._digest

        def refuse(self, key):
            if key == stem_key("one"):
                raise checking.BucketError("the store answered SlowDown")
            return read(self, key)

        monkeypatch.setattr(checking.Verifier, "_digest", refuse)
        assert problems() == (2, {("unread", short(stem_key("one")))})
        landed.client.delete_object(Bucket=BUCKET, Key=stem_key("three"))
        assert problems()[0] == 1, "what is wrong for sure comes first"

    def test_names_a_ledger_entry_that_cannot_be_read(self, problems, landed):
        landed.put("music/_vocalsep/ledger/00/bad.json", b"[]")
        assert problems() == (2, {("unread", "_vocalsep/ledger/00/bad.json")})

    def test_goes_by_where_the_manifest_lies_and_not_by_where_it_points(self, problems, landed):
        manifest = landed.json(manifest_key("one"))
        manifest["stems"][0]["uri"] = f"s3://{BUCKET}/music/three/separate_vocal/vocals.mp3"
        landed.put(manifest_key("one"), json.dumps(manifest).encode())
        code, found = problems("--track", "one")
        assert code == 1
        assert {kind for kind, _ in found} == {"different"}

    def test_verifies_a_copy_of_a_destination(self, vocalsep, landed):
        for key in [key for key in landed.keys() if "/_vocalsep/" not in key]:
            landed.client.copy_object(Bucket=BUCKET, Key=f"copy/{short(key)}", CopySource=f"{BUCKET}/{key}")
            landed.client.delete_object(Bucket=BUCKET, Key=key)
        answer = vocalsep("verify", f"s3://{BUCKET}/copy")
        assert (answer.exit_code, answer.stdout[:21]) == (0, "6 stems of 3 tracks (")

    def test_of_nothing_says_so(self, vocalsep):
        answer = vocalsep("verify", DESTINATION)
        assert answer.exit_code == 0
        assert answer.stdout == f"There is no manifest of stems at {DESTINATION}: nothing to verify.\n"
        assert "no manifest of track 'x'" in vocalsep("verify", DESTINATION, "--track", "x").stdout


def test_ctrl_c_ends_it_soon_with_what_is_known_so_far(vocalsep, landed, monkeypatch):
    check = checking.Verifier._check_one
    seen = []

    def interrupted(self, key, track):
        seen.append(key)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return check(self, key, track)

    monkeypatch.setattr(checking.Verifier, "_check_one", interrupted)
    answer = vocalsep("verify", DESTINATION, "--threads", "1")
    assert answer.exit_code == 130
    assert "are as they landed" in answer.stdout
    assert "of 3 tracks. A new run begins at the first." in answer.stderr
