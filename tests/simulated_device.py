"""Arrays that say they are on a GPU, in the host's memory, for tests without one."""

import ml_dtypes
import numpy as np

import fastsoftmax
from fastsoftmax.cuda.elements import numpy_type


class OnDevice:
    """What an array library exports, and nothing else."""

    def __init__(self, array, device=0, stream=None, read_only=False):
        self.array, self.on, self.stream, self.read_only = array, device, stream, read_only

    @property
    def __cuda_array_interface__(self):
        exported = dict(self.array.__array_interface__, stream=self.stream, version=3)
        exported["data"] = (exported["data"][0], self.read_only)
        return exported

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def shape(self):
        return self.array.shape


class Standard(OnDevice):
    """An array of a library that follows the array API standard."""

    @property
    def device(self):
        return f"device {self.on}"

    def __array_namespace__(self):
        return Namespace

    def __setitem__(self, index, value):
        self.array[index] = value.array


class Namespace:
    """What of the standard's functions are used here."""

    float16, float32, float64, int64 = np.float16, np.float32, np.float64, np.int64
    bfloat16 = ml_dtypes.bfloat16

    @staticmethod
    def empty(shape, dtype, device):
        return Standard(np.empty(shape, dtype), int(device.split()[1]))

    @staticmethod
    def permute_dims(x, axes):
        return Standard(x.array.transpose(axes), x.on)

    @staticmethod
    def broadcast_to(x, shape):
        return Standard(np.broadcast_to(x.array, shape), x.on)

    @staticmethod
    def reshape(x, shape):
        return Standard(x.array.reshape(shape), x.on)

    @staticmethod
    def astype(x, dtype):
        return Standard(x.array.astype(dtype), x.on)


def memory(view):
    """The NumPy array that a View shows."""
    if view is None or isinstance(view, float):
        return view
    exported = {
        "data": (view.pointer, False),
        "shape": view.shape,
        "strides": view.strides,
        "typestr": f"|V{view.itemsize}",
        "version": 3,
    }
    exporter = type("Exporter", (), {"__array_interface__": exported})()
    return np.asarray(exporter).view(numpy_type(view.dtype))


class StandIn:
    """In the place of plan.compute: the CPU's results, and what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, formula, x, out, temperature, mask, stream, labels=None):
        self.calls.append((formula.name, x, out, temperature, mask, stream))
        function = getattr(fastsoftmax, formula.name)
        values, place, given, present = map(memory, (x, out, temperature, mask))
        options = {} if present is None else {"where": present}
        if temperature is not None:
            columns = isinstance(given, np.ndarray)
            options["temperature"] = np.expand_dims(given, 1) if columns else given
        if formula.chooses:
            place[...], memory(labels)[...] = function(values, labels.shape[1], axis=1, **options)
            return
        if labels is not None:
            options["labels"] = memory(labels)
        place[...] = function(np.array(values), axis=1, **options)
