"""One call, from a caller's arguments to a result of the caller's shape and container.

`rows` is the way of every function, and `weighted` that of sums whose terms have weights or whose
sign is wanted. Small plain calls go by `_small`, which does once what others do each time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from fastsoftmax import arguments, checks, containers, extended, layout
from fastsoftmax.arithmetic.formulas import LOGSUMEXP, Formula
from fastsoftmax.cpu import calls, plan

Array = np.ndarray[Any, Any]

# What functions call their logits, where that is not x.
_LOGITS = {"logsumexp": "a"}
# Those whose axis is None where none is given, as SciPy's; of all others it is the last.
_OVER_ALL = "softmax", "log_softmax", "logsumexp", "logsumexp_vjp"


class Function(Protocol):
    """What a call has to know of a function of rows; a `Formula` is one."""

    @property
    def name(self) -> str:
        """Its public name."""

    @property
    def mapped(self) -> bool:
        """Whether there is a result for each element, else one a row."""

    @property
    def absent(self) -> float:
        """The result for an element that is masked; else that of a row without any."""

    @property
    def real(self) -> bool:
        """Whether it has no meaning for complex numbers."""


def rows(
    formula: Formula, x: Any, axis: Any, *, dim: Any = None, where: Any = None,
    temperature: Any = 1.0, dtype: Any = None, out: Any = None, keepdims: bool = False,
    target: Any = None, stream: Any = None,
) -> Any:  # fmt: skip
    """A formula of the rows of ``x`` along ``axis`` or ``dim``, as the caller wants it."""
    # Nothing but logits, an axis, a number as temperature, and an out.
    simple = (
        where is None
        and dtype is None
        and stream is None
        and type(temperature) is float
        and (axis is None or type(axis) is int)
    )
    if (
        simple
        and type(x) is np.ndarray
        and dim is None
        and target is None
        and temperature == 1.0
        and x.flags.c_contiguous
    ):
        small = _small(formula, x.dtype, x.shape, axis, keepdims)
        if small is not None:
            result = small(x, out)
            if result is not None:
                return result
    name = _LOGITS.get(formula.name, "x")
    library, axis = on_gpu(formula, name, x, axis, dim, target, stream)
    if library is not None:
        # Where there is no GPU, nobody waits for the import of these.
        from fastsoftmax import device, plain

        if simple and temperature >= 0:
            done = plain.compute(formula, name, library, x, axis, temperature, out, keepdims)
            if done is not None:
                return done
        there = device.DeviceCall(formula, name, library, x, axis, dtype, stream)
        there.leave_out(where)
        there.divide_by(temperature)
        there.write_to(out, keepdims)
        return there.run()
    return _each(
        Call.plain, formula, name, x, axis, dim, out, keepdims, where=where,
        temperature=temperature, dtype=dtype, target=target,
    )  # fmt: skip


def on_host(
    kind: type[Call], function: Function, name: str, x: Any, axis: Any, *, dim: Any = None,
    out: Any = None, keepdims: bool = False, act: Any = None, **beside: Any,
) -> Any:  # fmt: skip
    """What a kind of call that is computed on the CPU alone makes of ``x``: ``act(call)``."""
    if arguments.library_of(x) is not None:
        raise ValueError(f"{function.name} is computed on the CPU: copy {name} to the host first")
    if dim is not None:
        _refuse_both(function, axis, dim)
    act = act or kind.plain
    return _each(act, function, name, x, axis, dim, out, keepdims, kind=kind, **beside)


def on_gpu(
    function: Function, name: str, x: Any, axis: Any, dim: Any, target: Any, stream: Any
) -> tuple[Any, Any]:
    """The library of logits on a GPU and their axis there; None and ``axis`` of others."""
    library = _library(name, x, target, stream)
    if dim is not None:
        _refuse_both(function, axis, dim)
        if library is not None:
            axis = containers.container_of(x).axis(name, x, axis, dim)
    return library, axis


def _refuse_both(function: Function, axis: Any, dim: Any) -> None:
    """Refuse an ``axis`` that is not the default beside ``dim``."""
    default = function.name not in _OVER_ALL and type(axis) is int and axis == -1
    if axis is not None and not default:
        raise ValueError(f"give axis or dim, not both: got axis={axis!r} and dim={dim!r}")


def _each(
    act: Callable[[Any], Any], function: Function, name: str, x: Any, axis: Any, dim: Any, out: Any,
    keepdims: bool, kind: type[Call] | None = None, **beside: Any,
) -> Any:  # fmt: skip
    """What is made of a call; for each part of ``x`` where it has some, all checked first."""
    kind = kind or Call
    container = containers.container_of(x)
    parts = container.parts(name, x, axis, dim)
    if parts is None:
        return act(kind(function, name, x, axis, dim, out, keepdims, **beside))
    if out is not None:
        raise TypeError(f"out must not be given where {name} is several arrays: leave it out")
    given = {each: arguments.of_parts(each, beside[each], name, parts) for each in beside}
    of_parts = {
        part: kind(
            function, f"{name}[{part!r}]", array, axis, dim, None, keepdims,
            **{each: values[part] for each, values in given.items()},
        )
        for part, array in parts.items()
    }  # fmt: skip
    made = {part: act(call) for part, call in of_parts.items()}
    if not any(isinstance(each, tuple) for each in made.values()):
        return container.together(x, made)
    values, others = ({part: pair[place] for part, pair in made.items()} for place in range(2))
    return container.together(x, values), container.together(x, others)


def _library(name: str, x: Any, target: Any, stream: Any) -> Any:
    """The library of logits on a GPU; a target or a stream that does not fit them is refused."""
    if target is not None and (type(target) is not str or target not in ("cpu", "cuda")):
        raise ValueError(f"target must be None, 'cpu' or 'cuda', got {target!r}")
    library = arguments.library_of(x)
    if library is not None and target == "cpu":
        raise ValueError(f"{name} is on a GPU and target says 'cpu': copy it to the host first")
    if library is None and stream is not None:
        raise ValueError(f"stream is for arrays on a GPU, and {name} is on the host")
    return library


def weighted(
    a: Any, axis: Any, b: Any, keepdims: Any, return_sign: Any, *, dim: Any, out: Any,
    where: Any, dtype: Any, target: Any, stream: Any,
) -> Any:  # fmt: skip
    """logsumexp with weights, if any: with the sign, or NaN where the sum is negative."""
    given = None
    if _library("a", a, target, stream) is not None:
        given = "pass an array on the host"
    elif target == "cuda":
        given = "leave out target='cuda'"
    if given is not None:
        raise ValueError(f"b= and return_sign= are computed on the CPU: {given}")
    if dim is not None:
        _refuse_both(LOGSUMEXP, axis, dim)
    return _each(
        Call.signed if return_sign else Call.positive, LOGSUMEXP, "a", a, axis, dim, out, keepdims,
        b=b, where=where, dtype=dtype,
    )  # fmt: skip


class Call:
    """A caller's arguments, checked and as arrays; what is made of them, and the way back.

    Made, it has refused all that can be wrong: nothing is computed before.
    """

    # Whether kernels take rows alone, no columns.
    _rows_alone = False

    def __init__(
        self, formula: Any, name: str, x: Any, axis: Any, dim: Any, out: Any, keepdims: bool,
        *, where: Any, dtype: Any, temperature: Any = 1.0, b: Any = None, target: Any = None,
    ) -> None:  # fmt: skip
        given = arguments.unwrap(name, x)
        axis = given.container.axis(name, x, axis, dim)
        computed = checks.floating(name, given.values)
        dtype = arguments.element_type(dtype)
        self._formula, self._source, self._weight, self._dtype = formula, given, None, dtype
        if b is not None:
            self._weight = arguments.operand("b", b, given)
            if formula.real:
                checks.check_real(formula.name, "b", self._weight.dtype, np.dtype(np.float64))
            computed = checks.weighted_type(computed, given.values, b, self._weight)
            self._source = arguments.broadcast_source(given, self._weight)
        self._result = checks.result_type(formula.name, computed, dtype)
        self._computed = checks.wider(computed, self._result)
        self._there = target == "cuda"
        if self._there and not checks.has_kernel(self._computed):
            raise TypeError(f"a GPU computes no {self._computed}: use target='cpu'")
        if formula.real:
            checks.check_real(formula.name, name, given.values.dtype, self._result)
        self._shape: checks.Shape = self._source.values.shape
        self._axes = checks.normalized_axes(len(self._shape), axis)
        # Its labels are matched with those that the logits had before b broadcast them.
        mask = arguments.mask(where, given)
        self._mask = checks.present(mask, self._source.present, self._shape)
        self._temperature: Array | None = None
        if type(temperature) is not float or temperature != 1.0:
            array = arguments.operand("temperature", temperature, given, self._axes)
            self._temperature = checks.temperatures(array, self._shape, self._axes)
        self._values = self._source.values.astype(self._computed, copy=False)
        self._write_to(out, keepdims)

    def _write_to(self, out: Any, keepdims: bool) -> None:
        """Take the array for the result, None for a new one, and whether reduced axes are kept."""
        self._out, self._place, self._keepdims = out, None, keepdims
        self._final = self._result_shape(keepdims)
        if out is None:
            self._source.container.check_result(self._result)
            return
        self._place = arguments.place(out, self._source)
        checks.check_out(self._place, self._final, self._result, self._dtype)

    def _result_shape(self, keepdims: bool) -> checks.Shape:
        if self._formula.mapped:
            return self._shape
        return checks.reduced_shape(self._shape, self._axes, keepdims)

    def plain(self) -> Any:
        """The formula's results, for the caller."""
        return self._delivered(self._computed_rows())

    def signed(self) -> tuple[Any, Any]:
        """The logarithm of a weighted sum's size, and its sign, for the caller."""
        value, sign = self._weighted()
        return self._delivered(value.real), self._delivered(sign, beside=True)

    def positive(self) -> Any:
        """The logarithm of a weighted sum, NaN where it is negative, for the caller."""
        value, sign = self._weighted()
        if value.dtype.kind != "c":
            value = np.where(sign < 0, value.dtype.type(np.nan), value)
        return self._delivered(value)

    def _computed_rows(self) -> Array:
        """The formula's results; where it has one a row, the reduced axes are kept at length 1."""
        values, temperature = self._values, self._temperature
        if values.size == 0:
            return np.full(self._final, self._formula.absent, self._computed)
        if temperature is not None and not self._there:
            values, temperature = checks.at_limits(values, temperature, self._mask, self._axes)
        if not checks.has_kernel(self._computed):
            return self._without_kernel(values, temperature)
        rows = layout.rows_of(values, self._axes, self._rows_alone)
        seen = rows.view(values)
        numbers = None if temperature is None else rows.view_rows(temperature)
        counted = None if self._mask is None else rows.view(self._mask)
        place = self._kernel_place(rows, seen, numbers, counted)
        if self._there:
            self._compute_there(seen, place, numbers, counted)
        else:
            self._compute(layout.stored(seen), layout.stored(place), numbers, counted)
        return self._back(rows, place)

    def _without_kernel(self, values: Array, temperature: Array | None) -> Array:
        """The results for types that kernels do not compute in, as `_computed_rows` gives them."""
        return extended.computed(self._formula, values, self._axes, temperature, self._mask)

    def _kernel_place(self, rows: layout.Rows, x: Array, *others: Array | None) -> Array:
        """Where a kernel is to write its results for ``x``."""
        mapped = self._formula.mapped
        return rows.place(self._place if mapped else None, mapped, x, *others)

    def _back(self, rows: layout.Rows, made: Array) -> Array:
        """A kernel's results, as `_computed_rows` gives them."""
        return rows.back(made, self._formula.mapped)

    def _compute(self, x: Array, out: Array, temperature: Array | None, mask: Array | None) -> None:
        """Have kernels compute rows or columns into ``out``, arrays as these know them."""
        plan.compute(self._formula, x, out, temperature, mask)

    def _compute_there(
        self, x: Array, out: Array, temperature: Array | None, mask: Array | None
    ) -> None:
        """Have a GPU compute them."""
        from fastsoftmax.cuda import staged

        staged.compute(self._formula, x, out, temperature, mask)

    def _weighted(self) -> tuple[Array, Array]:
        """log|sum(weight * exp(x))| and the sum's sign, with the reduced axes at length 1."""
        values, weight = self._values, self._weight
        has_kernel = checks.has_kernel(self._computed)
        if values.size == 0 or (has_kernel and weight is None):
            value = self._computed_rows()
            # exp is positive: the sum is 0 or NaN where its logarithm is -inf or NaN
            sign = np.where(value == -np.inf, 0.0, np.where(np.isnan(value), np.nan, 1.0))
            return value, sign.astype(value.dtype)
        if weight is None or not has_kernel:
            return extended.weighted(values, self._axes, self._mask, weight)
        # cast before it is spread: a weight for each class is no array as large as the logits
        weight = np.broadcast_to(checks.cast(weight, np.dtype(np.float64)), self._shape)
        if self._mask is not None:
            weight = np.where(self._mask, weight, 0.0)
        rows = layout.rows_of(values, self._axes, last=True)
        value, sign = rows.empty(values.dtype, False), rows.empty(weight.dtype, False)
        seen = layout.stored(rows.view(values))
        calls.weighted(seen, layout.stored(value), sign, rows.view(weight))
        return rows.back(value, False), rows.back(sign, False)

    def _delivered(self, value: Array, beside: bool = False) -> Any:
        """What was computed, in ``out`` unless it is ``beside``, or as what the input was."""
        result = self._result
        if result.kind == "c" and value.dtype.kind != "c":  # a logarithm beside its sign
            result = np.empty(0, result).real.dtype
        value = checks.cast(value.reshape(self._final), result)
        if self._place is not None and not beside:
            if not layout.same_memory(self._place, value):
                np.copyto(self._place, checks.cast(value, self._place.dtype))
            containers.container_of(self._out).written(self._out)
            return self._out
        source = self._source
        if self._formula.mapped:
            return source.container.rewrapped(source.original, value[()])
        return source.container.rewrapped_reduced(
            source.original, value[()], self._axes, self._keepdims, self._mask
        )


