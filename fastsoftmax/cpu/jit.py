"""How the functions of the kernels are compiled: each is inlined into what calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import overload

# "numpy": a division by zero gives infinity or NaN and costs no check. Without "_nrt", Numba
# would count references to the arrays of a kernel for each row: 1.1x on rows of 1000.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}


class _Code(JITCodeLibrary):
    """What an inlined function adds to the code of its callers, which alone is optimised."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _Inlined(Compiler):
    """Makes no machine code: 1.3 s instead of 1.9 for a kernel, which inlines some 50 functions."""

    def define_pipelines(self) -> Any:
        codegen = self.state.targetctx.codegen()
        self.state.library = _Code(codegen, self.state.func_id.func_qualname)
        self.state.flags.no_compile = True
        return super().define_pipelines()

    def compile_extra(self, func: Any) -> Any:
        result = super().compile_extra(func)
        # Numba knows it by the builtin that calls from Python go to: this one raises.
        entry: Any = [].pop
        result.target_context.insert_user_function(entry, result.fndesc, [result.library])
        return result._replace(entry_point=entry)


# For what runs inside kernels alone; wrappers for calls from Python and C would take another half
# of the time to compile.
_INSIDE = OPTIONS | {
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _Inlined,
}

inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(**_INSIDE)


def chosen(choose: Callable[..., Any]) -> Callable[..., Any]:
    """A formula whose body ``choose`` picks by the Numba types of the arguments.

    For what is one thing in two arithmetics and returns other types in each; where the types
    agree, an ``if ... is None`` inside an inlined function does.
    """

    def formula(*args: Any) -> Any:
        raise NotImplementedError(f"{choose.__name__} runs inside compiled code only")

    overload(formula, strict=False, jit_options=_INSIDE)(choose)
    return formula


# Every kernel by its name.
KERNELS: dict[str, Any] = {}


def kernel(name: str, function: Callable[..., None]) -> None:
    """Make a kernel, compiled by launch.py for the types of its arguments when they are first met.

    Its last arguments are the thread's slot of scratch memory, and the first and the last of the
    items (rows, panels) that it does.
    """
    KERNELS[name] = inlined(function)
