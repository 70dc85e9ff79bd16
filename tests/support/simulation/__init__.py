"""Deterministic simulation: processes over one bucket, in simulated time, under every fault.

One seed is one plan, one plan is one trace. `run.simulate` plays a plan with the library's real
code from `Catalog` down to `ObjectStorage`; only the store below it, clocks, threads and chance are
simulated. ``python -m support.simulation --seeds 100000`` (in ``tests/``) searches for a plan that
breaks a promise and shrinks it.
"""
