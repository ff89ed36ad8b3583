"""Upkeep: what keeps a home sound over the years.

Belongs here: finding and mending damage (``verify``), dropping what is not needed any more
(``compaction``). Does not: computing anything anew, which is the next run's work.
"""
