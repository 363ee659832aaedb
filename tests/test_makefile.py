"""What the Makefile types for a newcomer exists."""

import re
from pathlib import Path

from django.core.management import get_commands, load_command_class

from annotation.management.commands.create_demo import NAME

TYPED = re.compile(r"manage\.py (\w+) (.*)")
MAKEFILE = (Path(__file__).resolve().parent.parent / "Makefile").read_text()


def test_it_rehearses_the_demo_with_options_that_there_are() -> None:
    ((command, arguments),) = TYPED.findall(MAKEFILE)
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    assert parser.parse_args(arguments.split()).campaign == NAME
