"""Which gradients carry the loss scale, as far as that can be told."""

import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf


class Origins:
    """Remembers which gradients went through `get_unscaled_gradients`.

    What it was given carries the scale, what it returned does not, wherever they are
    applied. In a graph that also holds for what was computed from them. For other tensors
    (clipped ones, in eager code) the last call in the same thread or graph counts: scaling
    a loss, or unscaling. Nothing is kept alive.
    """

    def __init__(self) -> None:
        self._eager: dict[int, tuple[weakref.ref, bool]] = {}
        self._graphs: weakref.WeakKeyDictionary[Any, dict[str, bool]] = (
            weakref.WeakKeyDictionary()
        )
        # Whether the last call was a scaling: in a graph, in a thread's eager code.
        self._last: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._own = threading.local()
        self._threads: dict[int, bool] = {}

    def loss_was_scaled(self) -> None:
        """Takes note that gradients computed from here on carry the scale."""
        self._happened(scaling=True)

    def were_unscaled(self, scaled: Iterable[Any], unscaled: Iterable[Any]) -> None:
        """Takes note of the gradients before and after they were divided by the scale."""
        self._happened(scaling=False)
        for gradients, carries in ((unscaled, False), (scaled, True)):
            for tensor in _tensors(gradients):
                if self._known(tensor) is None:
                    self._remember(tensor, carries)

    def carry_the_scale(self, gradients: Iterable[Any], title: str) -> bool:
        """Says whether gradients carry the scale.

        Args:
          gradients: tensors, slices, or `None`.
          title: how a message names the optimizer.

        Raises:
          ValueError: some do and others do not, or it cannot be told.
        """
        tensors = list(_tensors(gradients))
        known = {self._known(tensor) for tensor in tensors} - {None}
        if len(known) > 1:
            raise ValueError(
                f"{title}: some of the gradients went through `get_unscaled_gradients` and "
                "others did not. Unscale all of them, or none."
            )
        if known:
            return bool(known.pop())
        graphs = list(_graphs())
        last = next((self._last[graph] for graph in graphs if graph in self._last), None)
        if not graphs:
            last = getattr(self._own, "last", None)
        elif last is None or any(graph in self._graphs for graph in graphs):
            derived = self._derived(tensors)
            last = last if derived is None else derived
        if last is None and self._unscaled_elsewhere():
            raise ValueError(
                f"{title}: it cannot be told whether these gradients carry the loss scale. "
                "`get_unscaled_gradients` was called outside of this function or in another "
                "thread, and they are not what it returned. Pass `scaled=False` with "
                "gradients that were unscaled, `scaled=True` with those of a scaled loss."
            )
        return last is not False

    def _happened(self, scaling: bool) -> None:
        if tf.executing_eagerly():
            self._own.last = self._threads[threading.get_ident()] = scaling
        else:
            self._last[tf.compat.v1.get_default_graph()] = scaling

    def _unscaled_elsewhere(self) -> bool:
        return False in self._threads.values() or False in list(self._last.values())

    def _remember(self, tensor: Any, carries: bool) -> None:
        if not _is_eager(tensor):
            self._graphs.setdefault(tensor.graph, {})[tensor.name] = carries
            return
        key = id(tensor)
        forget = weakref.ref(tensor, lambda _: self._eager.pop(key, None))
        self._eager[key] = (forget, carries)

    def _known(self, tensor: Any) -> bool | None:
        if not _is_eager(tensor):
            return self._graphs.get(tensor.graph, {}).get(tensor.name)
        found = self._eager.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _derived(self, tensors: Iterable[Any]) -> bool | None:
        """Looks in the graph for what tensors were computed from; `None` if that is mixed."""
        waiting, seen, found = list(tensors), set(), set()
        while waiting:
            tensor = waiting.pop()
            known = self._known(tensor)
            if known is not None:
                found.add(known)
            elif not _is_eager(tensor) and (id(tensor.graph), tensor.name) not in seen:
                seen.add((id(tensor.graph), tensor.name))
                waiting += tensor.op.inputs
                if tensor.op.type == "Placeholder":
                    captures = getattr(tensor.graph, "captures", ())
                    waiting += [outer for outer, inner in captures if inner is tensor]
        return found.pop() if len(found) == 1 else None


def _graphs() -> Iterator[Any]:
    """Yields the graph that is built now and those around it; nothing in eager code."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def _is_eager(tensor: Any) -> bool:
    return not tf.is_symbolic_tensor(tensor)


def _tensors(gradients: Iterable[Any]) -> Iterator[Any]:
    """Yields the tensors among gradients: themselves, or the values of slices."""
    for gradient in gradients:
        if isinstance(gradient, tf.distribute.DistributedValues):
            yield from _tensors(gradient.values)
        elif isinstance(gradient, tf.IndexedSlices):
            yield from _tensors([gradient.values])
        elif isinstance(gradient, tf.Tensor):
            yield gradient
