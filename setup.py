"""The README for PyPI: its picture and its links get the address of the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
about = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
place = about["urls"]["Repository"]
text = (HERE / "README.md").read_text(encoding="utf-8")
text = re.sub(r"(!\[[^\]]*\]\()(?!http)", rf"\1{place}/raw/HEAD/", text)
text = re.sub(r"((?<!!)\[[^\]]*\]\()(?!http)", rf"\1{place}/blob/HEAD/", text)
setup(long_description=text, long_description_content_type="text/markdown")
