"""Worker processes as actors: what stands between `await` and the engine.

::

    VM.execute / VMPool.execute            (wasmedge_async)
      -> Request: one call, its host functions, its answer    request.py, hosting.py
      -> Mailbox: order, numbers, cancellation, deadlines     mailbox.py
      -> Actor: one VM in a worker of its own                 actor.py
         WorkerPool: several workers, one module              pool.py
           Schedule: which worker gets which call             scheduling.py, calls.py
           Crew: how many workers, replacement                sizing.py
           Many: many calls in few messages                   batch.py
           Lodging, Tenant: VMs with state in its workers     lodging.py, tenant.py
           Broadcasts: what all workers have run              broadcast.py
      -> Backend: start, send, receive, stop                  backend.py
      -> WorkerProcess: one child, two sockets, one page      process.py
           data socket: messages          messages.py, fields.py, protocol.py, values.py,
                                          settings.py
           ~~~ process border ~~~
      -> worker: one request at a time on the engine          worker/
           control socket: interrupts, hang-up, memory        worker/watchdog.py
      -> Result or Failure                                    errors.py
      -> the request's future

What users write or hold: host modules (imports.py, registering.py), handles of what lives in a
worker (handles.py, caller_memory.py), and the objects that a worker refers to (references.py).

A pool has one more process, which compiles for all workers: compilation.py, compiler.py.

Documented, but internal: what users import is `wasmedge_async`.
"""
