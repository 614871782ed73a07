"""The exception that the command line shows as one line."""


class UserError(Exception):
    """An error that the user can correct: a setting, a file, a table.

    The command line prints it as one line, `WHERE: PROBLEM; ADVICE`, and exits with status 2. Any other exception
    is an internal error and keeps its traceback.

    Args:
        where: The setting, option, file or table; empty where the problem names it.
        problem: What is wrong, and what was received.
        advice: What to do; empty where the problem says it.
    """

    exit_status = 2

    def __init__(self, where: object, problem: object, advice: str = "") -> None:
        # The arguments unchanged, so that pickling to another process keeps them.
        super().__init__(str(where), str(problem), advice)
        self.where, self.problem, self.advice = str(where), str(problem), advice

    @property
    def what(self) -> str:
        """Where and problem, without the advice."""
        return f"{self.where}: {self.problem}" if self.where else self.problem

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what

    def with_name(self, name: str, instead: str) -> "UserError":
        """The same error with a name that the user gave, such as a URI, in place of an internal one."""
        return UserError(*(text.replace(name, instead) for text in (self.where, self.problem, self.advice)))
