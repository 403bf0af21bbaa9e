"""What the benchmarks share in words: their options, and the tables that they print."""

import argparse


def options(doc, **numbers):
    """Return a parser with an option for each number, such as rounds=7."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser


def pick(args, *names):
    """Return some of the options as a dict."""
    return {name: getattr(args, name) for name in names}


def row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def head(*cells):
    print()
    row(*cells)
    print("|" + "---|" * len(cells), flush=True)
