"""What `emlc correct` tells of its decision."""

from emlc.cli.correct import _print_decision
from emlc.labels.decision import PosteriorDecision


def decision(**figures):
    origin = {"calibrated_on": "trusted", "trusted_samples": 20, "noisy_samples": 30}
    posterior = {"exponent": 1.0, "class_weights": (1.0, 1.0), "transition": ((0.9, 0.1), (0.1, 0.9))}
    return PosteriorDecision(**({"threshold": 0.6} | figures | origin | posterior))


def test_what_is_estimated_is_told(capsys):
    _print_decision(decision(noise_rate=0.25, expected_f1=0.875))
    assert capsys.readouterr().out == (
        "labels with a label_quality below 0.600 count as issues. Estimated from 20 trusted samples, for the "
        "training set: wrong labels 25.0%, F1 score of the issues 87.5%\n"
    )


def test_what_is_unknown_is_told(capsys):
    _print_decision(decision(noise_rate=0.25, expected_f1=None))
    assert "wrong labels 25.0%, F1 score of the issues unknown" in capsys.readouterr().out
