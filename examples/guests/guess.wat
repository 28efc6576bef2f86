;; wasm-tools parse guess.wat -o guess.wasm
;;
;; A game: the program thinks of a number from 1 to 100, and answers each line of its input with
;; "higher", "lower" or "right", after which it ends. Its exit code is 1 when the input ends before.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; 0: address and length of what is read or written; 8: how much it was; 12: one byte of input
  (data (i32.const 16) "A number from 1 to 100?\n")
  (data (i32.const 48) "higher\n")
  (data (i32.const 64) "lower\n")
  (data (i32.const 80) "right\n")

  (func $say (param $text i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $length))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $exit (i32.const 1)))))

  ;; The next byte of the input; the program ends when there is none.
  (func $byte (result i32)
    (i32.store (i32.const 0) (i32.const 12))
    (i32.store (i32.const 4) (i32.const 1))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $exit (i32.const 1))))
    (if (i32.eqz (i32.load (i32.const 8))) (then (call $exit (i32.const 1))))
    (i32.load8_u (i32.const 12)))

  ;; The number in the next line; what is no digit counts for nothing.
  (func $line (result i32)
    (local $number i32) (local $byte i32)
    (loop $next
      (local.set $byte (call $byte))
      (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 48)) (i32.const 10))
        (then (local.set $number
          (i32.add (i32.mul (local.get $number) (i32.const 10))
            (i32.sub (local.get $byte) (i32.const 48))))))
      (br_if $next (i32.ne (local.get $byte) (i32.const 10))))
    (local.get $number))

  (func (export "_start")
    (local $secret i32) (local $guess i32)
    (drop (call $random (i32.const 96) (i32.const 4)))
    (local.set $secret
      (i32.add (i32.rem_u (i32.load (i32.const 96)) (i32.const 100)) (i32.const 1)))
    (call $say (i32.const 16) (i32.const 24))
    (loop $again
      (local.set $guess (call $line))
      (if (i32.lt_u (local.get $guess) (local.get $secret))
        (then (call $say (i32.const 48) (i32.const 7)) (br $again)))
      (if (i32.gt_u (local.get $guess) (local.get $secret))
        (then (call $say (i32.const 64) (i32.const 6)) (br $again))))
    (call $say (i32.const 80) (i32.const 6))))
