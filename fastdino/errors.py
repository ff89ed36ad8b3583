"""What a person is told when something they can mend is wrong.

Belongs here: the one exception that means "your input or your set-up, not our bug".
Does not: failures of single songs, which are rows in the catalogue and stop nothing.
"""


class UserError(Exception):
    """A problem the user can mend: the message names the file or setting and says what to do.

    The command line prints it without a traceback and exits with 2; Dagster fails the step
    without retrying it.
    """
