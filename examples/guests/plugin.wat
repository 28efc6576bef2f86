;; wasm-tools parse plugin.wat -o plugin.wasm
;;
;; What somebody else wrote: useful, endless, greedy and wrong functions.
(module
  (memory (export "memory") 1)

  (func $fib (export "fib") (param $n i32) (result i32)
    (if (i32.lt_u (local.get $n) (i32.const 2)) (then (return (i32.const 1))))
    (i32.add
      (call $fib (i32.sub (local.get $n) (i32.const 1)))
      (call $fib (i32.sub (local.get $n) (i32.const 2)))))

  (func (export "divide") (param $a i32) (param $b i32) (result i32)
    (i32.div_s (local.get $a) (local.get $b)))

  ;; How often it was called. (Never more than once, where each call has a fresh instance.)
  (func (export "count") (result i32)
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (i32.load (i32.const 0)))

  (func (export "spin") (loop $for_ever (br $for_ever)))

  ;; Takes memory, a page at a time, until it gets no more; gives how much it has.
  (func (export "hoard") (result i32)
    (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
    (memory.size)))
