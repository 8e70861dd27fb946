"""The tables of settings, of the environment, and of how the decision came about."""

from dataclasses import fields
from typing import Any

import pandas as pd

from emlc.config import DataSettings, Settings
from emlc.labels.decision import KINDS, Decision
from emlc.report.facts import Facts

_TELLING = {"data", "method", "epochs", "backbone", "look_ahead", "noise", "seed", "learning_rate"}


def settings_tables(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The settings worth reading, and the rest."""
    defaults = {field.name: field.default for field in fields(Settings)}
    data = {field.name for field in fields(DataSettings)}
    rows = [(name, _value(value)) for name, value in settings.as_dict().items()]
    telling = [
        row[0] in _TELLING or (getattr(settings, row[0]) != defaults[row[0]] and row[0] != "output")
        for row in rows
    ]
    chosen = [row for row, tells in zip(rows, telling, strict=True) if tells]
    chosen.sort(key=lambda row: row[0] not in data)
    others = [row for row, tells in zip(rows, telling, strict=True) if not tells]
    return tuple(pd.DataFrame(part, columns=["setting", "value"], dtype=object) for part in (chosen, others))  # type: ignore[return-value]


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def environment_table(facts: Facts) -> pd.DataFrame:
    """Samples, classes, noise, hardware and versions."""
    summary = facts.summary
    rows: list[tuple[str, Any]] = [(f"{role} samples", f"{n:,}") for role, n in facts.counts.items()]
    rows.append(("classes", len(facts.classes)))
    rows.append(("input", " x ".join(map(str, facts.run.schema.input_shape))))
    for name in ("nominal", "actual"):
        rate = summary.get(f"noise_rate_{name}")
        if rate is not None:
            rows.append((f"noise rate, {name}", f"{100 * rate:.1f} %"))
    for name in ("device", "processes", "threads", "precision", "finished"):
        if name in summary:
            rows.append((name, summary[name]))
    rows += [(f"version of {name}", text) for name, text in summary.get("versions", {}).items()]
    return pd.DataFrame(rows, columns=["what", "value"], dtype=object)


def decision_table(decision: Decision | None) -> pd.DataFrame:
    """How the threshold of the issues came about; empty where it is not recorded."""
    rows: list[tuple[str, str]] = []
    if decision is not None:
        rows = [
            ("threshold on the label quality", f"{decision.threshold:.3f}"),
            ("F1 score of the issues that it promises", f"{decision.expected_f1:.3f}"),
            ("share of wrong labels, estimated", f"{100 * decision.noise_rate:.1f} %"),
            *(
                (f"share of {kind} labels, estimated", f"{100 * share:.1f} %")
                for kind, share in zip(KINDS, decision.shares, strict=True)
            ),
            ("calibrated on", f"{decision.trusted_samples:,} {decision.calibrated_on} samples"),
            ("adapted to", f"{decision.noisy_samples:,} noisy samples"),
        ]
    return pd.DataFrame(rows, columns=["figure", "value"], dtype=object)
