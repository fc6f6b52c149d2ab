"""What is asked of CUDA's driver beside kernels: whose memory and streams are, copies in order.

In Numba's simulator a device's memory is the host's, and `Simulated` answers for the driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import config

Array = np.ndarray[Any, Any]

INSTALL = "pip install 'fastsoftmax[cuda13]' (or [cuda12], for a driver before 580)"

# The handles of the legacy default stream, by two names, and of the per-thread one: every device
# has its own.
LEGACY, PER_THREAD = 1, 2
_OF_ANY_DEVICE = (0, LEGACY, PER_THREAD)

# Bytes of a device that the driver keeps for calls to come.
_KEPT = 64 << 20

_AS_IT_IS = contextlib.nullcontext()


class Unavailable(RuntimeError):
    """A call on a GPU where numba-cuda, a driver or a GPU is missing."""


@functools.cache
def driver() -> Driver | Simulated:
    """The driver, or an error that says in one line what is missing."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise Unavailable(f"calls on a GPU need numba-cuda, which is missing: {INSTALL}")
    if config.ENABLE_CUDASIM:
        return Simulated()
    try:
        from cuda.bindings import driver as api

        return Driver(api)
    except ImportError as error:
        raise Unavailable(f"calls on a GPU need cuda-bindings: {error}; {INSTALL}") from None
    except RuntimeError as error:  # the library of the driver is not there, or it finds no GPU
        if isinstance(error, Unavailable):
            raise
        line = " ".join(str(error).split())
        raise Unavailable(f"calls on a GPU need an NVIDIA driver and a GPU: {line}") from None


