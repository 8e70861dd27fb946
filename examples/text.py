"""Sentiment of 23,619 sentences: labels from a word list, corrected with the help of a few human labels.

    pip install 'emlc[text]' vaderSentiment==3.3.2
    pip download --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2
    python examples/text.py vaderSentiment-3.3.2.tar.gz

The source distribution of vaderSentiment (MIT licence; Hutto & Gilbert, ICWSM 2014) has sentences of
reviews of products and films, newspaper editorials and tweets, each rated by 15 people or more from -4 to 4.
Their mean is the true label: negative up to -0.5, positive from 0.5, else neutral. The given label comes from
vaderSentiment's word list and rules; it costs nothing, and is wrong for 4 sentences in 10. 100 sentences per
class have the human label instead, and are trusted.

Writes sentences.csv and test.csv to FOLDER, trains three ways on them with the preset "text", and prints
the accuracies. With --symmetric 0.4 the given labels are the human ones, 40 % of them redrawn at random.
"""

import io
import json
import tarfile
from argparse import ArgumentParser
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
import yaml

import emlc
from emlc.config.presets import preset_path
from emlc.errors import InputError

SOURCES = ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets", "tweets")
METHODS = ("trusted-only", "cross-entropy", "glc", "emlc")
FIGURES = {
    "test %, chosen": "test_accuracy",
    "test %, last": "last_test_accuracy",
    "labels recovered %": "label_recovery",
    "wrong labels recovered %": "wrong_label_recovery",
}


def read_sentences(archive: Path) -> pd.DataFrame:
    """Read id, text and true_label of the sentences in vaderSentiment's source distribution."""
    with tarfile.open(archive) as package:
        name = next(name for name in package.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = package.extractfile(name)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as files:
            rows = [row for source in SOURCES for row in _rated(files, source)]
    return pd.DataFrame(rows, columns=["id", "text", "true_label"]).drop_duplicates("text")


def _rated(files: tarfile.TarFile, source: str) -> list[tuple[str, str, str]]:
    texts = {number: text for number, _, text in _lines(files, f"{source}_GroundTruth.txt")}
    ratings = {number: json.loads(r) for number, _, _, r in _lines(files, f"{source}_anonDataRatings.txt")}
    return [(f"{source}-{n}", text, sentiment(mean(ratings[n]), 0.5)) for n, text in texts.items()]


def _lines(files: tarfile.TarFile, name: str) -> list[list[str]]:
    file = files.extractfile(f"hutto_ICWSM_2014/{name}")
    assert file is not None
    return [line.split("\t") for line in file.read().decode("utf-8-sig").splitlines()]


def sentiment(score: float, neutral_below: float) -> str:
    """Return the class of a score in [-4, 4] or [-1, 1]."""
    if abs(score) < neutral_below:
        return "neutral"
    return "positive" if score > 0 else "negative"


def word_list_labels(texts: Sequence[str]) -> list[str]:
    """Return vaderSentiment's labels, with the threshold that its authors recommend."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return [sentiment(analyzer.polarity_scores(text)["compound"], 0.05) for text in texts]


def write_data(sentences: pd.DataFrame, folder: Path) -> None:
    """Write sentences.csv to train on, and test.csv: a fifth of the sentences, the same for every seed."""
    sentences = sentences.assign(label=word_list_labels(sentences["text"].tolist()))
    is_test = sentences["id"].map(lambda sample: blake2b(sample.encode()).digest()[0] % 5 == 0)
    folder.mkdir(parents=True, exist_ok=True)
    sentences[~is_test].to_csv(folder / "sentences.csv", index=False)
    sentences[is_test].to_csv(folder / "test.csv", index=False)


def train(folder: Path, method: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Train, or read a finished run; return its summary."""
    values = yaml.safe_load(preset_path("text", "train").read_text(encoding="utf-8"))
    values |= {
        "data": str(folder / "sentences.csv"),
        "test": str(folder / "test.csv"),
        "trusted_per_class": 100,
        "rivals": False,
        "method": method,
        "seed": seed,
        "output": str(folder / "runs" / f"{method}-seed{seed}"),
    }
    return emlc.train(emlc.Settings(**(values | changes)), resume=True).summary


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Tabulate mean and standard deviation over the seeds."""
    lines = [f"| method | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    for method, summaries in results.items():
        cells = [_cell([s[key] for s in summaries]) for key in FIGURES.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{mean(known):.1f}" + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def main() -> None:
    """Make the data, train, and print the results."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("--folder", type=Path, default=Path("runs/text"), help="folder for data and runs")
    parser.add_argument(
        "--symmetric", type=float, metavar="RATE", help="redraw this share of the human labels instead"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    write_data(read_sentences(arguments.archive), arguments.folder)
    noise: dict[str, Any] = {}
    if arguments.symmetric is not None:
        noise = {"label_column": "true_label", "noise": "symmetric", "noise_rate": arguments.symmetric}
    results = {
        method: [train(arguments.folder, method, seed, **noise) for seed in arguments.seeds]
        for method in METHODS
    }
    first = next(iter(results.values()))[0]
    print(table(results))
    print(
        f"{first['noisy_samples']:,} noisy samples, {first['noise_rate_actual']:.1%} of them wrong; "
        f"{first['trusted_samples']} trusted; {first['test_samples']:,} test; "
        f"seeds {', '.join(map(str, arguments.seeds))}; {first['device']}"
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
