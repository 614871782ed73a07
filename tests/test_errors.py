"""Errors for people: one line of where, what is wrong, and what to do."""

import pickle

from dist_lstm.errors import UserError


def test_what_is_missing_leaves_no_marks_behind():
    assert (
        str(UserError("data.path", "does not exist", "give another")) == "data.path: does not exist; give another"
    )
    assert str(UserError("data.path", "does not exist")) == "data.path: does not exist"
    assert str(UserError("", "nothing to do", "stop")) == "nothing to do; stop"


def test_a_copy_in_another_process_is_the_same():
    error = UserError("a", "b", "c")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.where, copy.problem, copy.advice, str(copy)) == ("a", "b", "c", str(error))


def test_a_mirror_is_named_by_its_uri():
    error = UserError("/cache/x/run", "holds /cache/x/other", "delete /cache/x/run")
    assert str(error.with_name("/cache/x", "s3://b")) == "s3://b/run: holds s3://b/other; delete s3://b/run"
