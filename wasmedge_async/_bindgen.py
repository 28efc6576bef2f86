"""wasm-bindgen calls of the asynchronous VM: one request each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from wasmedge_pool.bindgen import arguments_to_wire
from wasmedge_pool.messages import CallBindgen
from wasmedge_pool.request import Request
from wasmedge_pool.values import microseconds
from wasmedge_runtime.bindgen import BindgenReturn, BindgenValue, check_kind, prepare

if TYPE_CHECKING:
    from typing import Protocol

    from wasmedge_pool.handles import Owner
    from wasmedge_pool.request import Target

    class _Actor(Owner, Target, Protocol):
        """The VM, for requests."""


__all__ = ["BindgenCalls"]

_Int: TypeAlias = Literal[BindgenReturn.I32, BindgenReturn.I64]

_MOST_BYTES = 1 << 28
"""Of a result. The module decides how long it is, and this process has to hold it."""


class BindgenCalls:
    """The methods of `VM` that call what wasm-bindgen has prepared."""

    _actor: _Actor

    @overload
    async def execute_bindgen(
        self, func: str, kind: Literal[BindgenReturn.VOID], *args: Any, timeout: float | None = None
    ) -> None: ...

    @overload
    async def execute_bindgen(
        self, func: str, kind: _Int, *args: Any, timeout: float | None = None
    ) -> int: ...

    @overload
    async def execute_bindgen(
        self,
        func: str,
        kind: Literal[BindgenReturn.ARRAY],
        *args: Any,
        timeout: float | None = None,
    ) -> bytes: ...

    @overload
    async def execute_bindgen(
        self, func: str, kind: BindgenReturn, *args: Any, timeout: float | None = None
    ) -> BindgenValue: ...

    async def execute_bindgen(
        self, func: str, kind: BindgenReturn, *args: Any, timeout: float | None = None
    ) -> BindgenValue:
        """Call a function that wasm-bindgen has prepared; None, a signed int or bytes, by `kind`.

        ::

            digest = await vm.execute_bindgen("sha3_digest", BindgenReturn.ARRAY, b"a message")

        The whole call is one request: copying the arguments in, the function, copying its result
        out. No other task's call comes in between.

        Args:
            func: the export's name.
            kind: what it gives; wasm-bindgen functions have one result at most.
            args: int for up to 32 bits, `I64` for 64 bits, and str (as UTF-8) or bytes, which are
                copied into the module's memory.
            timeout: seconds of running time, 0 or more; waiting for earlier calls does not count.

        Raises:
            TypeError: `kind` is no `BindgenReturn`, or an argument is none of these.
            OverflowError: a number does not fit.
            WasmEdgeError: WrongVMWorkflow before `instantiate`; FuncNotFound, also for a module
                without allocator; FuncSigMismatch when kind and arguments do not fit the function;
                WrongInstanceIndex for a module without memory; MemoryOutOfBounds when pointers
                that it gives are wrong; RuntimeError for a result of more than 256 MiB.
            Trap, HostFunctionError: the call failed.
            CallTimeout: it ran longer than `timeout`, and was stopped.
        """
        return await self._bindgen(None, func, kind, args, timeout)

    @overload
    async def execute_bindgen_registered(
        self,
        module: str,
        func: str,
        kind: Literal[BindgenReturn.VOID],
        *args: Any,
        timeout: float | None = None,
    ) -> None: ...

    @overload
    async def execute_bindgen_registered(
        self, module: str, func: str, kind: _Int, *args: Any, timeout: float | None = None
    ) -> int: ...

    @overload
    async def execute_bindgen_registered(
        self,
        module: str,
        func: str,
        kind: Literal[BindgenReturn.ARRAY],
        *args: Any,
        timeout: float | None = None,
    ) -> bytes: ...

    @overload
    async def execute_bindgen_registered(
        self, module: str, func: str, kind: BindgenReturn, *args: Any, timeout: float | None = None
    ) -> BindgenValue: ...

    async def execute_bindgen_registered(
        self,
        module: str,
        func: str,
        kind: BindgenReturn,
        *args: Any,
        timeout: float | None = None,
    ) -> BindgenValue:
        """Call a function of a registered module that wasm-bindgen has prepared, as
        `execute_bindgen`; works in every state."""
        return await self._bindgen(module, func, kind, args, timeout)

    async def _bindgen(
        self,
        module: str | None,
        func: str,
        kind: BindgenReturn,
        args: Sequence[Any],
        timeout: float | None,
    ) -> BindgenValue:
        kind = check_kind(kind)
        wire, content = arguments_to_wire(prepare(args))
        actor = self._actor
        message = CallBindgen(
            0, actor.number, module, func, int(kind), wire, _MOST_BYTES, microseconds(timeout)
        )
        request = Request(message, content, timeout, vm=actor, hosts=actor.hosts)
        if kind is BindgenReturn.ARRAY:
            request.want(_MOST_BYTES, exact=False)
        values = await actor.ask(request)
        if kind is BindgenReturn.ARRAY:
            return await request.content()
        return int(values[0]) if values else None
