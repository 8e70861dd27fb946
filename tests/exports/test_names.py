"""Names of files: whatever the text, a name that stays in its folder and is no other's."""

import pytest

from emlc.exports.names import safe_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("../../x", "_.._x"),
        ("..", "_"),
        ("", "_"),
        (".hidden", "hidden"),
        ("</script>", "__script_"),
        ("line\nbreak\u2028\0", "line_break__"),
        ('quo"te, comma', "quo_te, comma"),
        ("=1+1", "=1+1"),
        ("C:\\x", "C__x"),
        ("dot. ", "dot"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("com¹", "_com¹"),
        ("CONIN$.x", "_CONIN$.x"),
        ("gpj\u202eexe.\u2066\u200f\u061cx", "gpjexe.x"),
        ("c\u200eon", "_con"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("console", "console"),
        ("猫 🐈", "猫 🐈"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_a_name_is_safe(text, name):
    assert safe_names([text]) == [name]


def test_long_names_are_cut_between_characters(tmp_path):
    (name,) = safe_names(["猫" * 200], ".png")
    assert name == "猫" * 33 + ".png"
    (tmp_path / name).write_text("")


def test_no_two_names_are_alike_where_case_makes_no_difference():
    names = safe_names(["Cat", "cat", "CAT", "a/b", "a_b", "a:b", "cat-2"], ".png")
    assert names == ["Cat.png", "cat-2.png", "CAT-3.png", "a_b.png", "a_b-2.png", "a_b-3.png", "cat-2-2.png"]


def test_reserved_names_are_nobodys():
    assert safe_names(["A.csv", "b"], reserved=["a.csv", "b.csv"]) == ["A.csv-2", "b"]


def test_endings_tell_names_apart():
    assert safe_names(["a", "a", "A"], [".png", ".jpg", ".PNG"]) == ["a.png", "a.jpg", "A-2.PNG"]


def test_many_equal_texts_are_counted_on():
    """Each name is the first free one; to look through all that are taken would take minutes here."""
    names = safe_names(["image-3", *["image"] * 50_000, "IMAGE"], ".jpg")
    counted = [f"image-{k}.jpg" for k in range(2, 50_001) if k != 3]
    assert names == ["image-3.jpg", "image.jpg", *counted, "image-50001.jpg", "IMAGE-50002.jpg"]
