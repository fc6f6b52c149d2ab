"""What is verified: any softmax, log_softmax, logsumexp or entropy that can be called from Python.

A subject's functions take ``(x, axis, **options)`` and return a NumPy array, whatever the library
behind them looks like. Options are ``out``, ``where`` and ``temperature``, those that it has. What
is made of a softmax (`names.SCORING`) takes its operands, then ``axis`` and options by name.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verification import implementations, scorers
from verification.errors import FORMATS, PROMISE, Bound
from verification.exact import Array
from verification.names import (
    FUNCTIONS,
    OPTIONS,
    REDUCED,
    SCORING,
    SCORING_OPTIONS,
    TARGETS,
    USUAL,
)

Axis = int | tuple[int, ...] | None
Function = Callable[..., Any]
Gradient = Callable[[str, Array, Array], Array]


class Missing(Exception):
    """A subject that is not there: the message says what is missing."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An implementation and how it is called."""

    name: str
    version: str
    functions: Mapping[str, Function]
    options: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "float64")
    # Whether it is given the caller's array as it is: strides, byte order, integers and all.
    takes_arrays: bool = True
    convention: str = ""  # of a ``module:callable``, and of nothing else
    # The functions with their own signatures, where those are SciPy's or more.
    originals: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    gradient: Gradient | None = None
    bounds: Mapping[tuple[str, str], Bound] = field(default_factory=dict)
    target: str = "cpu"  # where it computes

    def bound(self, function: str, dtype: str) -> Bound:
        """What the subject is held to: its own documentation, or this project's promise."""
        return self.bounds.get((function, dtype), PROMISE)

    def again(self, function: str) -> tuple[str, str, str, str]:
        """The arguments with which `load` gives it in another process."""
        return self.name, self.convention, function, self.target

    def plain(self, function: str) -> Callable[..., Any]:
        """The function as SciPy's tests call it: lists and numbers, axis=None by default."""
        if function in self.originals:
            return self.originals[function]
        call = self.functions[function]
        return lambda x, axis=None, **options: call(np.asarray(x), axis, **options)


def load(name: str, convention: str = "", function: str = "", target: str = "cpu") -> Subject:
    """The subject of that name, or of ``module:callable``, that computes on the target.

    What ``module:attribute`` names may also be a `Subject`, which tells more than a callable.

    Raises
    ------
    Missing
        Where it, or what it needs, cannot be imported or is not there; so for a GPU.
    """
    if ":" in name:
        subject = _from_callable(name, convention, function or "softmax")
        _check_target(name, target, (subject.target,))
        return subject
    try:
        _check_target(name, target, tuple(_KNOWN[name].targets))
        return _KNOWN[name].targets[target]()
    except Missing:
        raise
    except Exception as error:  # a broken installation is a finding, not the end of the run
        raise Missing(f"{name} cannot be imported: {type(error).__name__}: {error}") from None


def _check_target(name: str, target: str, there: tuple[str, ...]) -> None:
    if target not in there:
        raise Missing(f"{name} has no target {target}; there is: {', '.join(there)}")


def is_known(name: str) -> bool:
    """Whether the name is a built-in subject's or reads ``module:callable``."""
    if name in _KNOWN:
        return True
    module, colon, attribute = name.partition(":")
    return bool(colon and module and attribute and not any(c.isspace() for c in name))


def known() -> dict[str, tuple[str, str]]:
    """Each built-in subject: what it is, and the modules that it lacks ('' if it is there)."""
    return {
        name: (
            entry.description,
            ", ".join(m for m in entry.needs if importlib.util.find_spec(m) is None),
        )
        for name, entry in _KNOWN.items()
    }


def targets(name: str) -> tuple[str, ...]:
    """Where a built-in subject can compute."""
    return tuple(_KNOWN[name].targets)


# --- adapters of the axis --------------------------------------------------------------------


