"""Prints what pip needs to install the oldest versions that pyproject.toml allows, a line each:
`name==1.2` for each requirement `name>=1.2` of the package and of the extras that are named."""

import pathlib
import re
import sys
import tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [line for name in sys.argv[1:] for line in project["optional-dependencies"][name]]
for line in project["dependencies"] + extras:
    name, _, bounds = re.fullmatch(r"([\w-]+)(\[.*\])?(.*)", line).groups()
    lowest = re.search(r">=([\w.]+)", bounds)
    if lowest:
        print(f"{name}=={lowest[1]}")
