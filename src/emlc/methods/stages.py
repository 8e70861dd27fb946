"""The stages of methods that correct a table of labels, and learn from what it has become in the end."""

from typing import NamedTuple

from emlc.config import Settings


class Stages(NamedTuple):
    """First the labels are as given, then they are corrected, then they stay.

    Attributes:
        correction: The first epoch in which labels are corrected.
        final: The first epoch of the last stage; that of a run that has none would follow its last epoch.
    """

    correction: int
    final: int

    @classmethod
    def of(cls, settings: Settings, final_share: float) -> "Stages":
        """Those of a run whose last stage takes this share of the epochs.

        The warm-up is before the correction. If it leaves too few epochs, the last stage gives way: there
        is at least one of correction.
        """
        final = settings.epochs - round(final_share * settings.epochs)
        return cls(settings.warm_up, max(final, settings.warm_up + 1))
