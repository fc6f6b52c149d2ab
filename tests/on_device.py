"""Array libraries on a GPU, as the tests use them: one class each, with the same methods."""

import contextlib

import numpy as np
import pytest

HALVES = ("float16", "bfloat16")


def same_bits(found, wanted):
    """Whether two arrays are one in type, shape and bits; NaN is NaN, whatever its bits."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(found), nan)
    kind = f"u{wanted.itemsize}"
    bits = [np.ascontiguousarray(a).view(kind).reshape(a.shape) for a in (found, wanted)]
    np.testing.assert_array_equal(bits[0][~nan], bits[1][~nan])


class Torch:
    """torch's CUDA tensors."""

    dtypes = ("float16", "bfloat16", "float32", "float64")

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        if not self.torch.cuda.is_available():
            pytest.skip("torch finds no GPU")

    def put(self, x):
        """A NumPy array's values on the device."""
        x = np.ascontiguousarray(x)
        if x.dtype.name == "bfloat16":
            return self.torch.from_numpy(x.view(np.int16)).cuda().view(self.torch.bfloat16)
        return self.torch.from_numpy(x).cuda()

    def get(self, array):
        """An array's values as a NumPy array, once all streams are done."""
        self.torch.cuda.synchronize()
        array = array.detach().cpu().contiguous()
        if array.dtype != self.torch.bfloat16:
            return array.numpy()
        import ml_dtypes

        return array.view(self.torch.int16).numpy().view(ml_dtypes.bfloat16)

    def fill(self, array, values, stream):
        """Copy one array into another on a stream."""
        with self.torch.cuda.stream(stream):
            array.copy_(values)

    def stream(self):
        """A new stream and its handle."""
        stream = self.torch.cuda.Stream()
        return stream, stream.cuda_stream

    def current(self, stream):
        """Where a stream is the library's current one."""
        return self.torch.cuda.stream(stream)

    def place(self, array):
        """What the result has to have in common with the logits."""
        return type(array), array.device


class CuPy:
    """CuPy's arrays."""

    dtypes = ("float16", "float32", "float64")

    def __init__(self):
        self.cupy = pytest.importorskip("cupy")
        if not self.cupy.is_available():
            pytest.skip("CuPy finds no GPU")

    def put(self, x):
        return self.cupy.asarray(x)

    def get(self, array):
        self.cupy.cuda.runtime.deviceSynchronize()
        return self.cupy.asnumpy(array)

    def fill(self, array, values, stream):
        with stream:
            array[...] = values

    def stream(self):
        stream = self.cupy.cuda.Stream(non_blocking=True)
        return stream, stream.ptr

    def current(self, stream):
        return stream

    def place(self, array):
        return type(array), array.device.id


class Numba:
    """Numba's device arrays, for which no stream is current."""

    dtypes = ("float16", "float32", "float64")

    def __init__(self):
        from numba import cuda

        self.cuda = cuda

    def put(self, x):
        return self.cuda.to_device(np.ascontiguousarray(x))

    def get(self, array):
        self.cuda.synchronize()
        return array.copy_to_host()

    def fill(self, array, values, stream):
        array.copy_to_device(values, stream=stream)

    def stream(self):
        stream = self.cuda.stream()
        return stream, int(stream.handle)

    def current(self, stream):
        return contextlib.nullcontext()

    def place(self, array):
        return type(array)


class Exported:
    """An object that only exports another's memory, by one of the two protocols."""

    def __init__(self, array, *names):
        self._array, self._names = array, names

    def __getattr__(self, name):
        if name in self.__dict__["_names"]:
            return getattr(self._array, name)
        raise AttributeError(name)
