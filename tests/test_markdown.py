"""Texts of others in Markdown: they are shown, and mean nothing."""

from diverseevol.output.markdown import MARKS, plain


def test_marks_are_letters_and_lines_are_one():
    assert plain("[a](b) | *c*") == r"\[a\]\(b\) \| \*c\*"
    assert plain(MARKS) == "".join(f"\\{mark}" for mark in MARKS)
    assert "\n" not in plain("# a\n# b")
    assert "\x1b" not in plain("a\x1b[2Jb")
    assert plain("Grüße, 5 rows.") == "Grüße, 5 rows."
