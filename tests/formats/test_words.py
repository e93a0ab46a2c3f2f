"""The words of texts, and what is asked for in a search, are the same in every index."""

from contextlib import suppress
from unicodedata import category, normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.formats.words import (
    LONGEST_WORD,
    AllOf,
    AnyOf,
    Phrase,
    located,
    matches,
    parse_query,
    words,
)

TEXTS = st.text(max_size=40) | st.text(
    st.sampled_from("aé\u0301 ßẞſıIİςΣ部署がカ\u3099한ที่👍🏽👨\u200d👩\u00ad\u200bकि_١½™"), max_size=12
)


def phrase(*parts, is_prefix=False):
    return Phrase(parts, is_prefix)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café CAFÉ cafe\u0301", "cafe cafe cafe"),
        ("Straße STRASSE STRAẞE", "strasse strasse strasse"),
        ("ΟΔΟΣ οδος Ὀδός", "οδοσ οδοσ οδοσ"),
        ("İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul"),
        ("e-mail don't snake_case 3.5€", "e mail don t snake case 3 5"),
        ("部署 go カタ ガ", "部 署 go カ タ ガ"),
        ("カ\u3099 ﾌﾙ ＦＵＬＬ ﬁ", "ガ フ ル full fi"),
        ("한국어", "한 국 어"),
        ("ที่", "ท ี ่"),
        ("हिन्दी किताब", "हिन्दी किताब"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("👍🏽ok❤️", "👍 ok ❤"),
        ("co\u00adop a\u200bb می\u200cخواهم", "coop a b میخواهم"),
        ("\ud800a\0b\x85c\ufffdd", "a b c d"),
    ],
)
def test_words_are_folded_in_every_script(text, expected):
    assert list(words(text)) == expected.split()


@given(TEXTS)
@settings(max_examples=examples(300))
def test_words_hold_nothing_but_folded_letters_digits_marks_and_signs(text):
    for word in words(text):
        assert list(words(word)) == [word]
        assert len(word) <= LONGEST_WORD
        assert all(category(char)[0] in "LNM" or category(char) == "So" for char in word)


@given(TEXTS, TEXTS)
@settings(max_examples=examples(200))
def test_words_do_not_depend_on_what_is_beside_them_nor_on_how_text_is_composed(one, other):
    assert list(words(f"{one} {other}")) == [*words(one), *words(other)]
    assert list(words(one)) == list(words(normalize("NFD", one)))


@given(TEXTS)
@settings(max_examples=examples(300))
def test_words_are_located_where_they_stand(text):
    text = normalize("NFC", text)
    found = list(located(text))
    assert [word for word, _, _ in found] == list(words(text))
    for word, start, end in found:
        assert 0 <= start < end <= len(text)
        assert word in "".join(words(text[start:end]))
    assert list(located("x\u0301 👍🏽")) == [("x", 0, 2), ("👍", 3, 5)]


def test_a_long_run_is_cut_into_words_of_the_same_length():
    run = "a" * (2 * LONGEST_WORD + 22)
    assert [len(each) for each in words(run)] == [LONGEST_WORD, LONGEST_WORD, 22]
    assert [each[1:] for each in located(run)] == [
        (0, LONGEST_WORD),
        (LONGEST_WORD, 2 * LONGEST_WORD),
        (2 * LONGEST_WORD, len(run)),
    ]
    part = run[: LONGEST_WORD + 22]
    assert matches(parse_query(part), list(words(f"see {part}!")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("refund", phrase("refund")),
        ("Refund card", AllOf((phrase("refund"), phrase("card")), ())),
        ("refund AND card", AllOf((phrase("refund"), phrase("card")), ())),
        ("a b OR c", AnyOf((AllOf((phrase("a"), phrase("b")), ()), phrase("c")))),
        ("a (b OR c)", AllOf((phrase("a"), AnyOf((phrase("b"), phrase("c")))), ())),
        ("a NOT b", AllOf((phrase("a"),), (phrase("b"),))),
        ("NOT b a", AllOf((phrase("a"),), (phrase("b"),))),
        ("a AND NOT NOT b", AllOf((phrase("a"), phrase("b")), ())),
        ('"Credit  card"', phrase("credit", "card")),
        ("“credit card”*", phrase("credit", "card", is_prefix=True)),
        ("e-mail", phrase("e", "mail")),
        ("部署", phrase("部", "署")),
        ("refu*", phrase("refu", is_prefix=True)),
        ("and or not", AllOf((phrase("and"), phrase("or"), phrase("not")), ())),
        ('a !!! AND ... () "" *', phrase("a")),
        ("f(x)", AllOf((phrase("f"), phrase("x")), ())),
        ('"AND"', phrase("and")),
    ],
)
def test_a_query_is_parsed(text, expected):
    assert parse_query(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no word"),
        (" !?* \0 ", "no word"),
        ("()", "no word"),
        ("a (b", 'a "\\(" without'),
        ("a) b", 'a "\\)" without'),
        ('a "b', "quotation mark"),
        ("AND", "no word beside"),
        ("a AND", "no word beside"),
        ("OR a", "no word beside"),
        ("a OR OR b", "no word beside"),
        ("a AND (NOT)", "no word beside"),
        ("NOT a", "NOT needs a word"),
        ("a OR NOT b", "NOT needs a word"),
        ("!!! NOT a", "NOT needs a word"),
        ("re*nd", "end of a word"),
        ("(" * 21 + "a" + ")" * 21, "nested more"),
        ("a" * 1001, "longer than"),
    ],
)
def test_what_cannot_be_found_is_refused_in_one_sentence(text, why):
    with pytest.raises(ValueError, match=why):
        parse_query(text)


@given(
    st.lists(
        st.sampled_from(["AND", "OR", "NOT", "(", ")", '"', "*", "a", "b", "部署", "-", "👍", "\ud800"])
        | st.text(max_size=5)
    )
)
@settings(max_examples=examples(500))
def test_whatever_is_typed_is_parsed_or_refused(parts):
    for text in ("".join(parts), " ".join(parts)):
        with suppress(ValueError):
            assert not matches(parse_query(text), [])


@st.composite
def queries(draw, depth=3):
    """The text of a query, and what it says of a folded text with one space around each word."""
    kind = draw(st.sampled_from(["word", "prefix", "phrase", "and", "or", "not"])) if depth else "word"
    if kind in ("word", "prefix", "phrase"):
        parts = draw(st.lists(st.sampled_from("ab部"), min_size=1, max_size=2 if kind == "phrase" else 1))
        needle = f" {' '.join(parts)}{'' if kind == 'prefix' else ' '}"
        quoted = f'"{" ".join(parts)}"{"*" if kind == "prefix" else ""}'
        return quoted, lambda text: needle in text
    (one, left), (other, right) = draw(queries(depth - 1)), draw(queries(depth - 1))
    if kind == "and":
        return (
            f"({one}) {other}" if " OR " in one else f"{one} AND ({other})",
            lambda text: left(text) and right(text),
        )
    if kind == "or":
        return f"({one} OR {other})", lambda text: left(text) or right(text)
    return f"({one} NOT ({other}))", lambda text: left(text) and not right(text)


@given(queries(), st.lists(st.sampled_from(["a", "b", "ab", "部"]), max_size=6))
@settings(max_examples=examples(500))
def test_a_text_matches_as_its_parts_do(asked, text_words):
    text, says = asked
    assert matches(parse_query(text), text_words) == says(f" {' '.join(text_words)} ")
