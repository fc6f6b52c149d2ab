"""Softmaxes with one fault each, for the verification to find, and a correct one to let pass.

They compute in long double (64 bits) and round once, so that the planted fault is the only one.
"""

import inspect

import numpy as np

from verification.names import CONVENTIONS, OPTIONS
from verification.subjects import Subject, by_convention

WIDE = np.longdouble


def _prepared(x, axis, where, temperature):
    """The logits over temperature as long double, -inf where they are left out."""
    wide = np.asarray(x).astype(WIDE) / np.asarray(temperature, WIDE)
    if where is not None:
        wide = np.where(where, wide, -np.inf)
    if axis is None:
        wide, axis = np.atleast_1d(wide), tuple(range(max(1, wide.ndim)))
    return wide, axis


def _type(x):
    dtype = np.asarray(x).dtype
    return dtype.newbyteorder("=") if dtype.kind == "f" or dtype.name == "bfloat16" else np.float64


def _returned(result, x, out, where, absent):
    with np.errstate(all="ignore"):
        result = np.asarray(result.astype(_type(x)))
    if where is not None:
        result = np.where(where, result, np.asarray(absent, result.dtype))
    if out is None:
        return result.reshape(np.shape(x))[()] if result.ndim > np.ndim(x) else result[()]
    out[...] = result
    return out


