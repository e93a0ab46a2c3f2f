"""Errors are one tree of plain values, which say what to do next and can be pickled."""

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import errors
from navtalk_async.errors import (
    ApiError,
    BrokenBody,
    DeadlineExceeded,
    NavTalkError,
    RateLimited,
    ServerError,
    StoreError,
    http_status,
)

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "http_status"]
# The messages of these differ so much that each has its own next step.
WITHOUT_A_STEP = {"NavTalkError", "ApiError", "StoreMismatch", "StoreUnreachable"}


def made(kind):
    if issubclass(kind, ApiError):
        return kind("It said no.", status=418, code=7, retry_after=1.5, attempts=3)
    return kind("It went wrong.", attempts=3)


def same(one, other):
    return type(one) is type(other) and one.args == other.args and vars(one) == vars(other)


def drawn_tree():
    """The tree of the docstring, as (child, parent)."""
    parents = {-1: "NavTalkError"}
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:│   |    )*)(?:├── |└── )(\w+)", line)
        if found:
            depth = len(found[1]) // 4
            parents[depth] = found[2]
            yield found[2], parents[depth - 1]


def test_the_docstring_draws_the_tree_of_classes():
    assert dict(drawn_tree()) == {
        kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES if kind is not NavTalkError
    }


def test_every_error_class_is_public():
    defined = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, Exception)
    }
    assert defined == set(errors.__all__) - {"http_status"}


def test_the_names_are_in_order():
    assert sorted(errors.__all__) == errors.__all__


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_docstring(kind):
    assert kind.__doc__.strip()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_is_the_same_after_pickling(kind, protocol):
    error = made(kind)
    assert same(pickle.loads(pickle.dumps(error, protocol)), error)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_error_has_all_its_attributes(kind, duplicate):
    error = made(kind)
    assert same(duplicate(error), error)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_copy_reads_like_the_original(kind):
    error = made(kind)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_happened_how_often_and_what_to_do_next(kind):
    error = made(kind)
    what_happened = error.args[0].removesuffix(".")
    assert str(error) == f"{what_happened}, after 3 attempts. {kind.next_step}".rstrip()


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__name__ not in WITHOUT_A_STEP])
def test_every_error_has_a_next_step_that_is_a_sentence(kind):
    assert kind.next_step[0].isupper()
    assert kind.next_step.endswith(".")


def test_a_single_attempt_is_not_mentioned():
    assert "attempt" not in str(BrokenBody("Cut.", attempts=1))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_of_a_possible_change_says_to_check_first_also_after_pickling(kind, protocol):
    error = made(kind)
    assert not error.may_have_happened
    error.may_have_happened = True
    unpickled = pickle.loads(pickle.dumps(error, protocol))
    assert unpickled.may_have_happened
    assert str(unpickled).endswith(
        ", after 3 attempts. The change may have been made: check before you repeat it."
    )


def test_an_exceeded_deadline_is_a_timeout_error_too():
    with pytest.raises(TimeoutError):
        raise DeadlineExceeded("Too late.", attempts=2)


def test_an_exceeded_deadline_keeps_its_attempts_and_its_message():
    error = DeadlineExceeded("Too late.", attempts=2)
    assert (error.args, error.attempts, error.errno) == (("Too late.",), 2, None)


facts = st.fixed_dictionaries(
    {
        "status": st.integers(100, 599),
        "code": st.none() | st.integers(),
        "retry_after": st.none() | st.floats(0, 1e9),
        "details": st.dictionaries(st.text(), st.integers()),
        "attempts": st.integers(0, 100),
    }
)


@given(st.sampled_from([kind for kind in CLASSES if issubclass(kind, ApiError)]), st.text(), facts)
def test_an_api_error_has_the_facts_as_attributes(kind, message, known):
    error = kind(message, **known)
    assert vars(error) == known | {"message": message}
    assert same(pickle.loads(pickle.dumps(error)), error)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_notes_of_an_error_are_pickled(kind):
    error = made(kind)
    error.add_note("while exporting")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while exporting"]


def test_families_do_not_overlap():
    assert not issubclass(RateLimited, ServerError)
    assert not issubclass(StoreError, ApiError)


ANSWERS = {
    "BadRequest": 400,
    "NotFound": 404,
    "Conflict": 409,
    "DeadlineExceeded": 504,
    "AttemptTimeout": 504,
    **dict.fromkeys(("StoreError", "StoreMismatch", "StoreBroken"), 500),
    **dict.fromkeys(("RateLimited", "ConnectFailed", "UnknownHost", "UntrustedCertificate"), 503),
    **dict.fromkeys(("ClientClosed", "StoreLocked", "StoreUnreachable", "ServerError"), 503),
}
"""The answers of a web app; all others are 502. Its `ServerError` here says how long to wait."""


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_error_has_an_answer_that_tells_nothing_of_the_key(kind):
    assert http_status(made(kind)) == ANSWERS.get(kind.__name__, 502)
    assert http_status(made(kind)) not in {401, 403, 407, 429}


def test_what_is_no_error_of_ours_is_an_internal_one_and_a_timeout_is_the_gateways():
    assert (http_status(ValueError()), http_status(TimeoutError())) == (500, 504)
    assert http_status(ServerError("It said no.", status=500)) == 502
    refused = errors.BadRequest("It said no.", status=400)
    refused.suspect_key()
    assert http_status(refused) == 502
