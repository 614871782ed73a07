"""Finding files, and making them visible to readers, on disks and object stores.

A reader never sees an incomplete file or folder (`publish`). The work in a folder is finished when it contains the
marker (`mark`, `is_marked`). One process at a time works in a folder (`lock`). Work on an object store (`s3://`,
`gs://`) is done in a local mirror (`mirrored`): what is published, marked or removed in it is also published,
marked or removed at the store, so that no other package has to handle stores.
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
from dist_lstm.storage.objects import filesystem
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
    "write_json",
    "write_text",
]
