# SPDX-License-Identifier: MIT
"""gnuplot: scripts to SVG files."""
import os
import subprocess

HEAD = "set terminal svg size 1400,520 font 'sans-serif,13' background 'white'\nset grid\n"


def draw(directory, scripts):
    """scripts: {file: script}.  Returns the paths."""
    os.makedirs(directory, exist_ok=True)
    paths = []
    for name, script in scripts.items():
        svg = subprocess.run(["gnuplot"], input=HEAD + script, text=True, capture_output=True, check=True).stdout
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8") as file:
            # As the files of a repository should be.
            file.write("\n".join(line.rstrip() for line in svg.strip().split("\n")) + "\n")
        paths.append(path)
    return paths
