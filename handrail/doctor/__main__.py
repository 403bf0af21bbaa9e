"""python -m PACKAGE watch COMMAND...  |  python -m PACKAGE doctor PATH  |  ... doctor --list"""

import sys

from .findings import Refused, listing, report
from .saved import look
from .watch import main as watch


def main(words):
    """Run one command; return its exit code."""
    try:
        if words[:1] == ["watch"]:
            return watch(words[1:])
        if words == ["doctor", "--list"]:
            print(listing())
            return 0
        if len(words) != 2 or words[0] != "doctor":
            raise Refused(__doc__)
        found = look(words[1])
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    print(report(found))
    return int(any(one.level == "certain" for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