def _rest(wide, axis):
    """The maximum, and the sum of the exponentials of all but one largest logit."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    last = np.moveaxis(wide, axes, range(wide.ndim - len(axes), wide.ndim))
    kept = last.shape[: wide.ndim - len(axes)]
    rows = last.reshape(*kept, int(np.prod(last.shape[len(kept) :])))
    top = rows.max(axis=-1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0)
    terms = np.exp(rows - shift)
    if rows.shape[-1]:
        first = rows.argmax(axis=-1)[..., None]
        largest = np.take_along_axis(terms, first, axis=-1)
        np.put_along_axis(terms, first, 0, axis=-1)
    else:
        largest = np.zeros((*rows.shape[:-1], 1), WIDE)
    rest = terms.sum(axis=-1, keepdims=True)
    keep = [1 if i in {a % wide.ndim for a in axes} else n for i, n in enumerate(wide.shape)]
    return tuple(part.reshape(keep) for part in (top, shift, largest, rest))


def correct_softmax(x, axis=None, *, out=None, where=None, temperature=1.0):
    wide, axis = _prepared(x, axis, where, temperature)
    with np.errstate(all="ignore"):
        top, _, largest, rest = _rest(wide, axis)
        result = np.exp(wide - top) / (largest + rest)
    return _returned(result, x, out, where, 0)


def correct_log_softmax(x, axis=None, *, out=None, where=None, temperature=1.0):
    wide, axis = _prepared(x, axis, where, temperature)
    with np.errstate(all="ignore"):
        top, shift, largest, rest = _rest(wide, axis)
        ordinary = (wide - top) - np.log1p(rest)
        special = wide - np.log(largest + rest) - shift  # infinities and NaN
        result = np.where(np.isfinite(top), ordinary, special)
    return _returned(result, x, out, where, -np.inf)


def correct_logsumexp(x, axis=None, *, out=None, where=None):
    wide, axis = _prepared(x, axis, where, 1)
    with np.errstate(all="ignore"):
        top, shift, largest, rest = _rest(wide, axis)
        result = np.where(np.isfinite(top), top + np.log1p(rest), np.log(largest + rest) + shift)
    return _returned(_squeezed(result, axis), x, out, None, 0)


def _squeezed(result, axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    return np.squeeze(result, axis=tuple(a % result.ndim for a in axes))


def correct_entropy(x, axis=None, *, out=None, where=None, temperature=1.0):
    wide, axis = _prepared(x, axis, where, temperature)
    with np.errstate(all="ignore"):
        top, _, largest, rest = _rest(wide, axis)
        distance = top - wide
        terms = np.exp(-distance)
        weighted = np.where(terms > 0, terms * distance, 0).sum(axis=axis, keepdims=True)
        result = np.log1p(rest) + weighted / (largest + rest)
        result = np.where(np.isfinite(top), result, np.nan)
    return _returned(_squeezed(result, axis), x, out, None, 0)


_FUNCTIONS = {
    "softmax": correct_softmax,
    "log_softmax": correct_log_softmax,
    "logsumexp": correct_logsumexp,
    "entropy": correct_entropy,
}
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def _gradient(name, x, weights):
    p = correct_softmax(x, -1).astype(WIDE)
    w = weights.astype(WIDE)
    if name == "softmax":
        result = p * (w - (w * p).sum(axis=-1, keepdims=True))
    elif name == "log_softmax":
        result = w - p * w.sum(axis=-1, keepdims=True)
    else:
        result = p * w[..., None]
    return result.astype(x.dtype)


def _described(functions=_FUNCTIONS, gradient=_gradient):
    return Subject(
        name="",
        version="",
        functions={
            name: by_convention(call, CONVENTIONS[0], name) for name, call in functions.items()
        },
        options={
            name: frozenset(inspect.signature(call).parameters) & set(OPTIONS)
            for name, call in functions.items()
        },
        dtypes=_DTYPES,
        gradient=gradient,
        originals=functions,
    )


correct = _described()
wrong_gradient = _described(gradient=lambda name, x, weights: -_gradient(name, x, weights))


# --- one fault each --------------------------------------------------------------------------


def _rounded(x, result):
    with np.errstate(all="ignore"):
        return np.asarray(result.astype(_type(x)))


def _wide(x):
    return np.asarray(x).astype(WIDE)


def _shifted(x, axis):
    wide = _wide(x)
    with np.errstate(all="ignore"):
        return np.exp(wide - wide.max(axis=axis, keepdims=True, initial=-np.inf))


def no_shift(x, axis=-1):
    # in the type of x: long double would hide it
    e = np.exp(np.asarray(x))
    return _rounded(x, e / e.sum(axis=axis, keepdims=True))


def shift_of_the_whole_array(x, axis=-1):
    e = np.exp((x - np.max(x, initial=-np.inf)).astype(_type(x)))
    return _rounded(x, e / e.sum(axis=axis, keepdims=True))


def maximum_that_ignores_nan(x, axis=-1):
    wide = _wide(x)
    with np.errstate(all="ignore"):
        e = np.exp(wide - np.fmax.reduce(wide, axis=axis, keepdims=True, initial=-np.inf))
        return _rounded(x, np.nan_to_num(e) / np.nansum(e, axis=axis, keepdims=True))


def maximum_that_spreads_nan(x, axis=-1):
    result = correct_softmax(x, axis)
    return np.full_like(result, np.nan) if np.isnan(_wide(x)).any() else result


def float32_running_sum(x, axis=-1):
    e = _shifted(x, axis)
    total = np.cumsum(e.astype(np.float32), axis=axis, dtype=np.float32)
    return _rounded(x, e / np.take(total, [-1], axis=axis))


def reciprocal_of_a_rounded_total(x, axis=-1):
    e = _shifted(x, axis)
    total = e.sum(axis=axis, keepdims=True).astype(_type(x))
    return np.asarray(e.astype(_type(x)) * (_type(x).type(1) / total))


def wrong_axis(x, axis=-1):
    return correct_softmax(x, axis if np.ndim(x) < 2 else -1 - axis % 2)


def last_partial_vector_dropped(x, axis=-1):
    e = np.moveaxis(_shifted(x, axis), axis, -1)
    whole = e.shape[-1] // 8 * 8 or e.shape[-1]
    total = np.moveaxis(e[..., :whole].sum(axis=-1, keepdims=True), -1, axis)
    return _rounded(x, np.moveaxis(e, -1, axis) / total)


def first_element_counted_twice(x, axis=-1):
    e = _shifted(x, axis)
    total = e.sum(axis=axis, keepdims=True)
    if e.shape[axis] > 100:
        total = total + np.take(e, [0], axis=axis)
    return _rounded(x, e / total)


def log_of_softmax(x, axis=-1):
    with np.errstate(all="ignore"):
        return np.asarray(np.log(correct_softmax(x, axis)))


def rows_of_minus_infinity_are_zeros(x, axis=-1):
    result = correct_softmax(x, axis)
    none = (_wide(x) == -np.inf).all(axis=axis, keepdims=True)
    return np.where(none, np.zeros((), result.dtype), result)


def input_overwritten(x, axis=-1):
    result = correct_softmax(x, axis)
    if x.flags.writeable:
        x *= 0.5
    return result


def mask_ignored(x, axis=-1, *, where=None):
    return correct_softmax(x, axis)


def temperature_multiplied(x, axis=-1, *, temperature=1.0):
    return correct_softmax(x, axis, temperature=1 / np.asarray(temperature))


def flushed_to_zero(x, axis=-1):
    result = correct_softmax(x, axis)
    smallest = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(result.dtype.name, 2.0**-126)
    return np.where(np.abs(_wide(result)) < smallest, np.zeros((), result.dtype), result)


def threads_that_disagree(x, axis=-1):
    import numba

    parts = np.array_split(_shifted(x, axis).astype(np.float32), numba.get_num_threads(), axis=axis)
    total = parts[0].sum(axis=axis, keepdims=True)
    for part in parts[1:]:
        total = total + part.sum(axis=axis, keepdims=True)
    return np.asarray((_shifted(x, axis) / total).astype(_type(x)))


def bits_that_depend_on_the_batch(x, axis=-1):
    result = correct_softmax(x, axis)
    if x.ndim == 2 and len(x) > 64 and axis in (1, -1):
        result = np.nextafter(result, np.asarray(1, result.dtype))
    return result


def out_ignored(x, axis=-1, *, out=None):
    return correct_softmax(x, axis)


def out_that_writes_beside_itself(x, axis=-1, *, out=None):
    result = correct_softmax(x, axis, out=out)
    if out is not None and out.base is not None:
        out.base[-1] = 0
    return result


def everything_in_float64(x, axis=-1):
    return correct_softmax(np.asarray(x).astype(np.float64), axis)


def float32_in_float64(x, axis=-1):
    return correct_softmax(np.asarray(x).astype(np.float64), axis).astype(np.float32).astype(float)


def integers_for_results(x, axis=-1):
    return np.rint(correct_softmax(x, axis)).astype(np.int64)


def bytes_as_they_came(x, axis=-1):
    dtype = x.dtype if np.asarray(x).dtype.kind == "f" else np.float64
    return correct_softmax(x, axis).astype(dtype)


def one_axis(x, axis=-1):
    if not isinstance(axis, int):
        raise TypeError("axis must be an integer")
    return correct_softmax(x, axis)


def no_several(x, axis=-1):
    if isinstance(axis, tuple):
        raise TypeError("axis must be an integer or None")
    return correct_softmax(x, axis)


def no_none(x, axis=-1):
    if axis is None:
        raise TypeError("axis must be given")
    return correct_softmax(x, axis)


def integers_subtracted_as_they_are(x, axis=-1):
    if np.asarray(x).dtype.kind in "iu":
        return correct_softmax((x - x.max(axis=axis, keepdims=True)).astype(np.float64), axis)
    return correct_softmax(x, axis)


def strides_ignored(x, axis=-1):
    if x.ndim == 2 and not x.flags.c_contiguous and x.flags.f_contiguous:
        return correct_softmax(x.ravel(order="K").reshape(x.shape), axis)
    return correct_softmax(x, axis)


def log_of_a_sum_near_one(x, axis=-1):
    wide = _wide(x)
    with np.errstate(all="ignore"):
        top = wide.max(axis=axis, keepdims=True)
        total = np.exp(wide - top).astype(_type(x)).sum(axis=axis, dtype=_type(x))
        return _rounded(x, np.squeeze(top, axis) + np.log(total))


def entropy_of_rounded_probabilities(x, axis=-1):
    p = _wide(correct_softmax(x, axis))
    return _rounded(x, -np.sum(p * np.log(np.where(p == 0, 1, p)), axis=axis))


def entropy_where_0_log_0_is_nan(x, axis=-1):
    with np.errstate(all="ignore"):
        p = _wide(correct_softmax(x, axis))
        return _rounded(x, -np.sum(p * np.log(p), axis=axis))


def entropy_as_a_difference(x, axis=-1):
    wide = _wide(x)
    with np.errstate(all="ignore"):
        mean = np.sum(correct_softmax(wide, axis) * wide, axis=axis).astype(_type(x))
        return np.asarray(correct_logsumexp(x, axis) - mean)


def entropy_in_bits(x, axis=-1):
    return _rounded(x, correct_entropy(_wide(x), axis) / np.log(WIDE(2)))


def entropy_at_temperature_1(x, axis=-1, *, temperature=1.0):
    return correct_entropy(x, axis)


def entropy_below_0(x, axis=-1):
    wide = correct_entropy(_wide(x), axis)
    return _rounded(x, np.where(wide < 1e-9, -wide, wide))


def entropy_above_log_n(x, axis=-1):
    return _rounded(x, correct_entropy(_wide(x), axis) * (1 + WIDE(2) ** -20))


def sums_to_less_than_one(x, axis=-1):
    return np.asarray(correct_softmax(x, axis) * _type(x).type(0.999))


def raises_for_columns(x, axis=-1):
    if axis % x.ndim != x.ndim - 1:
        raise NotImplementedError("only the last axis")
    return correct_softmax(x, axis)


def wrong_shape(x, axis=-1):
    return correct_softmax(x, axis)[..., :1]


def hangs(x, axis=-1):
    import time

    if x.shape[-1] == 7:
        time.sleep(1000)
    return correct_softmax(x, axis)


def aborts(x, axis=-1):
    import os

    print("what a subject prints goes nowhere")
    if x.shape[-1] == 7:
        os.abort()
    return correct_softmax(x, axis)