class Driver:
    """The driver of this machine's GPUs; an error of a call is a RuntimeError with its name."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._contexts: dict[int, Any] = {}
        self._keeping: set[int] = set()
        self._call("cuInit", 0)
        if not self._call("cuDeviceGetCount"):
            raise Unavailable("calls on a GPU need one, and the driver finds none")

    def _call(self, name: str, *arguments: Any) -> Any:
        """What a function of the driver gives."""
        error, *values = getattr(self._api, name)(*arguments)
        if error != self._api.CUresult.CUDA_SUCCESS:
            text = self._api.cuGetErrorString(error)[1]
            words = text.decode() if isinstance(text, bytes) else "unknown"
            raise RuntimeError(f"{name}: {error.name}: {words}")
        return values[0] if values else None

    def _context(self, device: int) -> Any:
        """A device's primary context, which array libraries and Numba share."""
        context = self._contexts.get(device)
        if context is None:
            handle = self._call("cuDeviceGet", device)
            context = self._contexts[device] = self._call("cuDevicePrimaryCtxRetain", handle)
        return context

    def current_device(self) -> int:
        """The device whose context is this thread's; the first where there is none yet."""
        if not int(self._call("cuCtxGetCurrent")):
            return 0
        return int(self._call("cuCtxGetDevice"))

    def current(self, device: int) -> contextlib.AbstractContextManager[None]:
        """Have a device's context be this thread's."""
        context = self._context(device)
        if int(self._call("cuCtxGetCurrent")) == int(context):
            return _AS_IT_IS
        return self._pushed(context)

    @contextlib.contextmanager
    def _pushed(self, context: Any) -> Iterator[None]:
        self._call("cuCtxPushCurrent", context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def device_of_memory(self, pointer: int) -> int:
        """The device that memory belongs to."""
        kind = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(self._call("cuPointerGetAttribute", kind, pointer))

    def device_of_stream(self, stream: int) -> int | None:
        """The device that a stream belongs to; None where every device has one of this name."""
        if stream in _OF_ANY_DEVICE:
            return None
        with self.current(self.current_device()):  # some context must be there to be asked
            context = self._call("cuStreamGetCtx", stream)
        with self._pushed(context):
            return int(self._call("cuCtxGetDevice"))

    def is_recorded(self, stream: int) -> bool:
        """Whether what is queued on a stream is recorded in a graph, to be run later."""
        status = self._call("cuStreamIsCapturing", stream)
        return bool(status != self._api.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE)

    def wait(self, stream: int, other: int) -> None:
        """Have what is queued on a stream from now on come after what is on another by now."""
        event = self._call("cuEventCreate", self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        try:
            self._call("cuEventRecord", event, other)
            self._call("cuStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cuEventDestroy", event)  # the driver keeps it until it has come

    def new_stream(self) -> int:
        """A stream that waits for no other; `free_stream` ends it."""
        flag = self._api.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call("cuStreamCreate", flag))

    def free_stream(self, stream: int) -> None:
        """End a stream, once all on it is done."""
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Return when all on a stream is done; what went wrong there is raised."""
        self._call("cuStreamSynchronize", stream)

    def allocate(self, size: int, stream: int) -> int:
        """Memory of the current device, from this point of a stream on."""
        self._keep_memory(self.current_device())
        return int(self._call("cuMemAllocAsync", max(size, 1), stream))

    def _keep_memory(self, device: int) -> None:
        """Have what is given back be kept for the next call, which would wait for new pages."""
        if device in self._keeping:
            return
        self._keeping.add(device)
        pool = self._call("cuDeviceGetDefaultMemPool", self._call("cuDeviceGet", device))
        threshold = self._api.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        if int(self._call("cuMemPoolGetAttribute", pool, threshold)) < _KEPT:
            self._call("cuMemPoolSetAttribute", pool, threshold, self._api.cuuint64_t(_KEPT))

    def free(self, pointer: int, stream: int) -> None:
        """Give memory back at this point of a stream."""
        self._call("cuMemFreeAsync", pointer, stream)

    def pinned(self, size: int) -> Array:
        """Bytes of the host that stay where they are, so that a device can copy them by itself."""
        pointer = int(self._call("cuMemHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))

    def free_pinned(self, memory: Array) -> None:
        """Give pinned bytes back."""
        self._call("cuMemFreeHost", memory.ctypes.data)

    def to_device(self, pointer: int, array: Array, stream: int) -> None:
        """Copy a contiguous array, on a stream; ordinary memory has been read on return."""
        self._call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def to_host(self, array: Array, pointer: int, stream: int) -> None:
        """Copy into a contiguous array, on a stream."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)


class Simulated:
    """One device whose memory is the host's, where everything is done at once."""

    def __init__(self) -> None:
        self._memory: dict[int, Array] = {}

    def current_device(self) -> int:
        """As `Driver.current_device`."""
        return 0

    def current(self, device: int) -> contextlib.AbstractContextManager[None]:
        """As `Driver.current`."""
        return _AS_IT_IS

    def device_of_memory(self, pointer: int) -> int:
        """As `Driver.device_of_memory`."""
        return 0

    def device_of_stream(self, stream: int) -> int | None:
        """As `Driver.device_of_stream`."""
        return None if stream in _OF_ANY_DEVICE else 0

    def is_recorded(self, stream: int) -> bool:
        """As `Driver.is_recorded`."""
        return False

    def wait(self, stream: int, other: int) -> None:
        """As `Driver.wait`."""

    def new_stream(self) -> int:
        """As `Driver.new_stream`."""
        return PER_THREAD

    def free_stream(self, stream: int) -> None:
        """As `Driver.free_stream`."""

    def synchronize(self, stream: int) -> None:
        """As `Driver.synchronize`."""

    def allocate(self, size: int, stream: int) -> int:
        """As `Driver.allocate`."""
        memory = np.empty(max(size, 1), np.uint8)
        self._memory[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def free(self, pointer: int, stream: int) -> None:
        """As `Driver.free`."""
        del self._memory[pointer]

    def pinned(self, size: int) -> Array:
        """As `Driver.pinned`."""
        return np.empty(size, np.uint8)

    def free_pinned(self, memory: Array) -> None:
        """As `Driver.free_pinned`."""

    def to_device(self, pointer: int, array: Array, stream: int) -> None:
        """As `Driver.to_device`."""
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def to_host(self, array: Array, pointer: int, stream: int) -> None:
        """As `Driver.to_host`."""
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)


@contextlib.contextmanager
def uploaded(array: Array, stream: int) -> Iterator[int]:
    """The address of a copy of a contiguous array in the current device's memory, in order."""
    cuda = driver()
    pointer = cuda.allocate(array.nbytes, stream)
    try:
        cuda.to_device(pointer, array, stream)
        yield pointer
    finally:
        cuda.free(pointer, stream)
