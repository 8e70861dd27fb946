"""Which engine the Jacobian-vector products of a method take, from its first step to its last."""

import logging
from typing import Literal, cast

from emlc.meta.jvp import Engine, StudentStep, choose_engine
from emlc.methods.base import Method

_log = logging.getLogger(__name__)


class EngineChoice:
    """As the settings ask for, or as was found out; the method's decisions keep it.

    Args:
        method: Whose products they are.
        exact: Whether Hessian-vector products are wanted too.
    """

    def __init__(self, method: Method, *, exact: bool = False) -> None:
        self._method = method
        self._exact = exact
        self._noted: Engine | None = None

    def requested(self, step: StudentStep) -> Engine | Literal["auto"]:
        """The engine to try; a run that goes on elsewhere may have to decide again."""
        asked = self._method.settings.jvp
        if asked != "auto":
            return asked
        decided = cast(Engine | None, self._method.decisions.get("jvp"))
        if decided == "finite-difference" and choose_engine(step, exact=self._exact)[0] != decided:
            return "auto"
        return decided or "auto"

    def used(self, engine: Engine, step: StudentStep) -> None:
        """It was this one; what the network does not support now it will not support in the next step."""
        self._method.decisions["jvp"] = engine
        if self._noted == engine:
            return
        chosen, why = choose_engine(step, exact=self._exact)
        if self._method.settings.jvp != "auto":
            why = "as asked"
        elif engine != chosen:
            reasons = {"double-backward": "the network lacks forward-mode AD"}
            why = reasons.get(engine, "the network is too steep for finite differences")
        self._noted = engine
        _log.info(f"Jacobian-vector products by {engine}: {why}")
