"""The report's tables: settings, environment, and the decision threshold with its calibration."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from emlc.config import DataSettings, Settings, estimator_settings, names_of, paths_of
from emlc.labels.decision import Decision
from emlc.report.facts import Facts


def settings_tables(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate the settings worth reading, those of the data first, and all others.

    Paths are cut to their last part: reports are shared with others.
    """
    names = {name: Path(path).name for name, path in paths_of(settings).items()}
    values = settings.as_dict()
    rows = [(name, _value(names.get(name, value))) for name, value in values.items() if name != "output"]
    first = _worth_reading(settings)
    chosen = [row for row in rows if row[0] in first]
    chosen.sort(key=lambda row: row[0] not in names_of(DataSettings))
    others = [row for row in rows if row[0] not in first]
    return tuple(pd.DataFrame(part, columns=["setting", "value"], dtype=object) for part in (chosen, others))  # type: ignore[return-value]


def _worth_reading(settings: Settings) -> set[str]:
    """Return the settings that differ from their defaults, and the usual ones that are not None."""
    changed = {field.name for field in fields(Settings) if getattr(settings, field.name) != field.default}
    usual = names_of(Settings, lambda facts: not (facts.expert or facts.free_on_resume))
    given = {name for name in usual & estimator_settings() if getattr(settings, name) is not None}
    return changed | given


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def environment_table(facts: Facts) -> pd.DataFrame:
    """Tabulate samples, classes, noise, hardware and versions."""
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


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value).replace("%", " %")


def decision_table(decision: Decision | None) -> pd.DataFrame:
    """Tabulate the threshold of label issues and its calibration; empty for runs that did not record it."""
    rows: list[tuple[str, str]] = []
    if decision is not None:
        rows = [
            ("threshold on the label quality", f"{decision.threshold:.3f}"),
            ("F1 score of the issues, expected", _or_unknown(decision.expected_f1, "{:.3f}")),
            ("share of wrong labels, estimated", _or_unknown(decision.noise_rate, "{:.1%}")),
            ("power of the noise", f"{getattr(decision, 'transition_power', 1.0):.2f}"),
            ("calibrated on", f"{decision.trusted_samples:,} {decision.calibrated_on} samples"),
            ("adapted to", f"{decision.noisy_samples:,} noisy samples"),
        ]
    return pd.DataFrame(rows, columns=["figure", "value"], dtype=object)
