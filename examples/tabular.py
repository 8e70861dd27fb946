"""Diagnoses with wrong labels: 569 biopsies, 30 measurements each, a few of which were checked.

40 % of the malignant biopsies are labelled benign, 20 % of the benign ones malignant; 20 per class were
checked and are right. Compares, on test samples with right labels: classifiers of scikit-learn trained on all
labels, the same trained on the checked labels only, and EMLCClassifier, which is told which were checked.
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emlc import EMLCClassifier

BASELINES = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "gradient boosting": HistGradientBoostingClassifier(random_state=0),
}


def compare(seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return test accuracies by classifier, and the share of unchecked labels that are right, in per cent."""
    cancer = load_breast_cancer(as_frame=True)
    truth = pd.Series(cancer.target_names[cancer.target])
    X, X_test, truth, truth_test = train_test_split(
        cancer.data, truth, test_size=0.3, stratify=truth, random_state=seed
    )
    checked = truth.index.isin(truth.groupby(truth).sample(20, random_state=seed).index)
    flipped = np.random.default_rng(seed).random(len(truth)) < np.where(truth == "malignant", 0.4, 0.2)
    other = truth.map({"malignant": "benign", "benign": "malignant"})
    y = truth.where(~flipped | checked, other)

    accuracy = {}
    for name, baseline in BASELINES.items():
        accuracy[f"{name}, all labels"] = clone(baseline).fit(X, y).score(X_test, truth_test)
        alone = clone(baseline).fit(X[checked], y[checked])
        accuracy[f"{name}, checked labels"] = alone.score(X_test, truth_test)

    right = {"as given": np.mean((y == truth)[~checked])}
    for backbone in ("shallow", "mlp", "linear"):
        classifier = EMLCClassifier(backbone=backbone, random_state=seed).fit(X, y, trusted=checked)
        accuracy[f"EMLCClassifier, {backbone}"] = classifier.score(X_test, truth_test)
        labels = classifier.correct_labels()
        is_right = labels["corrected_label"].to_numpy() == truth.iloc[labels["id"]].to_numpy()
        right[f"corrected, {backbone}"] = np.mean(is_right)
    return _per_cent(accuracy), _per_cent(right)


def _per_cent(shares: dict[str, float]) -> dict[str, float]:
    return {name: 100 * share for name, share in shares.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    results = [compare(seed) for seed in parser.parse_args().seeds]
    for title, rows in zip(["test accuracy %", "right labels %"], zip(*results, strict=True), strict=True):
        table = pd.DataFrame(rows)
        print(f"\n{title}, mean ± standard deviation of {len(table)} seeds")
        for name in table:
            print(f"{name:40s}{table[name].mean():6.1f} ± {table[name].std(ddof=0):.1f}")
