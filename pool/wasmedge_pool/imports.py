"""Host modules as users write them: functions of the parent or the worker, and what they share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from wasmedge_pool.handles import Global, Memory, Table
from wasmedge_runtime.closable import Closable
from wasmedge_runtime.errors import closed_error
from wasmedge_runtime.types import FunctionType, ValType

__all__ = ["Function", "ImportObject"]

_Body = TypeVar("_Body", bound=Callable[..., Any])
_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Function(Closable):
    """A host function, for guests to import.

    `body` is called as `body(data, memory, *params)` and gives None, one value or a sequence, as
    the type says. Raising `Terminate` ends the guest's whole call successfully; any other exception
    ends it with `HostFunctionError`, with the exception as its cause.

    * An `async def` body runs in the task that awaits the call: its context variables, its
      cancellation, its time limit. `memory` is a `CallerMemory` whose methods are awaited.
    * A plain function runs there too, and holds up the event loop; `memory` is a `CallerMemory`
      that is read and written at once.
    * ``"package.module:function"`` runs in the worker, without a message for each call. It is
      imported there, gets the engine's own `Memory`, and None as `data`.

    `memory` is that of the calling module, None when it has none, and may be used during the call
    only.

    Args:
        function_type: parameters and results.
        body: the function, or where the worker imports it from.
        data: any object, handed to `body` unchanged; not for a function of the worker.
        cost: gas that a call costs, when costs are measured.

    Raises:
        TypeError: `body` is neither.
        ValueError: a string that does not name a function, or one with `data`.
    """

    def __init__(
        self,
        function_type: FunctionType,
        body: Callable[..., Any] | str,
        data: Any = None,
        cost: int = 0,
    ) -> None:
        if not isinstance(function_type, FunctionType):
            raise TypeError(f"function_type must be a FunctionType, not {function_type!r}")
        if isinstance(body, str):
            if not _PLACE.fullmatch(body):
                raise ValueError(f"a worker's function is 'package.module:function', not {body!r}")
            if data is not None:
                raise ValueError(
                    f"{body!r} runs in the worker, where `data` is not: pass a function of this "
                    "process, or keep the data in that module"
                )
        elif not callable(body):
            raise TypeError(f"body must be callable as body(data, memory, *params), not {body!r}")
        self._type = function_type
        self._body = body
        self._data = data
        self._cost = cost
        self.awaited = _is_coroutine_function(body)
        """Whether the body is a coroutine function."""

    @property
    def function_type(self) -> FunctionType:
        """Parameters and results."""
        return self._type

    @property
    def cost(self) -> int:
        """Gas for a call, beside that of the `call` itself."""
        return self._cost

    @property
    def place(self) -> str | None:
        """Where the worker imports it from; None for a function of this process."""
        return self._body if isinstance(self._body, str) else None

    def run(self, memory: Any, parameters: list[Any]) -> Any:
        """Call the body; gives what it returns, which may be to be awaited."""
        if self._closed:
            raise closed_error(self)
        return self._body(self._data, memory, *parameters)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"<host function {self._type}>"


def _is_coroutine_function(body: object) -> bool:
    return inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(
        getattr(body, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


class ImportObject(Closable):
    """A module of the host, for `VM.register_import` and `VMPool(imports=...)`.

    It owns what is added to it. Adding a name twice replaces the first.

    Args:
        name: the module name that imports give.

    Raises:
        TypeError: a name is not a str, or what is added not of the method's kind.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a module name must be a str, not {type(name).__name__}")
        self._name = name
        self._externs: dict[str, Function | Table | Memory | Global] = {}

    @property
    def name(self) -> str:
        """The module name that imports give."""
        return self._name

    @property
    def externs(self) -> dict[str, Function | Table | Memory | Global]:
        """What was added, by name."""
        self._check_open()
        return self._externs

    def _add(self, name: str, extern: Any, kind: type[Any]) -> None:
        self._check_open()
        if not isinstance(name, str):
            raise TypeError(f"an export's name must be a str, not {type(name).__name__}")
        if not isinstance(extern, kind):
            hint = ""
            if type(extern).__module__.startswith("wasmedge_runtime."):
                hint = f" of the engine: import {kind.__name__} from wasmedge_async"
            raise TypeError(
                f"{name!r} must be a {kind.__name__}, not {type(extern).__name__}{hint}"
            )
        extern.lend()
        self._externs[name] = extern

    def add_function(self, name: str, function: Function) -> None:
        """Export a host function."""
        self._add(name, function, Function)

    def add_table(self, name: str, table: Table) -> None:
        """Export a table."""
        self._add(name, table, Table)

    def add_memory(self, name: str, memory: Memory) -> None:
        """Export a memory."""
        self._add(name, memory, Memory)

    def add_global(self, name: str, global_: Global) -> None:
        """Export a global."""
        self._add(name, global_, Global)

    def function(
        self,
        name: str,
        params: Iterable[ValType] = (),
        results: Iterable[ValType] = (),
        *,
        data: Any = None,
        cost: int = 0,
    ) -> Callable[[_Body], _Body]:
        """Decorate a function, coroutine function or plain, to export it.

        ::

            @imports.function("fetch", params=[ValType.I32], results=[ValType.I32])
            async def fetch(data, memory, number): ...
        """
        kind = FunctionType(list(params), list(results))

        def add(body: _Body) -> _Body:
            self.add_function(name, Function(kind, body, data, cost))
            return body

        return add

    def _release(self) -> None:
        self._externs = {}

    def __repr__(self) -> str:
        return f"<import object {self._name!r}: {', '.join(self._externs) or 'empty'}>"
