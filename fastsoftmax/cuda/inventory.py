"""The GPUs that are there, in words: for `fastsoftmax info`."""

from __future__ import annotations

import importlib.metadata

from fastsoftmax.cuda.driver import Simulated, driver


def description() -> dict[str, str]:
    """What is there to compute on, by a name for each line.

    Raises
    ------
    driver.Unavailable
        Where something is missing: numba-cuda, a driver, a GPU.
    """
    if isinstance(driver(), Simulated):
        return {"CUDA": "Numba's simulator, which computes on the CPU"}
    from cuda.bindings import driver as api
    from numba import cuda

    version = importlib.metadata.version("numba-cuda")
    driven = "{}.{}".format(*divmod(api.cuDriverGetVersion()[1] // 10, 100))
    compiled = ".".join(map(str, cuda.runtime.get_version()))
    lines = {"CUDA": f"driver for CUDA {driven}, numba-cuda {version} with CUDA {compiled}"}
    for device in cuda.list_devices():
        capability = "{}.{}".format(*device.compute_capability)
        _, size = api.cuDeviceTotalMem(device.id)
        lines[f"GPU {device.id}"] = (
            f"{device.name}, compute capability {capability}, "
            f"{device.MULTIPROCESSOR_COUNT} multiprocessors, {size / 1e9:.0f} GB"
        )
    return lines
