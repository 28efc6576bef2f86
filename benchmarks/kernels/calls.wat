;; What a call into a module, and a call out of it, cost by themselves.
(module
  (import "host" "identity" (func $identity (param i32) (result i32)))
  (func (export "empty"))
  (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1)))
  ;; Calls the host n times.
  (func (export "call_host") (param $n i32) (result i32)
    (local $x i32)
    (loop $again
      (local.set $x (call $identity (local.get $x)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x)))
