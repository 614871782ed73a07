"""One process at a time works below a URI; one that died holds nobody up for ever."""

import re
import subprocess
import sys
import time

import pytest

from dist_lstm.errors import UserError
from dist_lstm.storage import lease, mirrored, write_text


def work(uri: str) -> None:
    with mirrored(uri) as folder:
        write_text(folder / "a", "x")


def test_a_second_process_of_another_machine_is_refused_with_the_process_that_works(
    uri, objects, other_machine, hasty
):
    with mirrored(uri) as folder:
        other_machine()
        with pytest.raises(UserError, match=rf"^{uri}: process \d+ on .+ is working on it; wait for it or choose"):
            work(uri)
        write_text(folder / "a", "mine")  # who was there goes on
    assert set(objects.raw()) == {"a"}


def test_a_second_process_of_this_machine_is_refused_at_once(uri):
    code = "import sys; from dist_lstm.storage import mirrored\nwith mirrored(sys.argv[1]): pass"
    with mirrored(uri):
        began = time.monotonic()
        process = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=False)
    assert time.monotonic() - began < lease.LEASE / 2
    assert "is working on it; wait for it or choose another --out" in process.stderr.splitlines()[-1]


def test_a_claim_ends_with_its_work(uri, objects, other_machine):
    work(uri)
    assert set(objects.raw()) == {"a"}
    other_machine()
    work(uri)


def test_a_claim_of_a_process_that_died_elsewhere_holds_for_one_lease(uri, objects, hasty, caplog):
    objects.put(b"", ".owners/node-7.example.4711.abcdef")
    work(uri)
    assert set(objects.raw()) == {"a"}
    assert re.search(
        r"checking for up to 2 s whether process 4711 on node-7\.example is still working on it", caplog.text
    )


def test_a_lock_of_another_host_in_a_shared_cache_is_no_proof_of_its_death(uri, objects, hasty):
    with mirrored(uri) as folder:
        lock = folder.parent / ".lock"
    lock.write_text("another-host.1.abc")
    objects.put(b"", ".owners/another-host.1.abc")
    seen: list[set[str]] = []
    honest = lease.Claim._wait_for_earlier

    def note(self, dead):
        seen.append({dead})
        honest(self, dead)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease.Claim, "_wait_for_earlier", note)
        work(uri)
    assert seen == [{None}]
