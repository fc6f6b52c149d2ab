"""top_k, cross_entropy and sample inside functions that Numba compiles; see nopython.py.

>>> import numba, numpy, fastsoftmax
>>> @numba.njit
... def best(x):
...     return fastsoftmax.top_k(x, 1)
>>> best(numpy.array([[1.0, 2.0], [20.0, 10.0]]))
(array([[0.73105858],
       [0.9999546 ]]), array([[1],
       [0]]))

``top_k`` gives up to 16 classes. ``cross_entropy`` takes class indices, in the shape of the logits
without the axis, or one for one row; its ``reduction`` is a constant. A wrong ``k`` or target is a
ValueError before anything is computed; the message has no value in it, as compiled code does not
write any.

``sample`` draws by a NumPy Generator that is handed over, and takes from it the numbers that a call
from Python takes; no seed, as the draws of each call with it would be the same. Nothing keeps two
threads from taking the same numbers of one Generator: in a loop of `prange` each thread, or each
row, is to have its own.
"""

from __future__ import annotations

from typing import Any

from numba import TypingError, types
from numba.extending import overload

from fastsoftmax import checks, losses, sampling, scoring
from fastsoftmax.nopython import (
    OVERLOAD,
    Implementation,
    axes_of,
    constant,
    is_tempered,
    logits_of,
    of_any,
    refuse,
)


def _one_axis(name: str, ndim: int, axis: Any) -> int:
    try:
        return checks.one_axis(name, axes_of(name, ndim, axis))
    except ValueError as error:
        raise TypingError(f"{name}: {error}") from None


@overload(scoring.top_k, **OVERLOAD)
def _top_k(
    logits: Any, k: Any, axis: Any = -1, where: Any = None, temperature: Any = 1.0,
    dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
) -> Implementation:  # fmt: skip
    from fastsoftmax.cpu import inside_scoring

    refuse("top_k", where=where, dtype=dtype, dim=dim, target=target, stream=stream)
    array = logits_of("top_k", "logits", logits)
    if not isinstance(k, types.Integer):
        raise TypingError(f"top_k: k must be an integer, got {k}")
    tempered = is_tempered("top_k", temperature)
    axis_of_classes = _one_axis("top_k", array.ndim, axis)
    compute = of_any(logits, inside_scoring.top_k(array, axis_of_classes, tempered))

    def implementation(
        logits: Any, k: Any, axis: Any = -1, where: Any = None, temperature: Any = 1.0,
        dtype: Any = None, dim: Any = None, target: Any = None, stream: Any = None,
    ) -> Any:  # fmt: skip
        return compute(logits, k, temperature)

    return implementation


@overload(losses.cross_entropy, **OVERLOAD)
def _cross_entropy(
    logits: Any, target: Any, axis: Any = -1, weight: Any = None, ignore_index: Any = -100,
    label_smoothing: Any = 0.0, reduction: Any = "mean", where: Any = None, temperature: Any = 1.0,
    dtype: Any = None, dim: Any = None,
) -> Implementation:  # fmt: skip
    from fastsoftmax.cpu import inside_scoring

    name = "cross_entropy"
    refuse(name, weight=weight, label_smoothing=label_smoothing, where=where, dtype=dtype, dim=dim)
    array = logits_of(name, "logits", logits)
    _check_target(array, target)
    if isinstance(ignore_index, types.Type) and not isinstance(ignore_index, types.Integer):
        raise TypingError(f"{name}: ignore_index must be an integer, got {ignore_index}")
    wanted = constant(name, "reduction", reduction)
    if wanted not in ("mean", "sum", "none"):
        raise TypingError(f"{name}: reduction must be 'mean', 'sum' or 'none', got {wanted!r}")
    tempered = is_tempered(name, temperature)
    axis_of_classes = _one_axis(name, array.ndim, axis)
    compute = of_any(logits, inside_scoring.cross_entropy(array, axis_of_classes, wanted, tempered))

    def implementation(
        logits: Any, target: Any, axis: Any = -1, weight: Any = None, ignore_index: Any = -100,
        label_smoothing: Any = 0.0, reduction: Any = "mean", where: Any = None,
        temperature: Any = 1.0, dtype: Any = None, dim: Any = None,
    ) -> Any:  # fmt: skip
        return compute(logits, target, ignore_index, temperature)

    return implementation


def _check_target(logits: types.Array, target: Any) -> None:
    """Refuse what are not class indices, one a row."""
    element = target.dtype if isinstance(target, types.Array) else target
    # Its larger numbers would be negative ones.
    fits = isinstance(element, types.Integer) and element != types.uint64
    if not fits:
        raise TypingError(
            f"cross_entropy: target must be class indices, of int64 or smaller, got {target}"
        )
    ndim = target.ndim if isinstance(target, types.Array) else 0
    if ndim != logits.ndim - 1:
        shape = "one integer" if logits.ndim == 1 else f"an array of {logits.ndim - 1} dimensions"
        raise TypingError(f"cross_entropy: target must be {shape}, one index a row, got {target}")


@overload(sampling.sample, **OVERLOAD)
def _sample(
    logits: Any, size: Any = None, axis: Any = -1, rng: Any = None, temperature: Any = 1.0,
    where: Any = None, top_k: Any = None, top_p: Any = None, dim: Any = None,
) -> Implementation:  # fmt: skip
    from fastsoftmax.cpu import inside_scoring

    refuse("sample", where=where, top_k=top_k, top_p=top_p, dim=dim)
    array = logits_of("sample", "logits", logits)
    if not isinstance(rng, types.NumPyRandomGeneratorType):
        raise TypingError(
            f"sample: rng must be a numpy.random.Generator in compiled code, got {rng}: "
            "pass numpy.random.default_rng(seed)"
        )
    one = size is None or isinstance(size, types.NoneType) or size == types.Omitted(None)
    if not one and not isinstance(size, types.Integer):
        raise TypingError(f"sample: size must be an integer or None in compiled code, got {size}")
    tempered = is_tempered("sample", temperature)
    axes = axes_of("sample", array.ndim, axis)
    compute = of_any(logits, inside_scoring.sample(array, axes, not one, tempered))

    def implementation(
        logits: Any, size: Any = None, axis: Any = -1, rng: Any = None, temperature: Any = 1.0,
        where: Any = None, top_k: Any = None, top_p: Any = None, dim: Any = None,
    ) -> Any:  # fmt: skip
        return compute(logits, size, rng, temperature)

    return implementation
