"""Real programs that need no WASI give what they must."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from wasmedge_runtime import (
    VM,
    Configure,
    ErrCode,
    Executor,
    ExternRef,
    ExternType,
    Fail,
    FuncRef,
    Function,
    FunctionType,
    HostFunctionError,
    HostRegistration,
    ImportObject,
    Loader,
    LoadError,
    ModuleInstance,
    Statistics,
    Store,
    Table,
    Terminate,
    Trap,
    ValidationError,
    Validator,
    ValType,
)

I32, EXTERNREF = ValType.I32, ValType.EXTERNREF

Program = Callable[[str], bytes]


class Engine:
    """The steps from bytes to an instance, in one store."""

    def __init__(self, configuration: Configure | None = None) -> None:
        self.configuration = configuration or Configure()
        self.statistics = Statistics()
        self.executor = Executor(self.configuration, self.statistics)
        self.store = Store()

    def instantiate(self, data: bytes, register_as: str | None = None) -> ModuleInstance:
        module = Loader(self.configuration).load_buffer(data)
        Validator(self.configuration).validate(module)
        if register_as is not None:
            return self.executor.register_module(self.store, module, register_as)
        return self.executor.instantiate(self.store, module)

    def invoke(self, name: str, *args: Any) -> list[Any]:
        return self.executor.invoke(self.store, name, *args)


@pytest.mark.parametrize(
    ("n", "result"), [(0, 1), (1, 1), (21, 17711), (25, 121393), (30, 1346269)]
)
def test_fibonacci(program: Program, n: int, result: int) -> None:
    engine = Engine()
    engine.instantiate(program("fibonacci"))
    assert engine.invoke("fib", n) == [result]


def test_fibonacci_executes_exactly_the_instructions_of_the_reference(program: Program) -> None:
    configuration = Configure()
    configuration.statistics_instruction_counting = True
    engine = Engine(configuration)
    engine.instantiate(program("fibonacci"))
    assert engine.invoke("fib", 30) == [1346269]
    assert engine.statistics.instr_count == 28_271_634


def test_factorial(program: Program) -> None:
    engine = Engine()
    engine.instantiate(program("factorial"))
    assert engine.invoke("fac", 12) == [479001600]


@pytest.mark.parametrize(("value", "n", "result"), [(123456, 20, 10946), (876543210, 21, 17711)])
def test_print_fibonacci(program: Program, value: int, n: int, result: int) -> None:
    seen = []
    host = ImportObject("host")

    @host.function("print_val_and_res", params=[EXTERNREF, I32], results=[])
    def print_val_and_res(data: object, memory: object, reference: ExternRef, number: int) -> None:
        seen.append((reference.value, number))

    engine = Engine()
    engine.executor.register_import(engine.store, host)
    engine.instantiate(program("fibonacci"), register_as="wasm")
    engine.instantiate(program("print_fibonacci"))
    assert engine.invoke("print_val_and_fib", ExternRef(value), n) == []
    assert seen == [(value, result)]
    assert engine.executor.invoke_registered(engine.store, "wasm", "fib", 22) == [28657]
    assert sorted(engine.store.list_module()) == ["host", "wasm"]


# What WASI has without sockets, and what it has for sockets that are already open.
WASI_FUNCTIONS = """
args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get
fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights
fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_dir_name
fd_prestat_get fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write
path_create_directory path_filestat_get path_filestat_set_times path_link path_open path_readlink
path_remove_directory path_rename path_symlink path_unlink_file
poll_oneoff proc_exit proc_raise random_get sched_yield sock_recv sock_send sock_shutdown
""".split()  # noqa: SIM905  # not 45 lines


def test_print_fibonacci_in_a_vm_that_lists_what_is_registered(program: Program) -> None:
    """Host functions, another module and WASI under their names, as the reference's example."""
    host = ImportObject("host")

    @host.function("print_val_and_res", params=[EXTERNREF, I32])
    def print_val_and_res(data: object, memory: object, value: ExternRef, number: int) -> None:
        printed.append((value.value, number))

    printed: list[tuple[int, int]] = []
    with VM(Configure(HostRegistration.WASI)) as vm:
        vm.register_import(host)
        vm.register_wasm_buffer("wasm", program("fibonacci"))
        vm.load_wasm_buffer(program("print_fibonacci"))
        vm.validate()
        vm.instantiate()
        assert vm.execute("print_val_and_fib", ExternRef(123456), 20) == []
        assert vm.execute("print_val_and_fib", ExternRef(876543210), 21) == []
        assert vm.execute_registered("wasm", "fib", 22) == [28657]
        assert printed == [(123456, 10946), (876543210, 17711)]

        assert list(vm.get_function_list()) == ["print_val_and_fib"]
        store = vm.get_store()
        assert store.list_module() == ["host", "wasi_snapshot_preview1", "wasm"]
        assert store.list_function_registered("host") == ["print_val_and_res"]
        assert store.list_function_registered("wasm") == ["fib"]
        wasi = store.list_function_registered("wasi_snapshot_preview1")
        assert len(WASI_FUNCTIONS) == 45
        # More than the reference's 45: what opens sockets came later.
        assert {name[:5] for name in set(wasi) - set(WASI_FUNCTIONS)} == {"sock_"}
        assert set(WASI_FUNCTIONS) <= set(wasi)


