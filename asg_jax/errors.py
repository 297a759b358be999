"""The exception that reaches the user as one line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and how to put it right.

    The command line prints it as `asg-jax: <message>` on one line and exits with status 2.
    """
