"""Batch and epochs by the size of the data."""

import pytest

from emlc.config import Settings
from emlc.config.sizes import fitted


@pytest.mark.parametrize(
    ("n", "batch", "epochs"),
    [(600, 60, 30), (50_000, 128, 15), (100, 16, 48), (20, 16, 100), (3_000, 128, 15)],
)
def test_small_data_get_smaller_batches_and_more_epochs(n, batch, epochs):
    settings = fitted(Settings(trusted_per_class=1), n)
    assert (settings.noisy_batch, settings.epochs) == (batch, epochs)
    steps = epochs * n / batch
    assert steps >= 300 or epochs == 100


def test_values_that_are_given_win():
    assert fitted(Settings(epochs=3), 600).epochs == 3
    settings = fitted(Settings(noisy_batch=8), 600)
    assert (settings.noisy_batch, settings.epochs) == (8, 15)
    both = Settings(epochs=3, noisy_batch=8)
    assert fitted(both, 600) == both


def test_warm_up_epochs_of_emlc_come_in_addition():
    plain = fitted(Settings(), 600)
    assert fitted(Settings(warm_up_epochs=4), 600).epochs == plain.epochs + 4


def test_what_is_chosen_for_the_command_line_is_what_the_estimator_chooses():
    from sklearn.datasets import make_blobs

    from emlc import EMLCClassifier

    X, y = make_blobs(60, centers=2, random_state=0)
    model = EMLCClassifier(random_state=0, device="cpu", settings={"jvp": "forward"}).fit(X, y, range(20))
    expected = fitted(Settings(), 40)
    assert model.run_.settings.epochs == expected.epochs
    assert model.run_.settings.noisy_batch == expected.noisy_batch
