"""Objects: whole or not there; halves and what is hidden are for nobody; errors say what to do."""

import pytest

from dist_lstm.errors import UserError
from dist_lstm.storage.objects import Objects, hidden


def test_what_is_put_is_listed_with_its_size_and_fetched_as_it_was(objects, tmp_path):
    objects.put(b"abc", "folder/a")
    objects.put(b"", "empty")
    assert {name: stamp.size for name, stamp in objects.listing().items()} == {"folder/a": 3, "empty": 0}
    objects.fetch([("folder/a", tmp_path / "new" / "a")])
    assert (tmp_path / "new" / "a").read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_a_file_of_several_parts_arrives_as_it_was(objects, tmp_path):
    content = bytes(range(256)) * (70_000)  # 17 MiB: more than one part of an upload
    (tmp_path / "a").write_bytes(content)
    objects.send([(tmp_path / "a", "a")])
    objects.fetch([("a", tmp_path / "b")])
    assert (tmp_path / "b").read_bytes() == content


def test_nothing_below_a_folder_counts_while_its_upload_is_incomplete(objects):
    for name in ("half/a", "half/sub/b", "half-not/a", "whole/a", "half/.incomplete", ".owners/x"):
        objects.put(b"", name)
    assert set(objects.listing()) == {"half-not/a", "whole/a"}
    assert not objects.below("half").listing()


def test_deleting_what_is_not_there_is_no_error(objects):
    objects.put(b"", "a")
    objects.delete(["a", "b"])
    assert objects.raw() == {}


@pytest.mark.parametrize("name", ["../a", "a/../b", "a//b", ".a", "a/.b", "/a"])
def test_a_name_that_leads_out_of_its_folder_or_is_not_for_readers_is_never_fetched(name):
    assert hidden(name)


def test_a_bucket_that_is_not_there_is_the_users_error_and_says_what_to_do(store):
    with pytest.raises(UserError, match=r"^s3://no-such-bucket/x/a: there is no such bucket; make it or choose"):
        Objects("s3://no-such-bucket/x").put(b"", "a")


def test_an_unknown_scheme_of_objects_is_the_users_error():
    with pytest.raises(UserError, match="s4://bucket/x: can't be opened as a storage location"):
        Objects("s4://bucket/x")


@pytest.mark.slow
def test_a_server_that_can_not_be_reached_is_an_error_within_seconds(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^s3://bucket/x/a: can't be reached; check the network and the endpoint"):
        Objects("s3://bucket/x").put(b"", "a")
