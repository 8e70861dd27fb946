"""The choice of the engine that computes a method's Jacobian-vector products, kept over the whole run."""

import logging
from typing import Literal, cast

from emlc.meta.jvp import Engine, StudentStep, choose_engine
from emlc.methods.base import Method

_log = logging.getLogger(__name__)


class EngineChoice:
    """The JVP engine of a method: the one in the settings, or the one chosen in its first step.

    The choice is stored in the method's ``decisions``, and so in its checkpoints.

    Args:
        method: The method that computes Jacobian-vector products.
        exact: Whether it needs Hessian-vector products too.
    """

    def __init__(self, method: Method, *, exact: bool = False) -> None:
        self._method = method
        self._exact = exact
        self._logged: Engine | None = None

    def requested(self, step: StudentStep) -> Engine | Literal["auto"]:
        """Return the engine to try; a run that is resumed on another device may have to choose anew."""
        setting = self._method.settings.jvp
        if setting != "auto":
            return setting
        stored = cast(Engine | None, self._method.decisions.get("jvp"))
        if stored == "finite-difference" and choose_engine(step, exact=self._exact)[0] != stored:
            return "auto"
        return stored or "auto"

    def used(self, engine: Engine, step: StudentStep) -> None:
        """Store the engine that computed this step, to be used in the next ones; log it when it changes.

        A network that does not support an engine in one step does not support it in any other.
        """
        self._method.decisions["jvp"] = engine
        if self._logged == engine:
            return
        chosen, why = choose_engine(step, exact=self._exact)
        if self._method.settings.jvp != "auto":
            why = "as asked"
        elif engine != chosen:
            reasons = {"double-backward": "the network lacks forward-mode AD"}
            why = reasons.get(engine, "the network is too steep for finite differences")
        self._logged = engine
        _log.debug(f"Jacobian-vector products by {engine}: {why}")
