"""Errors are one printable line that names file, field, found and expected."""

from __future__ import annotations

from bacmac.host import errors


def test_an_input_error_says_all_four_parts_and_what_to_do():
    error = errors.InputError("a.npz", "images", found="int64", expected="uint8", hint="convert it")

    assert str(error) == "a.npz: images: found int64; expected uint8 (convert it)"


def test_a_name_from_a_hostile_file_cannot_break_the_line():
    error = errors.PackedFileError("a", "layer\n\x1b[31mX", found="\r\n" * 9, expected="b" * 5000)

    text = str(error)
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert len(text) <= 600


def test_every_error_exits_with_two_but_a_difference_that_was_found_with_one():
    told = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BacmacError)
    ]

    assert len(told) > 10
    assert {kind.exit_code for kind in told if kind is not errors.VerificationError} == {2}
    assert errors.VerificationError.exit_code == 1, "as `verify` exits when it finds a difference"


def test_the_tree_in_the_docstring_names_every_error():
    assert errors.__doc__ is not None
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.BacmacError):
            assert name in errors.__doc__
