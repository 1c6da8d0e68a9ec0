"""The steps that an optimizer has traced."""

from tf_keras_optim.engine.step.recent import Recent

_STEPS = 32  # sets of variables whose steps are kept, and as many older ones; each is traced


class Traces:
    """Steps by what they are for, and what is known about traces that others keep.

    Attributes:
      steps: steps by their variables and by where they run.
      lookups: steps by the identity of what was given, with what keeps that alive.
      in_graph: whether a step was traced into somebody's function, which keeps it.
      count: how often a step was traced.
    """

    def __init__(self) -> None:
        self.steps = Recent(_STEPS)
        self.lookups = Recent(_STEPS)
        self.in_graph = False
        self.count = 0

    def forget_lookups(self) -> None:
        """Has the next call prepare for what it is given, and find its step again."""
        self.lookups.clear()

    def forget(self) -> None:
        """Drops the steps that were traced; the next call traces anew."""
        self.steps.clear()
        self.lookups.clear()
