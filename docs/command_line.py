"""Writes docs/command-line.md: what people wrote in command-line.md.in, and the parser's commands.

python docs/command_line.py
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from tfhub_cache.cli.main import build_parser

FOLDER = Path(__file__).parent
PAGE = FOLDER / "command-line.md"


def page() -> str:
    """The page as it is to be."""
    template = (FOLDER / "command-line.md.in").read_text(encoding="utf-8")
    return template.replace("<!-- commands -->", commands(build_parser()))


def commands(parser: argparse.ArgumentParser) -> str:
    """A table of the commands, and a section for each, with the options that all have."""
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help for choice in subparsers._choices_actions}
    rows = [
        f"| [`{name}`](#{name}){aliases(subparsers.choices, name)} | {summary} |"
        for name, summary in summaries.items()
    ]
    sections = [section(name, subparsers.choices[name]) for name in summaries]
    common = options(group_of(parser, "common options"))
    return "\n".join(
        [
            "| command | does |",
            "| --- | --- |",
            *rows,
            "",
            "All commands have these options, before or after the command:",
            "",
            *common,
            "",
            "\n\n".join(sections),
        ]
    )


def aliases(commands: Mapping[str, argparse.ArgumentParser], name: str) -> str:
    """The other names of a command."""
    same = [other for other in commands if commands[other] is commands[name] and other != name]
    return "".join(f", `{other}`" for other in same)


def section(name: str, command: argparse.ArgumentParser) -> str:
    """What a command does, how it is called, and examples."""
    common = group_of(command, "common options")
    own = [a for a in command._actions if a not in common and a.dest != "help"]
    _, text, examples = (command.description or "").split("\n\n")
    parts = [
        f"### {name}",
        f"```text\n{command.usage or ' '.join([command.prog, *map(usage, own)])}\n```",
        text,
    ]
    if own:
        parts.append("\n".join(options(own)))
    parts.append("\n".join(["```bash", *map(str.strip, examples.splitlines()[1:]), "```"]))
    return "\n\n".join(parts)


def options(actions: list[argparse.Action]) -> list[str]:
    """A table of arguments."""
    rows = [f"| {written(action)} | {(action.help or '') % vars(action)} |" for action in actions]
    return ["| argument | meaning |", "| --- | --- |", *rows]


def usage(action: argparse.Action) -> str:
    """An argument as it stands in the usage line."""
    if not action.option_strings:
        return f"[{action.metavar} ...]" if action.nargs == "*" else str(action.metavar)
    return f"[{' '.join([action.option_strings[0], *value(action)])}]"


def written(action: argparse.Action) -> str:
    """An argument as it stands in the table."""
    names = action.option_strings or [str(action.metavar)]
    return ", ".join(f"`{' '.join([name, *value(action)])}`" for name in names)


def value(action: argparse.Action) -> list[str]:
    """What follows an option."""
    if action.nargs == 0 or not action.option_strings:
        return []
    return [str(action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}")]


def group_of(parser: argparse.ArgumentParser, title: str) -> list[argparse.Action]:
    """The arguments under a heading of the help."""
    (group,) = (group for group in parser._action_groups if group.title == title)
    return group._group_actions


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
