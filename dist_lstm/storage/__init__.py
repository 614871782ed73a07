"""How a file is found and how it becomes visible: the one place that knows.

A reader never sees half a file or half a folder (`publish`). A folder holds finished work when it contains the
marker (`mark`, `is_marked`). One process at a time works in a folder (`lock`). Work on an object store (`s3://`,
`gs://`) is done in a local mirror (`mirrored`): what is published, marked or removed there goes to the store as
well, so that no other package knows of stores.
"""

from dist_lstm.storage.location import (
    exists,
    listing,
    local_path,
    mirrored,
    origin,
    refresh,
    shown,
    try_to_write,
)
from dist_lstm.storage.locking import lock
from dist_lstm.storage.mirror import MARKER
from dist_lstm.storage.objects import filesystem, without_keys
from dist_lstm.storage.publish import is_marked, mark, publish, remove, send, write_json, write_text

__all__ = [
    "MARKER",
    "exists",
    "filesystem",
    "is_marked",
    "listing",
    "local_path",
    "lock",
    "mark",
    "mirrored",
    "origin",
    "publish",
    "refresh",
    "remove",
    "send",
    "shown",
    "try_to_write",
    "without_keys",
    "write_json",
    "write_text",
]
