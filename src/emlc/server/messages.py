"""What the page sends: decisions, checked before they are stored."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emlc.data.reviewed import ORDERS
from emlc.errors import InputError
from emlc.review.decisions import WITHOUT_LABEL, WORDS
from emlc.review.store import CLEAR, StoredDecision

_JOINERS = {0x200C: None, 0x200D: None}
"""Zero-width joiner and non-joiner, which Persian and other names are written with."""
LONGEST_NAME = 80
"""Maximum number of characters of a reviewer's name."""
_TEXTS = ("key", "id", "decision", "label", "given", "suggested")
_LONGEST_KEY = 80


class UnfitName(InputError):
    """A reviewer's name is empty, too long, or has control characters."""


def parse_decisions(
    body: bytes, given: Mapping[str, str], classes: frozenset[str], shown: Mapping[str, str]
) -> list[StoredDecision]:
    """Read the decisions of one action, all of one reviewer.

    Args:
        body: JSON: ``{"reviewer": ..., "decisions": [...]}``, each with key, id, decision, label, given,
            suggested and resolves, and if they are known seen, and chosen, a word of ``ORDERS``.
        given: Id -> given label of all noisy samples.
        classes: Class names.
        shown: Id -> what is shown of the sample beside its labels, as JSON.

    Raises:
        UnfitName: the reviewer's name cannot be taken; then none of the decisions counts.
        InputError: something else in it is not as expected; the same holds.
    """
    try:
        message = json.loads(body)
        reviewer, entries = message["reviewer"], message["decisions"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("expected JSON with reviewer and decisions") from error
    name = _name(reviewer)
    if not isinstance(entries, list):
        raise InputError(f"decisions: expected a list, found {entries!r:.100}")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for entry in entries:
        _check(entry, given, classes)
    return [
        StoredDecision(
            **{field: entry[field] for field in ("key", "id", "decision", "label")},
            given_label=entry["given"],
            suggested_label=entry["suggested"],
            reviewer=name,
            time=now,
            shown=_with_order(shown.get(entry["id"], "{}"), entry.get("chosen", "")),
            resolves=entry["resolves"],
            seen=entry.get("seen", False),
        )
        for entry in entries
    ]


def _with_order(shown: str, chosen: str) -> str:
    return json.dumps(json.loads(shown) | {"chosen": chosen}) if chosen else shown


def _name(reviewer: Any) -> str:
    name = " ".join(reviewer.split()) if isinstance(reviewer, str) else ""
    visible = name.translate(_JOINERS)
    if not visible or len(name) > LONGEST_NAME or not visible.isprintable():
        raise UnfitName(
            f"reviewer: expected a name of 1 to {LONGEST_NAME} characters, found {reviewer!r:.100}"
        )
    return name


def _check(entry: Any, given: Mapping[str, str], classes: frozenset[str]) -> None:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in _TEXTS):
        raise InputError(f"decisions: expected texts {', '.join(_TEXTS)}, found {entry!r:.200}")
    if not isinstance(entry.get("resolves"), bool) or not 0 < len(entry["key"]) <= _LONGEST_KEY:
        raise InputError(f"resolves: expected true or false, and a key, found {entry!r:.200}")
    if not isinstance(seen := entry.get("seen", False), bool):
        raise InputError(f"seen: expected true or false, found {seen!r:.100}")
    if (chosen := entry.get("chosen", "")) not in ("", *ORDERS):
        raise InputError(f"chosen: expected {', '.join(ORDERS)} or nothing, found {chosen!r:.100}")
    sample_id, word, label = entry["id"], entry["decision"], entry["label"]
    where = f"id {sample_id!r:.200}"
    if (expected := given.get(sample_id)) is None:
        raise InputError(f"{where}: not the id of a noisy sample of the run")
    if entry["given"] != expected:
        raise InputError(f"{where}: the given label is {expected!r}, found {entry['given']!r:.200}")
    if word not in (*WORDS, CLEAR):
        raise InputError(f"{where}: decision: expected {', '.join((*WORDS, CLEAR))}, found {word!r:.100}")
    has_label = word not in (*WITHOUT_LABEL, CLEAR)
    if (has_label and label not in classes) or (not has_label and label):
        raise InputError(
            f"{where}: label: expected {'a class' if has_label else 'none'} with {word}, found {label!r:.200}"
        )
    settled = {"accept": entry["suggested"], "keep": expected}.get(word, label)
    if label != settled:
        raise InputError(f"{where}: {word} means the label {settled!r:.200}, found {label!r:.200}")
