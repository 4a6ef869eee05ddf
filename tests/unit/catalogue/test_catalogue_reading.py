from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tracemalloc

import pytest

from airflow_provider_vocalsep.catalogue.errors import CatalogueError
from airflow_provider_vocalsep.catalogue.plan import Plan, split_into_chunks
from airflow_provider_vocalsep.catalogue.sources import read_rows

HEADER = "key,title,task_id,audio_id,audio_url\n"


def plan_catalogue(body: bytes, name: str, **options):
    plan = Plan(**options)
    return list(plan.read_tracks(read_rows(io.BytesIO(body), name))), plan


def plan_csv(*rows: str, **options):
    body = "".join([HEADER, *(f"{row}\n" for row in rows)]).encode()
    return plan_catalogue(body, "s3://music/catalogue.csv", **options)


def plan_jsonl(*rows: object):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return plan_catalogue("\n".join(lines).encode(), "catalogue.jsonl")


class TestReadRows:
    def test_csv_tsv_and_json_lines_yield_the_same_tracks(self):
        one, _ = plan_csv("a/b,Ünïcode 🎵,t1,a1,", 'two,"A, B",,,https://h/x.wav')
        other, _ = plan_jsonl(
            {"key": "a/b", "title": "Ünïcode 🎵", "task_id": "t1", "audio_id": "a1"},
            {"key": "two", "title": "A, B", "audio_url": "https://h/x.wav"},
        )

        third, _ = plan_catalogue(
            (
                HEADER.replace(",", "\t") + "a/b\tÜnïcode 🎵\tt1\ta1\t\ntwo\tA, B\t\t\thttps://h/x.wav\n"
            ).encode(),
            "c.TSV",
        )

        assert one == other == third
        assert [t.label for t in one] == ["Ünïcode 🎵", "A, B"]

    @pytest.mark.parametrize(
        ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
    )
    def test_compressed_catalogue_is_read_by_its_ending(self, suffix, compress):
        tracks, _ = plan_catalogue(compress((HEADER + "one,,t,a,\n").encode()), f"catalogue.csv{suffix}")

        assert [t.key for t in tracks] == ["one"]

    def test_parquet_is_read_and_a_reject_has_its_position(self, tmp_path):
        import pyarrow
        from pyarrow import parquet

        rows = {"Key": [1, 2], "task_id": ["t", "t"], "audio_id": ["a", None], "duration": [1.5, None]}
        parquet.write_table(pyarrow.table(rows), tmp_path / "c.parquet")

        tracks, plan = plan_catalogue((tmp_path / "c.parquet").read_bytes(), "c.parquet")

        assert [(t.key, t.duration) for t in tracks] == [("1", 1.5)]
        assert plan.counts.first_rejects[0][0] == 2

    @pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "c.jsonl.bz2", "c.parquet", "c.jsonl"])
    def test_file_that_is_not_a_catalogue_is_refused_by_name(self, name):
        with pytest.raises(CatalogueError, match=name):
            plan_catalogue(b"\xff\xfe\x00\x01", name)

    def test_header_may_have_any_case_a_byte_order_mark_and_extra_columns(self):
        tracks, _ = plan_catalogue("\ufeffKey , Task_ID,audio_id,label\none,t,a,EMI\n".encode(), "c.csv")

        assert [t.key for t in tracks] == ["one"]

    def test_columns_may_have_other_names(self):
        plan = Plan(columns={"key": "ISRC", "task_id": "Suno Task"})

        rows = read_rows(io.BytesIO(b"isrc,suno task,audio_id\nX1,t,a\n"), "c.csv", key_column="isrc")

        assert [(t.key, t.task_id) for t in plan.read_tracks(rows)] == [("X1", "t")]

    def test_numeric_key_is_read_as_text(self):
        assert plan_jsonl({"key": 7, "task_id": "t", "audio_id": "a"})[0][0].key == "7"

    def test_empty_file_is_refused_with_the_expected_columns(self):
        with pytest.raises(CatalogueError, match="no column 'key'.*names its columns"):
            plan_catalogue(b"", "c.csv")

    def test_header_alone_is_an_empty_catalogue(self):
        assert plan_csv()[0] == []

    def test_csv_error_names_the_line(self):
        with pytest.raises(CatalogueError, match=r"catalogue\.csv could not be read, line 3: field larger"):
            plan_csv("one,,t,a,", f"two,{'x' * 200_000},t,a,")


