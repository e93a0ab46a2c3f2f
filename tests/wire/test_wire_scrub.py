"""A text is shown without its secrets, in whatever form they stand in it."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.wire.secret import scrub

keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8)


@given(keys, st.text(), st.text(), st.sampled_from([str, quote, quote_plus, lambda key: quote(key, safe="")]))
def test_a_secret_is_removed_in_every_url_escape(key, before, after, quoted):
    assert quoted(key) not in scrub(f"{before}{quoted(key)}{after}", [key]).replace("[key]", "")


@given(st.text(st.characters(max_codepoint=64)), keys.filter(lambda key: any(c.isalpha() for c in key)))
def test_a_text_without_a_secret_is_unchanged(text, key):
    assert scrub(text, [key.replace("1", "x") + "y"]) == text


@pytest.mark.parametrize("text", ["apikey=k-1&limit=2", "Invalid key k-1.", "'k-1'", "k-1"])
def test_a_short_secret_is_replaced_as_a_word_of_its_own(text):
    assert "k-1" not in scrub(text, ["k-1"])


def test_a_short_secret_is_not_replaced_inside_of_words():
    assert scrub("a task of k", ["k"]) == "a task of [key]"


def test_every_occurrence_of_every_secret_is_replaced():
    assert scrub("a=K+1&b=K%2B1&c=K+1 and L", ["K+1", "L"]) == "a=[key]&b=[key]&c=[key] and [key]"


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_changes_nothing(secrets):
    assert scrub("as it is", secrets) == "as it is"


@pytest.mark.parametrize(
    "echo", ["CANARY-a%2bb%2fc", "CANARY-a%2Bb/c", "CANARY-a&#43;b&#x2f;c", "CANARY-a+b/c"]
)
def test_a_secret_is_removed_in_every_escape_of_a_server(echo):
    assert scrub(f"key {echo} is wrong", ["CANARY-a+b/c"]) == "key [key] is wrong"