def _rows_last(x: Array, axis: Axis) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """A view with the reduced axes flattened into the last, their numbers, and their shape."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % x.ndim for a in axes) if x.ndim else ()
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    kept = moved.shape[: x.ndim - len(axes)]
    if len(axes) == 1:
        return moved, axes, kept
    return moved.reshape(*kept, int(np.prod(moved.shape[len(kept) :]))), axes, kept


def _back(result: Array, x: Array, axes: tuple[int, ...], kept: tuple[int, ...]) -> Array:
    if result.size != x.size or result.ndim <= len(kept):
        return result
    moved_shape = (*kept, *(x.shape[a] for a in axes))
    return np.moveaxis(result.reshape(moved_shape), range(x.ndim - len(axes), x.ndim), axes)


def by_convention(call: Callable[..., Any], convention: str, function: str) -> Function:
    """``call`` as ``(x, axis, **options)``."""
    if convention in ("axis", "dim"):
        return lambda x, axis, **options: call(x, **{convention: axis}, **options)
    if convention == "whole":
        return lambda x, axis, **options: call(x, **options)

    def moved(x: Array, axis: Axis, **options: Any) -> Array:
        last, axes, kept = _rows_last(x, axis)
        if convention == "first":
            result = np.asarray(call(np.moveaxis(last, -1, 0), **options))
            if function not in REDUCED and result.ndim == last.ndim:
                result = np.moveaxis(result, 0, -1)
        elif convention == "rows":
            flat = last.reshape(-1, last.shape[-1])
            result = np.asarray(call(flat, **options))
            result = result.reshape(kept if function in REDUCED else last.shape)
        else:
            result = np.asarray(call(last, **options))
        return result if function in REDUCED else _back(result, x, axes, kept)

    return moved


def _from_callable(name: str, convention: str, function: str) -> Subject:
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:  # as for "python -m": people name modules of the folder they are in
        sys.path.insert(0, here)
    try:
        call: Any = importlib.import_module(module_name)
    except BaseException as error:  # whatever a stranger's module does on import
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Missing(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from None
    version = str(getattr(call, "__version__", ""))
    for part in attribute.split("."):
        call = getattr(call, part, None)
    if isinstance(call, Subject):  # described by its author: several functions, options, bounds
        return dataclasses.replace(call, name=name, convention="")
    if not callable(call):
        raise Missing(f"{module_name} has no function {attribute!r}")
    try:
        parameters = frozenset(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        parameters = frozenset({"axis"})
    if function == "exp":
        return Subject(name, version, {"exp": _elementwise(call)}, convention="whole")
    if function in SCORING:
        if convention not in ("", "axis"):
            raise Missing(f"{function} is told its axis by its keyword axis, not {convention!r}")
        has = {function: parameters & set(SCORING_OPTIONS)}
        return Subject(name, version, {function: call}, has, convention="axis")
    if not convention:
        convention = next((word for word in ("axis", "dim") if word in parameters), "last")
    return Subject(
        name=name,
        version=version,
        functions={function: by_convention(call, convention, function)},
        # A mask or a result cannot be handed on where the axes are moved.
        options={
            function: parameters
            & set(OPTIONS if convention in ("axis", "dim") else ("temperature",))
        },
        convention=convention,
        originals={function: call} if convention == "axis" else {},
    )


# --- the built-in subjects -------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    description: str
    targets: Mapping[str, Callable[[], Subject]]
    needs: tuple[str, ...] = ()


def _both(load: Callable[[str], Subject]) -> Mapping[str, Callable[[], Subject]]:
    """Where a subject is loaded for a target by name."""
    return {target: functools.partial(load, target) for target in TARGETS}


def _fastsoftmax(target: str) -> Subject:
    import fastsoftmax

    source = "the docstring of fastsoftmax.{}"
    bounds = {
        (function, dtype): Bound(ulp, source.format(function))
        for function, claimed in fastsoftmax.ERROR_BOUNDS.items()
        for dtype, ulp in claimed.items()
    }
    # Half an ULP of what is left, and of n terms n 2**-100 of what cancels: for 2**11 terms that is
    # half an ULP of float64 of this share.
    for function, dtype in itertools.product(("softmax_vjp", "softmax_jvp"), FORMATS):
        ulp = bounds.get((function, dtype), PROMISE).ulp
        bounds[function, dtype] = Bound(ulp, source.format(function), share=2.0**-36)
    functions = {name: getattr(fastsoftmax, name) for name in FUNCTIONS}
    scoring = {name: getattr(fastsoftmax, name) for name in SCORING if hasattr(fastsoftmax, name)}
    if target != "cpu":
        functions, scoring = (
            {
                name: _on_device(call, target)
                for name, call in calls.items()
                if "target" in inspect.signature(call).parameters
            }
            for calls in (functions, scoring)
        )
        try:
            functions["softmax"](np.zeros(2))
        except RuntimeError as error:
            raise Missing(str(error)) from None
    return Subject(
        name="fastsoftmax",
        version=fastsoftmax.__version__,
        functions={name: _keyword(function) for name, function in functions.items()} | scoring,
        options={
            name: frozenset(inspect.signature(function).parameters)
            & set(SCORING_OPTIONS if name in scoring else OPTIONS)
            for name, function in (functions | scoring).items()
        },
        dtypes=tuple(FORMATS),
        bounds=bounds,
        originals=functions,
        target=target,
    )


def _on_device(call: Function, target: str) -> Function:
    """A function of fastsoftmax on a target, and its signature there: weighted sums have none."""
    signature = inspect.signature(call)
    kept = [p for name, p in signature.parameters.items() if name not in ("b", "return_sign")]
    # What came after the first of these can only be named.
    named = [p.replace(kind=p.KEYWORD_ONLY) if p.name == "keepdims" else p for p in kept]

    def there(x: Any, *args: Any, **options: Any) -> Any:
        return call(x, *args, target=target, **options)

    there.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    return there


def _keyword(call: Callable[..., Any]) -> Function:
    return by_convention(call, "axis", "")


def _scipy() -> Subject:
    import scipy.special

    functions = {name: getattr(scipy.special, name) for name in USUAL}

    def entropy(x: Array, axis: Axis) -> Array:
        from scipy.stats import entropy  # imported in half a second, where it is needed

        p = scipy.special.softmax(x, axis=axis)
        return np.asarray(entropy(p, axis=axis)).astype(p.dtype)

    return Subject(
        name="scipy",
        version=scipy.__version__,
        functions={name: _keyword(function) for name, function in functions.items()}
        | {"entropy": entropy, "exp": _elementwise(np.exp)}
        | scorers.of_scipy(),
        dtypes=("float16", "float32", "float64"),
        originals=functions,
    )


def _elementwise(call: Callable[..., Any]) -> Function:
    return lambda x, axis=None: call(x)


def _numpy(name: str, convention: str, **more: Any) -> Mapping[str, Callable[[], Subject]]:
    def load_it() -> Subject:
        call = by_convention(getattr(implementations, name), convention, "softmax")
        return Subject(
            name=name,
            version=np.__version__,
            functions={"softmax": call, "exp": _elementwise(np.exp)},
            dtypes=("float16", "float32", "float64"),
            **more,
        )

    return {"cpu": load_it}


def _torch(target: str) -> Subject:
    import torch

    if target == "cuda" and not torch.cuda.is_available():
        raise Missing(f"torch {torch.__version__} finds no GPU")

    def entropy(t: Any, dim: int) -> Any:
        logits = t.movedim(dim, -1)
        return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()

    names = {name: getattr(torch, name) for name in USUAL} | {"entropy": entropy}

    def tensor(x: Array) -> Any:
        x = np.ascontiguousarray(x)
        if not x.flags.writeable:
            x = x.copy()
        if x.dtype.name == "bfloat16":
            return torch.from_numpy(x.view(np.int16)).to(target).view(torch.bfloat16)
        return torch.from_numpy(x).to(target)

    def array(t: Any, like: Array) -> Array:
        t = t.cpu()
        if t.dtype == torch.bfloat16:
            return np.asarray(t.view(torch.int16).numpy().view(like.dtype))
        return np.asarray(t.numpy())

    def adapted(name: str) -> Function:
        return lambda x, axis: array(names[name](tensor(x), dim=axis), x)

    def gradient(name: str, x: Array, weights: Array) -> Array:
        t = tensor(x).requires_grad_()
        names[name](t, dim=-1).backward(tensor(weights))
        return array(t.grad, x)

    scoring = scorers.of_torch(tensor, array) if target == "cpu" else {}
    return Subject(
        name="torch",
        version=torch.__version__,
        functions={name: adapted(name) for name in names}
        | {"exp": lambda x, axis=None: array(torch.exp(tensor(x)), x)}
        | scoring,
        options={name: scorers.TORCH_OPTIONS.get(name, frozenset()) for name in scoring},
        dtypes=tuple(FORMATS),
        takes_arrays=False,
        gradient=gradient,
        target=target,
    )


def _jax(target: str) -> Subject:
    # Else each process takes three quarters of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    try:
        device = jax.devices({"cuda": "gpu"}.get(target, target))[0]
    except RuntimeError as error:
        raise Missing(f"jax {jax.__version__}: {str(error).splitlines()[0]}") from None
    jax.config.update("jax_default_device", device)
    jax.config.update("jax_enable_x64", True)
    names = {
        "softmax": jax.jit(jax.nn.softmax, static_argnames="axis"),
        "log_softmax": jax.jit(jax.nn.log_softmax, static_argnames="axis"),
        "logsumexp": jax.jit(jax.nn.logsumexp, static_argnames="axis"),
    }
    exp = jax.jit(jax.numpy.exp)

    def adapted(name: str) -> Function:
        return lambda x, axis: np.asarray(names[name](x, axis=axis))

    def gradient(name: str, x: Array, weights: Array) -> Array:
        _, pull = jax.vjp(lambda v: names[name](v, axis=-1), x)
        return np.asarray(pull(jax.numpy.asarray(weights))[0])

    return Subject(
        name="jax",
        version=jax.__version__,
        functions={name: adapted(name) for name in names}
        | {"exp": lambda x, axis=None: np.asarray(exp(x))},
        dtypes=tuple(FORMATS),
        takes_arrays=False,
        gradient=gradient,
        target=target,
    )


def _cupy() -> Subject:
    import cupy
    from cupyx.scipy import special

    if not cupy.is_available():
        raise Missing(f"cupy {cupy.__version__} finds no GPU")

    def adapted(name: str) -> Function:
        call = getattr(special, name)
        return lambda x, axis: cupy.asnumpy(call(cupy.asarray(x), axis=axis))

    return Subject(
        name="cupy",
        version=cupy.__version__,
        functions={name: adapted(name) for name in USUAL}
        | {"exp": lambda x, axis=None: cupy.asnumpy(cupy.exp(cupy.asarray(x)))},
        dtypes=("float16", "float32", "float64"),
        takes_arrays=False,
        target="cuda",
    )


def _onnxruntime() -> Subject:
    import onnxruntime
    from onnx import TensorProto, helper

    operators: dict[str, tuple[str, dict[str, Any]]] = {
        "softmax": ("Softmax", {"axis": -1}),
        "log_softmax": ("LogSoftmax", {"axis": -1}),
        "logsumexp": ("ReduceLogSumExp", {"axes": [-1], "keepdims": 0}),
        "exp": ("Exp", {}),
    }
    kinds = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions: dict[tuple[str, str], Any] = {}

    def session(function: str, dtype: str) -> Any:
        if (function, dtype) not in sessions:
            operator, attributes = operators[function]
            result = ["rows"] if function in REDUCED else ["rows", "columns"]
            graph = helper.make_graph(
                [helper.make_node(operator, ["x"], ["y"], **attributes)],
                function,
                [helper.make_tensor_value_info("x", kinds[dtype], ["rows", "columns"])],
                [helper.make_tensor_value_info("y", kinds[dtype], result)],
            )
            model = helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
            )
            sessions[function, dtype] = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return sessions[function, dtype]

    def adapted(function: str) -> Function:
        def call(x: Array) -> Array:
            x = np.ascontiguousarray(x)
            return np.asarray(session(function, x.dtype.name).run(None, {"x": x})[0])

        return by_convention(call, "rows", function)

    return Subject(
        name="onnxruntime",
        version=onnxruntime.__version__,
        functions={name: adapted(name) for name in USUAL},
        takes_arrays=False,
    )


def _sklearn() -> Subject:
    import sklearn
    from sklearn.utils.extmath import softmax

    return Subject(
        name="sklearn",
        version=sklearn.__version__,
        functions={"softmax": by_convention(softmax, "rows", "softmax")},
    )


_KNOWN = {
    "fastsoftmax": _Known("this project's functions", _both(_fastsoftmax), ("fastsoftmax",)),
    "scipy": _Known(
        "scipy.special, and scipy.stats.entropy of its softmax", {"cpu": _scipy}, ("scipy",)
    ),
    "numpy_naive": _Known("exp(x) / sum(exp(x), axis=0)", _numpy("numpy_naive", "first")),
    "numpy_global_max": _Known(
        "maximum and sum over the whole array", _numpy("numpy_global_max", "whole")
    ),
    "numpy_stable": _Known("maximum and sum along the axis", _numpy("numpy_stable", "axis")),
    "numpy_rows": _Known("the same with axis=1, for matrices only", _numpy("numpy_rows", "last")),
    "numpy_overwriting": _Known(
        "the same with axis=1, written into its argument", _numpy("numpy_overwriting", "last")
    ),
    "torch": _Known("torch", _both(_torch), ("torch",)),
    "jax": _Known("jax.nn, jitted", _both(_jax), ("jax",)),
    "cupy": _Known("cupyx.scipy.special", {"cuda": _cupy}, ("cupy",)),
    "onnxruntime": _Known(
        "its operators on the CPU", {"cpu": _onnxruntime}, ("onnxruntime", "onnx")
    ),
    "sklearn": _Known("sklearn.utils.extmath.softmax", {"cpu": _sklearn}, ("sklearn",)),
}
