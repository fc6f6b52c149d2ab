"""The libraries that are compared: each makes of a case a call without arguments, or None.

None where the library has no such function; a library that is not there is reported at the end.
Conversions to a library's own arrays are made before, and ``out=`` is reused where it has one.
"""

import functools
import importlib.metadata
import os
import platform

import numba
import numpy as np

import fastsoftmax
from fastsoftmax.cpu import plan

THREADS = numba.get_num_threads()


def _fastsoftmax(function, x, axis, out):
    call = getattr(fastsoftmax, function)
    return lambda: call(x, axis=axis, out=out)


def _scipy(function, x, axis, out):
    import scipy.special

    call = getattr(scipy.special, function)
    return lambda: call(x, axis=axis)


def _numpy(function, x, axis, out):
    def softmax():
        e = np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        np.exp(e, out=e)
        e /= e.sum(axis=axis, keepdims=True)
        return e

    def log_softmax():
        t = np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        t -= np.log(np.exp(t).sum(axis=axis, keepdims=True))
        return t

    def logsumexp():
        top = x.max(axis=axis, keepdims=True)
        e = x - top
        np.exp(e, out=e)
        return np.log(e.sum(axis=axis)) + np.squeeze(top, axis)

    return {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}[function]


def _scikit_learn(function, x, axis, out):
    from sklearn.utils.extmath import softmax

    if function != "softmax" or x.ndim != 2 or axis not in (-1, 1):
        return None
    return lambda: softmax(x, copy=True)


def _torch(function, x, axis, out):
    import torch

    torch.set_num_threads(THREADS)
    a, b = torch.from_numpy(x), torch.from_numpy(out)
    calls = {
        "softmax": lambda: torch.softmax(a, axis, out=b),
        "log_softmax": lambda: torch.log_softmax(a, axis, out=b),
        "logsumexp": lambda: torch.logsumexp(a, axis, out=b),
    }
    return calls[function]


def _jax(function, x, axis, out):
    import jax

    jax.config.update("jax_enable_x64", True)
    calls = {
        "softmax": jax.nn.softmax,
        "log_softmax": jax.nn.log_softmax,
        "logsumexp": jax.nn.logsumexp,
    }
    call = jax.jit(functools.partial(calls[function], axis=axis))
    a = jax.numpy.asarray(x)
    return lambda: call(a).block_until_ready()


def _onnxruntime(function, x, axis, out):
    import onnxruntime
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.DOUBLE
    if function == "logsumexp":
        node = helper.make_node("ReduceLogSumExp", ["x"], ["y"], axes=[axis], keepdims=0)
    else:
        name = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[function]
        node = helper.make_node(name, ["x"], ["y"], axis=axis)
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, out.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, x.dtype, out.shape, out.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


LIBRARIES = {
    "fastsoftmax": _fastsoftmax,
    "scipy": _scipy,
    "numpy": _numpy,
    "scikit-learn": _scikit_learn,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "jax": _jax,
}
_NEEDS = {"onnxruntime": ("onnxruntime", "onnx")}


@functools.cache
def version(name):
    """The installed version of a library, or None."""
    try:
        versions = [importlib.metadata.version(part) for part in _NEEDS.get(name, (name,))]
    except importlib.metadata.PackageNotFoundError:
        return None
    return versions[0]


def missing():
    """The libraries that are not there, and how to have them."""
    return {
        name: "not installed: python -m pip install '.[peers]'"
        for name in LIBRARIES
        if version(name) is None
    }


def machine():
    """What the table of a run says about it."""
    name, width = plan.cpu()
    return {
        "cpu_model": _model(),
        "code_for": f"{name}, {width} bits",
        "threads": THREADS,
        "versions": {name: version(name) for name in LIBRARIES},
        "numba": numba.__version__,
        "missing": missing(),
    }


def _model():
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor()
