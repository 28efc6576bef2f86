"""Modules that the tests of the public API run."""

from __future__ import annotations

from tests.wat import wat


def calls() -> bytes:
    """A module with a function for each thing a call can do."""
    return wat(
        """
        (module
          (memory (export "memory") 1)
          (global $count (mut i32) (i32.const 0))
          (func (export "empty"))
          (func (export "spin") (loop (br 0)))
          (func (export "count") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (global.get $count))
          (func (export "spin_after_count")
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (loop (br 0)))
          (func (export "add") (param i32 i32) (result i32)
            (i32.add (local.get 0) (local.get 1)))
          (func (export "div") (param i32 i32) (result i32)
            (i32.div_s (local.get 0) (local.get 1)))
          (func (export "unreachable") unreachable)
          (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
          (func $deep (export "deep") (call $deep))
          (func (export "i64") (param i64) (result i64) (local.get 0))
          (func (export "f32") (param f32) (result f32) (local.get 0))
          (func (export "f64") (param f64) (result f64) (local.get 0))
          (func (export "f64_bits") (param f64) (result i64)
            (i64.reinterpret_f64 (local.get 0)))
          (func (export "f64_from_bits") (param i64) (result f64)
            (f64.reinterpret_i64 (local.get 0)))
          (func (export "v128") (param v128) (result v128) (local.get 0))
          (func (export "is_null") (param externref) (result i32)
            (ref.is_null (local.get 0)))
          (func (export "null") (result funcref) (ref.null func))
          (func $self (export "self") (result funcref) (ref.func $self))
          (func (export "swap") (param i32 i64) (result i64 i32)
            (local.get 1) (local.get 0))
          (func (export "busy") (param $n i32) (result i32)
            (loop $again
              (i32.store (i32.const 0) (local.get $n))  ;; or LLVM finds out that nothing happens
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
            (i32.const 7)))
        """
    )


def fibonacci() -> bytes:
    """`fib(n)` with fib(0) = fib(1) = 1."""
    return wat(
        """
        (module
          (func $fib (export "fib") (param i32) (result i32)
            (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
            (i32.add
              (call $fib (i32.sub (local.get 0) (i32.const 1)))
              (call $fib (i32.sub (local.get 0) (i32.const 2))))))
        """
    )


def endless_start() -> bytes:
    """Its start function does not return."""
    return wat("(module (start $f) (func $f (loop (br 0))))")


def math() -> bytes:
    """What another module imports."""
    return wat(
        '(module (func (export "double") (param i32) (result i32) (i32.shl (local.get 0) '
        "(i32.const 1))))"
    )


def importer() -> bytes:
    """Imports `math.double`."""
    return wat(
        """
        (module
          (import "math" "double" (func $double (param i32) (result i32)))
          (func (export "quadruple") (param i32) (result i32)
            (call $double (call $double (local.get 0)))))
        """
    )


def visitor() -> bytes:
    """Exports `visit`, which calls the host's `visit` with its argument and returns what it gives,
    `set` and `get` of a number that is kept, and `visit_and_set`, which keeps it."""
    return wat(
        """
        (module
          (import "host" "visit" (func $visit (param i32) (result i32)))
          (global $kept (mut i32) (i32.const 0))
          (func (export "visit") (param i32) (result i32) (call $visit (local.get 0)))
          (func (export "set") (param i32) (global.set $kept (local.get 0)))
          (func (export "visit_and_set") (param i32) (result i32)
            (global.set $kept (call $visit (local.get 0)))
            (global.get $kept))
          (func (export "get") (result i32) (global.get $kept)))
        """
    )