class TestPlan:
    def test_reject_has_line_and_reason_and_the_other_rows_remain(self):
        rejects = []

        tracks, plan = plan_csv(
            *("one,,t,a,", "two,,t,,", "three,,t3,a3,", ",,t4,a4,", "five,,t,a,https://h/x"),
            on_reject=lambda *reject: rejects.append(reject),
        )

        assert [t.key for t in tracks] == ["one", "three"]
        assert [line for line, *_ in rejects] == [3, 5, 6]
        assert "'two'" in rejects[0][1]
        assert "audio_id missing" in rejects[0][1]
        assert "not both" in rejects[2][1]
        assert rejects[0][2]["task_id"] == "t"
        assert (plan.counts.tracks, plan.counts.rejects) == (2, 3)

    def test_rejects_raise_one_error_that_says_that_nothing_was_submitted(self):
        _, plan = plan_csv("one,,t,a,", "two,,t,,")

        with pytest.raises(CatalogueError) as e:
            plan.raise_for_rejects("s3://music/catalogue.csv", "All are in s3://x/rejects.jsonl.")
        assert "1 of 2 rows of s3://music/catalogue.csv" in str(e.value)
        assert "line 3:" in str(e.value)
        assert "Nothing was submitted" in str(e.value)
        assert str(e.value).endswith("All are in s3://x/rejects.jsonl.")

    def test_rejects_beyond_twenty_are_counted(self):
        _, plan = plan_csv(*(f"key-{n},,t,," for n in range(500)))

        with pytest.raises(CatalogueError, match="and 480 more"):
            plan.raise_for_rejects("c.csv")

    def test_broken_json_and_rows_that_are_not_objects_are_rejects(self):
        tracks, plan = plan_jsonl(
            "{", "[1]", '"text"', "null", {"key": "one", "task_id": "t", "audio_id": "a"}
        )

        assert [t.key for t in tracks] == ["one"]
        assert plan.counts.rejects == 4

    def test_repeated_row_is_left_out(self):
        tracks, plan = plan_csv("one,,t,a,", "one,Other Title,t,a,")

        assert [t.title for t in tracks] == [None]
        assert plan.counts.duplicates == 1

    def test_key_of_another_track_is_a_reject(self):
        tracks, plan = plan_csv("one,,t,a,", "one,,t,b,")

        assert len(tracks) == 1
        assert "line 2" in plan.counts.first_rejects[0][1]

    def test_landed_track_is_left_out(self):
        tracks, plan = plan_csv("one,,t,a,", "two,,t,b,", is_landed=lambda track: track.key == "one")

        assert [t.key for t in tracks] == ["two"]
        assert plan.counts.landed == 1


class TestSplitIntoChunks:
    def test_tracks_are_numbered_from_one_and_the_last_chunk_may_be_short(self):
        tracks, _ = plan_csv(*(f"k{n},,t,{n}," for n in range(5)))

        cut = list(split_into_chunks(tracks, 2))

        assert [(first, last) for first, last, _ in cut] == [(1, 2), (3, 4), (5, 5)]
        assert [json.loads(line)["key"] for _, _, body in cut for line in body.splitlines()] == [
            t.key for t in tracks
        ]

    @pytest.mark.parametrize("count", [0, 2])
    def test_no_chunk_is_empty(self, count):
        assert (
            len(list(split_into_chunks(plan_csv(*(f"k{n},,t,{n}," for n in range(count)))[0], 2)))
            == count // 2
        )


def test_memory_does_not_grow_with_the_catalogue(tmp_path):
    def peak(rows: int) -> int:
        path = tmp_path / "c.csv"
        with path.open("w") as file:
            file.write(HEADER)
            file.writelines(f"key-{n:012},Some Title {n},task,audio-{n},\n" for n in range(rows))
        tracemalloc.start()
        with path.open("rb") as file:
            for _ in split_into_chunks(Plan().read_tracks(read_rows(file, "c.csv")), 100):
                pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    # 100 bytes for each of 8,000 more rows are 800,000. Fewer rows do not fill pydantic's cache of 16,384
    # short strings.
    assert peak(16_000) < peak(8_000) + 500_000
