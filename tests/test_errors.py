"""Errors for people: one line of where, what is wrong, and what to do."""

import pickle

from dist_lstm.errors import UserError


def test_empty_parts_of_a_message_leave_no_separators():
    assert (
        str(UserError("data.path", "does not exist", "give another")) == "data.path: does not exist; give another"
    )
    assert str(UserError("data.path", "does not exist")) == "data.path: does not exist"
    assert str(UserError("", "nothing to do", "stop")) == "nothing to do; stop"


def test_a_pickled_error_is_restored_unchanged():
    error = UserError("a", "b", "c")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.where, copy.problem, copy.advice, str(copy)) == ("a", "b", "c", str(error))


def test_the_local_path_of_a_mirror_is_replaced_by_its_uri():
    error = UserError("/cache/x/run", "holds /cache/x/other", "delete /cache/x/run")
    assert str(error.with_name("/cache/x", "s3://b")) == "s3://b/run: holds s3://b/other; delete s3://b/run"
