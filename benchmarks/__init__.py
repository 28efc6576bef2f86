"""Comparison with wasmtime (through wasmtime-py) and with native code: `python -m benchmarks`.

`kernels/` has the C sources, `build.py` compiles them, `engines.py` puts both engines behind the
same few calls, `measure.py` times interleaved, `rows.py` says what is measured and which aim each
figure has, `wasi.py` does the same for programs that read and write. `report.py` and `plot.py`
write the results.

`awaited.py` is the asyncio side: calls and host functions; `in_flight.py` has many calls through a
pool, `streaming.py` what programs print, `first.py` starts, and `peers.py` what they are measured
beside.
"""
