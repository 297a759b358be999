"""Command-line flags: absl's, one set per command, with errors for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from absl import flags

from asg_jax.errors import UserError


def parse(
    values: flags.FlagValues, argv: Sequence[str], usage: str, words: int = 0
) -> list[str] | None:
    """Parses a command's arguments into its flags.

    Args:
      values: the flags of the command.
      argv: the words after the command's name.
      usage: what `--help` prints before the flags.
      words: how many words that are no flags the command takes.

    Returns:
      Those words, or None if help was asked for and printed.

    Raises:
      UserError: a flag is unknown, has a bad value, or a word is missing or too many.
    """
    if {"--help", "-h"} & set(argv):
        print(f"{usage}\n\nflags:")
        print(values.get_help(include_special_flags=False).strip())
        return None
    try:
        rest = values(["asg-jax", *argv])[1:]
    except flags.Error as error:
        text = re.sub(r"flag (--\w+)=None: .*", r"the flag \1 is missing", str(error))
        raise UserError(f"{text.rstrip('.')}; see `asg-jax COMMAND --help`.") from error
    if len(rest) != words:
        raise UserError(f"expected {words} words beside the flags, got {len(rest)}: {usage}")
    return rest
