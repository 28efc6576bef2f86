"""The worker's side: a process that runs what its parent asks for on the engine.

::

    main, Worker       takes requests, runs them in order, answers     loop.py
      -> WorkerVM      what each request does with the engine's VM     vm.py
         host modules, as the parent described them                    imports.py
         the commands that programs may run                            commands.py
         stand-ins for the parent's objects                            objects.py
      Watchdog         interrupts, deadlines, the parent's end         watchdog.py
"""

from wasmedge_pool.worker.loop import Worker, main

__all__ = ["Worker", "main"]