@pytest.mark.parametrize(
    ("function", "callables", "numbers", "result"),
    [
        ("call_add", [lambda a, b: a + b], [1234, 5678], 6912),
        ("call_mul", [lambda a, b: a * b], [4827, -31519], -152142213),
        ("call_square", [lambda a: a * a], [1024], 1048576),
        ("call_add_square", [lambda a, b: a + b, lambda a: a * a], [761, 195], 913936),
    ],
)
def test_external_references_to_callables(
    program: Program,
    function: str,
    callables: list[Callable[..., int]],
    numbers: list[int],
    result: int,
) -> None:
    def call(data: object, memory: object, reference: ExternRef, *args: int) -> int:
        outcome: int = reference.value(*args)
        return outcome

    imports = ImportObject("extern_module")
    for name, count in (("add", 2), ("mul", 2), ("square", 1)):
        kind = FunctionType([EXTERNREF, *[I32] * count], [I32])
        imports.add_function(name, Function(kind, call))
    engine = Engine()
    engine.executor.register_import(engine.store, imports)
    engine.instantiate(program("externref_funcs"))
    references = [ExternRef(c) for c in callables]
    assert engine.invoke(function, *references, *numbers) == [result]


class Containers:
    """What the functions of `externref_stl` work on, each behind an external reference."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.mapping: dict[str, str] = {}
        self.numbers: set[int] = set()
        self.sequence: list[int] = []


def container_functions() -> ImportObject:
    """The imports of `externref_stl`: operations on Python's containers instead of C++'s."""
    imports = ImportObject("extern_module")

    @imports.function("stl_ostream_str", params=[EXTERNREF, EXTERNREF])
    def write(data: object, memory: object, stream: ExternRef, text: ExternRef) -> None:
        stream.value.write(text.value)

    @imports.function("stl_ostream_u32", params=[EXTERNREF, I32])
    def write_number(data: object, memory: object, stream: ExternRef, number: int) -> None:
        stream.value.write(str(number))

    @imports.function("stl_map_insert", params=[EXTERNREF] * 3)
    def insert(
        data: object, memory: object, mapping: ExternRef, key: ExternRef, value: ExternRef
    ) -> None:
        mapping.value[key.value] = value.value

    @imports.function("stl_map_erase", params=[EXTERNREF] * 2)
    def erase(data: object, memory: object, mapping: ExternRef, key: ExternRef) -> None:
        del mapping.value[key.value]

    @imports.function("stl_set_insert", params=[EXTERNREF, I32])
    def add(data: object, memory: object, numbers: ExternRef, number: int) -> None:
        numbers.value.add(number)

    @imports.function("stl_set_erase", params=[EXTERNREF, I32])
    def discard(data: object, memory: object, numbers: ExternRef, number: int) -> None:
        numbers.value.discard(number)

    @imports.function("stl_vector_push", params=[EXTERNREF, I32])
    def push(data: object, memory: object, sequence: ExternRef, number: int) -> None:
        sequence.value.append(number)

    @imports.function("stl_vector_sum", params=[EXTERNREF] * 2, results=[I32])
    def total(data: object, memory: object, begin: ExternRef, end: ExternRef) -> int:
        # In C++ a pair of iterators; here where they are, and in what.
        (sequence, start), (_, stop) = begin.value, end.value
        return sum(sequence[start:stop])

    return imports


def test_external_references_to_containers(program: Program) -> None:
    engine = Engine()
    engine.executor.register_import(engine.store, container_functions())
    engine.instantiate(program("externref_stl"))
    kept = Containers()

    engine.invoke("call_ostream_str", kept.text, "hello world!")
    engine.invoke("call_ostream_u32", kept.text, 123456)
    assert kept.text.getvalue() == "hello world!123456"

    engine.invoke("call_map_insert", kept.mapping, "hello", "world!")
    assert kept.mapping == {"hello": "world!"}
    engine.invoke("call_map_erase", kept.mapping, "hello")
    assert kept.mapping == {}

    engine.invoke("call_set_insert", kept.numbers, 123456)
    engine.invoke("call_set_insert", kept.numbers, 3456)
    engine.invoke("call_set_erase", kept.numbers, 3456)
    assert kept.numbers == {123456}

    for number in (10, 50, 80, 100):
        engine.invoke("call_vector_push", kept.sequence, number)
    assert kept.sequence == [10, 50, 80, 100]
    begin, end = ExternRef((kept.sequence, 0)), ExternRef((kept.sequence, 4))
    assert engine.invoke("call_vector_sum", begin, end) == [240]


def host_functions() -> ImportObject:
    """The imports of `api_test`: arithmetic on a number behind a reference, success and failure."""
    imports = ImportObject("extern")
    operations: dict[str, Callable[[int, int], int]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a // b,
    }
    for name, operation in operations.items():

        def body(
            data: Callable[[int, int], int], memory: object, reference: ExternRef, n: int
        ) -> int:
            return data(reference.value, n)

        kind = FunctionType([EXTERNREF, I32], [I32])
        imports.add_function(f"func-{name}", Function(kind, body, operation))

    @imports.function("func-term", params=[], results=[I32])
    def terminate(data: object, memory: object) -> int:
        raise Terminate

    @imports.function("func-fail", params=[], results=[I32])
    def fail(data: object, memory: object) -> int:
        raise Fail

    return imports


@pytest.fixture
def api_test(program: Program) -> Engine:
    engine = Engine()
    engine.executor.register_import(engine.store, host_functions())
    engine.instantiate(program("api_test"))
    return engine


def test_api_test_functions(api_test: Engine) -> None:
    assert [api_test.invoke(f"func-{n}") for n in (1, 2, 3, 4)] == [[1], [2], [3], [4]]
    assert api_test.invoke("func-add", 123, 456) == [579]
    assert api_test.invoke("func-mul-2", 123, 456) == [246, 912]


def test_api_test_indirect_calls(api_test: Engine) -> None:
    assert api_test.invoke("func-call-indirect", 2) == [1]
    assert api_test.invoke("func-call-indirect", 5) == [4]
    with pytest.raises(Trap, match="uninitialized element") as empty:
        api_test.invoke("func-call-indirect", 1)
    assert empty.value.code is ErrCode.UninitializedElement
    with pytest.raises(Trap, match="undefined element") as outside:
        api_test.invoke("func-call-indirect", 10)
    assert outside.value.code is ErrCode.UndefinedElement


def test_api_test_host_functions_reach_objects_through_a_table(api_test: Engine) -> None:
    table = api_test.store.find_table("tab-ext")
    assert isinstance(table, Table)
    for index, number in enumerate((123, 789, 258, 1000)):
        table.set_data(ExternRef(number), index)
    assert api_test.invoke("func-host-add", 456) == [579]
    assert api_test.invoke("func-host-sub", 654) == [135]
    assert api_test.invoke("func-host-mul", 6) == [1548]
    assert api_test.invoke("func-host-div", 36) == [27]


def test_api_test_host_functions_end_the_run(api_test: Engine) -> None:
    executor, store = api_test.executor, api_test.store
    assert executor.invoke_registered(store, "extern", "func-term") == []
    with pytest.raises(HostFunctionError) as failure:
        executor.invoke_registered(store, "extern", "func-fail")
    assert failure.value.code is ErrCode.ExecutionFailed


def test_api_test_table_memory_and_globals(api_test: Engine) -> None:
    store = api_test.store
    functions = store.find_table("tab-func")
    memory = store.find_memory("mem")
    mutable, constant = store.find_global("glob-mut-i32"), store.find_global("glob-const-f32")
    assert functions is not None
    assert memory is not None
    assert mutable is not None
    assert constant is not None
    assert functions.size == 10
    assert isinstance(functions.get_data(2), FuncRef)
    assert functions.get_data(9) is None
    assert memory.get_data(10, 10) == bytes(range(10))
    assert memory.page_size == 1
    assert mutable.value == 142
    assert constant.value == pytest.approx(789.12, rel=1e-6)


def test_api_test_lists_its_imports_and_exports(program: Program) -> None:
    module = Loader().load_buffer(program("api_test"))
    imported = [(i.module_name, i.external_name) for i in module.list_imports()]
    names = ("add", "sub", "mul", "div", "term", "fail")
    assert imported == [("extern", f"func-{name}") for name in names]
    kinds = {e.external_name: e.external_type for e in module.list_exports()}
    assert len(kinds) == 16
    assert kinds["func-mul-2"] is ExternType.FUNCTION
    assert kinds["tab-ext"] is ExternType.TABLE
    assert kinds["mem"] is ExternType.MEMORY
    assert kinds["glob-const-f32"] is ExternType.GLOBAL


def test_mandelbrot_in_threads_is_refused_and_names_the_proposal(program: Program) -> None:
    with pytest.raises(LoadError, match="needs the proposal THREADS"):
        Loader().load_buffer(program("threads_mandelbrot"))


def test_api_import_is_refused_for_its_three_memories(program: Program) -> None:
    with pytest.raises(ValidationError, match="multiple memories"):
        Validator().validate(Loader().load_buffer(program("api_import")))
