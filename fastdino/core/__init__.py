"""The ground that everything stands on.

Belongs here: what any room may need and none owns: where files lie (``home``) and how they are
written (``storage``, ``tables``), what a person is told (``errors``, ``text``, ``progress``,
``summary``), settings from outside
(``environment``), worker processes (``workers``). Does not: anything that knows what a song is.
"""