@functools.lru_cache(maxsize=1024)
def _small(
    formula: Formula, dtype: checks.Type, shape: checks.Shape, axis: int | None, keepdims: bool
) -> Callable[[Array, Any], Any] | None:
    """What computes plain calls on small arrays in C order; None for others.

    As a `Call`, with all that depends on type, shape and axis done once: 1.2 us for (1, 10)
    where that takes 7. It returns None where ``out`` is not one that a kernel can write to.
    """
    size = math.prod(shape) if shape else 0
    if not (0 < size < plan.PARALLEL_FROM and dtype.isnative and checks.has_kernel(dtype)):
        return None
    axes = checks.normalized_axes(len(shape), axis)
    rows = layout.rows_of(np.empty(shape, dtype), axes)
    seen, place = (layout.stored(rows.empty(dtype, mapped)) for mapped in (True, formula.mapped))
    run = plan.small(formula, seen, place)
    final = shape if formula.mapped else checks.reduced_shape(shape, axes, keepdims)
    mapped, bits = formula.mapped, None if seen.dtype == dtype else seen.dtype
    seen_as = None if seen.shape == shape else seen.shape
    place_as = None if place.shape == final else place.shape

    def compute(x: Array, out: Any) -> Any:
        if out is None:
            result = np.empty(final, dtype)
        elif (
            type(out) is np.ndarray
            and out.dtype == dtype
            and out.shape == final
            and out.flags.carray
            and ((mapped and out is x) or not np.may_share_memory(out, x))
        ):
            result = out
        else:
            return None
        place = result
        if bits is not None:
            x, place = x.view(bits), place.view(bits)
        if seen_as is not None:
            x = x.reshape(seen_as)
        if place_as is not None:
            place = place.reshape(place_as)
        run(x, place)
        return result if final or out is not None else result[()]

    return compute
