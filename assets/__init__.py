"""What is made: one module a stage and one for research, each with its assets and checks on them.

Belongs here: what Dagster shows of a stage (names, order, descriptions, options, checks) and how a
stage's child process is run (``stage`` at Dagster's end, ``child`` at the other). Does not: the
work itself, which is ``fastdino``'s; jobs, schedules, sensors and resources, which are
``pipelines``'.
"""
