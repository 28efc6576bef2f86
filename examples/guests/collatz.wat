;; wasm-tools parse collatz.wat -o collatz.wasm
;;
;; How many steps from n to 1: halve what is even, else triple it and add 1.
;; For 0 that never ends, and below 0 it is an error.
(module
  (func (export "steps") (param $n i64) (result i32)
    (local $steps i32)
    (if (i64.lt_s (local.get $n) (i64.const 0)) (then unreachable))
    (block $done
      (loop $next
        (br_if $done (i64.eq (local.get $n) (i64.const 1)))
        (local.set $n
          (if (result i64) (i64.eqz (i64.and (local.get $n) (i64.const 1)))
            (then (i64.shr_u (local.get $n) (i64.const 1)))
            (else (i64.add (i64.mul (local.get $n) (i64.const 3)) (i64.const 1)))))
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (br $next)))
    (local.get $steps)))
