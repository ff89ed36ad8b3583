"""Research: which way of learning is worth its time, on these songs.

Belongs here: ``fastdino compare``: the methods, their budgets and seeds, and what came out as a
table, figures and a page. Does not: a method itself, or how a vector is judged (``training``).
"""
