"""The one exception that is shown to the user as a single line."""


class UserError(Exception):
    """Something the user can mend: a setting, a file, a table.

    The command line prints the message as one line and exits with status 2. The message says what is
    wrong, where, what was got, and what to do. Any other exception is a fault of ours and keeps its
    traceback.
    """

    exit_status = 2
