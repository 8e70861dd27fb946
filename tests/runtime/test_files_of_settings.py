"""YAML files that explode, go round in circles or run code, and messages that would act on a terminal."""

import pytest
import yaml

from emlc.errors import InputError, readable
from emlc.runtime.files import read_yaml

_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (_LAUGHS, r"line 2: found the alias \*a"),
        ("a: &a [*a]\n", r"line 1: found the alias \*a"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more than 20 levels"),
        ("a: " + "x" * 2**21, "larger than 1 MiB"),
        ("a: " + "é" * 2**19, "larger than 1 MiB"),  # in bytes, not in characters
        ("a: [" + "x, " * 2000 + "]", "more than 1,000 values"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        ("a: \x00", "cannot be read as YAML"),
        ("a: 2001-99-99", "cannot be read as YAML"),
        ("[1, 2]", "expected a mapping of settings, found list"),
        ("", "expected a mapping of settings, found NoneType"),
    ],
)
def test_what_is_not_read(tmp_path, text, problem):
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"a.yaml: .*{problem}"):
        read_yaml(tmp_path / "a.yaml", most_values=1000)


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "a.yaml").write_bytes("data: Größe.csv".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as YAML: 'utf-8' codec"):
        read_yaml(tmp_path / "a.yaml")


def test_sound_settings_are_read_as_pyyaml_reads_them(tmp_path):
    values = {"a": [1, 2.5, None, "x", "1e3", "é"], "b": {"c": True, "d": []}, "e": "no: 'quotes'"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == values


def test_a_message_shows_control_characters_and_cuts_long_lines():
    assert readable("a\x1b[31mé\u202e日\n\tb\x07\x9b\x7f") == "a\\x1b[31mé\\u202e日\n\tb\\x07\\x9b\\x7f"
    long = readable("first\n" + "x" * 2_000_000)
    assert len(long) < 2100
    assert "1,998,000 characters" in long
