"""Worker processes as actors: what stands between `await` and the engine.

::

    VM.execute / VMPool.execute            (wasmedge_async)
      -> Mailbox: order, numbers, cancellation, deadlines     mailbox.py
      -> WorkerPool: which worker, replacement                pool.py
      -> Backend: start, send, receive, stop                  backend.py
      -> WorkerProcess: one child, two sockets, one page      process.py
           data socket: messages          protocol.py, values.py, settings.py
           ~~~ process border ~~~
      -> worker.main: one request at a time on the engine     worker.py
           control socket: interrupts, hang-up                watchdog.py
      -> Result or Failure                                    errors.py
      -> the request's future

Documented, but internal: what users import is `wasmedge_async`.
"""
