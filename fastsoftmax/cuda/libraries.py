"""The libraries whose arrays live on a GPU: how each one's arrays are seen, made and converted.

A new library is a class here, beside `Exporter`, and an entry in `LIBRARIES`. None is imported:
whoever passes an array of one has done so.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from fastsoftmax.cuda.driver import LEGACY, driver
from fastsoftmax.cuda.elements import numpy_type
from fastsoftmax.cuda.view import Shape, View, contiguous
from fastsoftmax.loaded import is_a, torch_type, type_name

# DLPack's numbers for memory of CUDA's devices: their own, and what they share with the host.
_DLPACK_DEVICES = (2, 13)


class Held(NamedTuple):
    """An array on a GPU: the argument's name, the object, its library, and what kernels see."""

    name: str
    array: Any
    library: Exporter
    view: View
    device: int
    # The stream on which the array's values are ready, where its exporter named one.
    stream: int | None = None
    read_only: bool = False

    @property
    def place(self) -> str:
        """Its device, as messages name it."""
        return f"cuda:{self.device}"


class Exporter:
    """Arrays of no known library, by what they export; these are read, and written with out=."""

    # Whether values can be converted, and copied to another layout.
    converts = False

    def holds(self, x: Any) -> bool:
        """Whether this is one of the library's arrays, wherever it lives."""
        return True

    def on_gpu(self, x: Any) -> bool:
        """Whether one of the library's arrays is in a GPU's memory."""
        if isinstance(getattr(x, "__cuda_array_interface__", None), dict):
            return True
        ask = getattr(x, "__dlpack_device__", None)
        device = None if ask is None else ask()
        return isinstance(device, tuple) and device[0] in _DLPACK_DEVICES

    def hold(self, name: str, x: Any, stream: int | None) -> Held:
        """What is known of an array, to be read on a stream; None: its library's current one."""
        interface = getattr(x, "__cuda_array_interface__", None)
        if interface is None:
            return self._by_dlpack(name, x, stream or LEGACY)
        if interface.get("mask") is not None:
            raise TypeError(f"{name} must not have a mask of its own: pass it as where=")
        try:
            dtype = np.dtype(interface["typestr"])
            pointer, read_only = interface["data"]
            shape = tuple(interface["shape"])
            strides = tuple(interface.get("strides") or contiguous(shape, dtype.itemsize))
        except (LookupError, TypeError, ValueError) as error:
            raise TypeError(
                f"{name} is a {type_name(x)} whose __cuda_array_interface__ cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not dtype.isnative:
            raise TypeError(f"{name} must have this machine's order of bytes, got {dtype!r}")
        view = View(pointer or 0, _name_of(x, dtype), shape, strides, dtype.itemsize)
        ready = interface.get("stream")
        return Held(
            name, x, self, view, _device_of(name, pointer), 0 if ready == LEGACY else ready,
            bool(read_only),
        )  # fmt: skip

    def _by_dlpack(self, name: str, x: Any, stream: int) -> Held:
        driver()  # says what is missing where the next line's package is
        from cuda.core.utils import StridedMemoryView

        try:
            seen = StridedMemoryView.from_dlpack(x, stream)
        except Exception as error:  # whatever its library raises
            line = " ".join(str(error).split())
            raise TypeError(
                f"{name} is a {type_name(x)} that cannot be read by DLPack: "
                f"{type(error).__name__}: {line}"
            ) from error
        dtype = np.dtype(seen.dtype)
        shape = tuple(seen.shape)
        strides = contiguous(shape, dtype.itemsize)
        if seen.strides is not None:
            strides = tuple(step * dtype.itemsize for step in seen.strides)
        view = View(seen.ptr, dtype.name, shape, strides, dtype.itemsize)
        return Held(name, x, self, view, seen.device_id, None, seen.readonly)

    def current_stream(self, held: Held) -> int:
        """The stream on which the library's work on a device is in order."""
        return held.stream or 0

    def on(self, stream: int, device: int) -> contextlib.AbstractContextManager[Any]:
        """Have the library queue its own work on a stream of a device."""
        return contextlib.nullcontext()

    def empty(self, like: Held, shape: Shape, dtype: str, order: Sequence[int]) -> Any:
        """A new array beside one that is there; its axes lie in memory in this order."""
        self.refuse(like, "pass out=")

    def pointer(self, made: Any) -> int:
        """The address of an array that `empty` made."""
        return self.hold("out", made, None).view.pointer

    def converted(self, held: Held, dtype: str) -> Any:
        """The array's values in another type."""
        self.refuse(held, f"pass an array of {dtype}")

    def rows(self, held: Held, shape: Shape, order: Sequence[int], seen: Shape) -> Any:
        """The array broadcast to a shape, its axes in another order, and in another shape then."""
        self.refuse(held, "pass an array in C order, whose rows lie along its last axes")

    def assign(self, held: Held, value: Any) -> None:
        """Write into an array what `empty` made beside it, in any type and layout."""
        self.refuse(held, "pass one of the result's type, in C order")

    def written(self, x: Any) -> None:
        """Tell the library that a kernel has written into an array of the caller's."""

    def refuse(self, held: Held, advice: str) -> NoReturn:
        """Say of an array that the library does not do what it takes, and what to pass."""
        raise TypeError(
            f"{held.name} is a {type_name(held.array)}, which fastsoftmax can neither make "
            f"anew nor convert: {advice}"
        )


class Standard(Exporter):
    """Libraries that follow the array API standard."""

    converts = True

    def holds(self, x: Any) -> bool:
        return hasattr(x, "__array_namespace__")

    def _namespace(self, x: Any) -> Any:
        return x.__array_namespace__()

    def _type(self, x: Any, dtype: str) -> Any:
        """The library's own name of a type."""
        found = getattr(self._namespace(x), dtype, None)
        if found is None:
            raise TypeError(f"{type_name(x)} has no type {dtype}")
        return found

    def empty(self, like: Held, shape: Shape, dtype: str, order: Sequence[int]) -> Any:
        x = like.array
        xp, sizes = self._namespace(x), tuple(shape[axis] for axis in order)
        made = xp.empty(sizes, dtype=self._type(x, dtype), device=x.device)
        return xp.permute_dims(made, _inverse(tuple(order)))

    def converted(self, held: Held, dtype: str) -> Any:
        return self._namespace(held.array).astype(held.array, self._type(held.array, dtype))

    def rows(self, held: Held, shape: Shape, order: Sequence[int], seen: Shape) -> Any:
        xp = self._namespace(held.array)
        moved = xp.permute_dims(xp.broadcast_to(held.array, shape), tuple(order))
        return xp.reshape(moved, seen)

    def assign(self, held: Held, value: Any) -> None:
        out = held.array
        out[...] = self._namespace(out).astype(value, out.dtype)


class CuPy(Standard):
    """CuPy's arrays, on its current stream."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "cupy", "ndarray")

    def on_gpu(self, x: Any) -> bool:
        return True

    def hold(self, name: str, x: Any, stream: int | None) -> Held:
        dtype = x.dtype
        if not dtype.isnative:
            raise TypeError(f"{name} must have this machine's order of bytes, got {dtype!r}")
        view = View(x.data.ptr, dtype.name, x.shape, x.strides, dtype.itemsize)
        return Held(name, x, self, view, x.device.id)

    def current_stream(self, held: Held) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream(held.device).ptr)

    def on(self, stream: int, device: int) -> contextlib.AbstractContextManager[Any]:
        cuda: Any = sys.modules["cupy"].cuda
        own = cuda.ExternalStream(stream, device) if stream > LEGACY else cuda.Stream.null
        return own  # type: ignore[no-any-return]

    def _namespace(self, x: Any) -> Any:
        return sys.modules["cupy"]

    def _type(self, x: Any, dtype: str) -> Any:
        return x.dtype if x.dtype.name == dtype else numpy_type(dtype)

    def empty(self, like: Held, shape: Shape, dtype: str, order: Sequence[int]) -> Any:
        sizes = tuple(shape[axis] for axis in order)
        made = self._namespace(None).empty(sizes, self._type(like.array, dtype))
        return made.transpose(_inverse(tuple(order)))

    def pointer(self, made: Any) -> int:
        return int(made.data.ptr)

    def converted(self, held: Held, dtype: str) -> Any:
        return held.array.astype(self._type(held.array, dtype))

    def rows(self, held: Held, shape: Shape, order: Sequence[int], seen: Shape) -> Any:
        moved = self._namespace(None).broadcast_to(held.array, shape).transpose(tuple(order))
        return moved.reshape(seen)

    def assign(self, held: Held, value: Any) -> None:
        self._namespace(None).copyto(held.array, value, casting="unsafe")


class Torch(Exporter):
    """torch's CUDA tensors, on its current stream."""

    converts = True

    def holds(self, x: Any) -> bool:
        return is_a(x, "torch", "Tensor")

    def on_gpu(self, x: Any) -> bool:
        return bool(x.is_cuda)

    def hold(self, name: str, x: Any, stream: int | None) -> Held:
        if x.requires_grad:
            raise TypeError(f"{name} requires gradients, of which none come: pass {name}.detach()")
        if x.layout is not sys.modules["torch"].strided:
            raise TypeError(f"{name} is of layout {x.layout}: pass {name}.to_dense()")
        if x.is_neg() or x.is_conj():  # its memory has other values than it shows
            if name == "out":
                raise ValueError("out is negated or conjugated where it is read: make it anew")
            x = x.resolve_conj().resolve_neg()
        size = x.element_size()
        strides = tuple(step * size for step in x.stride())
        view = View(x.data_ptr(), _torch_type(x.dtype), tuple(x.shape), strides, size)
        return Held(name, x, self, view, x.get_device())

    def current_stream(self, held: Held) -> int:
        return int(sys.modules["torch"].cuda.current_stream(held.device).cuda_stream)

    def on(self, stream: int, device: int) -> contextlib.AbstractContextManager[Any]:
        cuda: Any = sys.modules["torch"].cuda
        default = stream <= LEGACY
        own = cuda.default_stream(device) if default else cuda.ExternalStream(stream, device)
        return cuda.stream(own)  # type: ignore[no-any-return]

    def empty(self, like: Held, shape: Shape, dtype: str, order: Sequence[int]) -> Any:
        sizes = [shape[axis] for axis in order]
        if like.view.dtype == dtype:
            made = like.array.new_empty(sizes)
        else:
            made = like.array.new_empty(sizes, dtype=getattr(sys.modules["torch"], dtype))
        back = _inverse(tuple(order))
        return made if back == order else made.permute(back)

    def pointer(self, made: Any) -> int:
        return int(made.data_ptr())

    def converted(self, held: Held, dtype: str) -> Any:
        return held.array.to(getattr(sys.modules["torch"], dtype))

    def rows(self, held: Held, shape: Shape, order: Sequence[int], seen: Shape) -> Any:
        return held.array.expand(shape).permute(tuple(order)).reshape(seen)

    def assign(self, held: Held, value: Any) -> None:
        held.array.copy_(value)

    def written(self, x: Any) -> None:
        """As `Exporter.written`: gradients through what was there before are refused by torch."""
        sys.modules["torch"].autograd.graph.increment_version(x)


class Numba(Exporter):
    """Numba's device arrays, which are made but not converted; in its simulator, too."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "numba.cuda.cudadrv.devicearray", "DeviceNDArrayBase", "FakeCUDAArray")

    def on_gpu(self, x: Any) -> bool:
        return True

    def hold(self, name: str, x: Any, stream: int | None) -> Held:
        if not hasattr(x, "__cuda_array_interface__"):  # simulated
            view = View(x.ctypes.data, x.dtype.name, tuple(x.shape), x.strides, x.dtype.itemsize)
            return Held(name, x, self, view, 0)
        return super().hold(name, x, stream)

    def empty(self, like: Held, shape: Shape, dtype: str, order: Sequence[int]) -> Any:
        made, strides = numpy_type(dtype), [0] * len(shape)
        sizes = tuple(shape[axis] for axis in order)
        for axis, step in zip(order, contiguous(sizes, made.itemsize), strict=True):
            strides[axis] = step
        cuda = sys.modules["numba.cuda"]
        return cuda.device_array(shape=shape, dtype=made, strides=tuple(strides))


class Jax(Exporter):
    """JAX's arrays: these never change, so nothing is written into new ones."""

    def holds(self, x: Any) -> bool:
        return is_a(x, "jax", "Array")

    def hold(self, name: str, x: Any, stream: int | None) -> Held:
        """As `Exporter.hold`: only by DLPack does JAX say when values are ready."""
        return self._by_dlpack(name, x, stream or LEGACY)._replace(read_only=True)


# The first that holds an array has it.
LIBRARIES: tuple[Exporter, ...] = (Torch(), CuPy(), Numba(), Jax(), Standard(), Exporter())


def library_of(x: Any) -> Exporter | None:
    """The library of an array in a GPU's memory; None for what is on the host."""
    try:
        library = next(each for each in LIBRARIES if each.holds(x))
        return library if library.on_gpu(x) else None
    except Exception:  # what cannot be asked, as a deleted array: as on the host, NumPy says why
        return None


def stream_handle(stream: Any) -> int:
    """The number by which the driver knows a stream of any library's."""
    if isinstance(stream, (int, np.integer)) and type(stream) is not bool and stream >= 0:
        return int(stream)
    if is_a(stream, "numba.cuda.simulator.api", "stream"):
        return 0  # where everything is done at once
    for attribute in ("cuda_stream", "ptr"):  # torch's, CuPy's
        handle = getattr(stream, attribute, None)
        if isinstance(handle, int):
            return handle
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    raise TypeError(f"stream must be a CUDA stream or its handle, got {stream!r}")


def _device_of(name: str, pointer: int | None) -> int:
    """The device that an array's memory belongs to."""
    cuda = driver()
    if not pointer:  # an array without elements has no memory that would tell
        return cuda.current_device()
    try:
        return cuda.device_of_memory(pointer)
    except RuntimeError as error:
        raise ValueError(
            f"{name} is at {pointer:#x}, which is not in a GPU's memory: {error}"
        ) from None


def _name_of(x: Any, exported: np.dtype[Any]) -> str:
    """The name of an array's type; bfloat16 is exported as bytes."""
    own = getattr(x, "dtype", None)
    return own.name if isinstance(own, np.dtype) else exported.name


_torch_type = functools.cache(torch_type)


@functools.lru_cache(maxsize=1024)
def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """Where each axis is in an order."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))
