"""The CUDA target: the arithmetic of all targets on the threads of a GPU."""
