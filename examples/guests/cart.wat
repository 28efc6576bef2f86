;; wasm-tools parse cart.wat -o cart.wasm
;;
;; Adds up what the first items of a shop cost. It asks for each price, and the host gets it.
(module
  ;; get(path, length of the path, where the answer goes, its room) -> length of the answer
  (import "http" "get" (func $get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "/prices/0")

  (func (export "total") (param $items i32) (result i32)
    (local $item i32) (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $item) (local.get $items)))
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $item))) ;; the last digit
        (local.set $sum (i32.add (local.get $sum)
          (call $number (i32.const 64)
            (call $get (i32.const 0) (i32.const 9) (i32.const 64) (i32.const 1024)))))
        (local.set $item (i32.add (local.get $item) (i32.const 1)))
        (br $next)))
    (local.get $sum))

  ;; The number that is written there.
  (func $number (param $text i32) (param $length i32) (result i32)
    (local $number i32) (local $end i32)
    (local.set $end (i32.add (local.get $text) (local.get $length)))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $text) (local.get $end)))
        (local.set $number
          (i32.add (i32.mul (local.get $number) (i32.const 10))
            (i32.sub (i32.load8_u (local.get $text)) (i32.const 48))))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (br $next)))
    (local.get $number)))
