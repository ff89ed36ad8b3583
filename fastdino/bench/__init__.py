"""Benchmarks: speed and memory, each beside what it is compared to, in one run.

Belongs here: one module a stage with its measurements, what a change of the collection costs
(``changes``), the table that shows them (``table``). Does not: a test: nothing here fails because
a machine is slow.
"""
