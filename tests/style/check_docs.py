#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The manual pages and the commented files of conf/ say what the tables of keys in the code say, and the tests
that docs/infiniswap.md names exist.

Usage: check_docs.py ROOT INI_KEYS SLABSWAPCTL      (INI_KEYS: the program tests/unit/conf/ini_keys)
"""
import os
import re
import subprocess
import sys

NAME = "swap0"  # the device of conf/slabswap-nbd.ini
DEFECTS = [f"{kind}{n}" for kind, count in (("D", 10), ("L", 7), ("S", 14)) for n in range(1, count + 1)]
PAGES = ["slabswap-nbd.8", "slabswapd.8", "slabswapctl.1", "slabswap-nbd.ini.5", "slabswapd.ini.5"]


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return file.read()


def key_table(program):
    """{file: {(section, key): (kind, default, allowed)}}"""
    tables = {}
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        file, section, key, *rest = line.split("\t")
        tables.setdefault(file, {})[section, key] = tuple(rest)
    return tables


def conf_keys(text):
    """{(section, key): (is commented out, value, comment before it)}; keys may be commented out with ; alone."""
    found, section, comment = {}, None, []
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section, comment = match[1], []
        elif match := re.fullmatch(r"(;?)(\w+) =(?: (.*))?", line):
            if (section, match[2]) in found:
                raise AssertionError(f"[{section}] {match[2]} is there twice")
            found[section, match[2]] = (bool(match[1]), match[3] or "", " ".join(comment))
            comment = []
        elif line.startswith("; "):
            comment.append(line[2:])
        elif line == "":
            comment = []
        elif line != ";":
            raise AssertionError(f"neither a comment nor a key: {line}")
    return found


def man_keys(text):
    """{(section, key): what the page says}"""
    found = {}
    for part in re.split(r"^\.SH ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        if not title.startswith("["):
            continue
        for item in re.split(r"^\.TP\n", body, flags=re.MULTILINE)[1:]:
            key, _, says = item.partition("\n")
            found[title.strip("[]"), key.removeprefix(".B ")] = re.sub(r"^\.\w+ ?", "", says, flags=re.MULTILINE)
    return found


def ranges(kind, kind_allowed):
    """The words of what is allowed that a document has to repeat: both ends of a range, or every word.
    Of a key that is derived from others, these are what bounds it."""
    if kind == "derived":
        return []
    match = re.match(r"([\w.]+) to ([\w.]+)", kind_allowed)
    if match:
        return [match[1], match[2]]
    return re.split(r", | or ", kind_allowed) if re.fullmatch(r"(\w+, )*\w+ or \w+", kind_allowed) else []


def words_missing(words, text):
    return [word for word in words if not re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", text)]


def check_conf(file, table, text):
    found = conf_keys(text)
    yield from (f"{file}: [{s}] {k} is missing" for s, k in table.keys() - found.keys())
    yield from (f"{file}: [{s}] {k} is unknown" for s, k in found.keys() - table.keys())
    for (section, key), (kind, default, allowed) in table.items():
        is_commented, value, comment = found.get((section, key), (None, None, None))
        name = f"{file}: [{section}] {key}"
        if value is None:
            continue
        if is_commented == (kind == "required"):
            yield f"{name}: {'commented out, but required' if is_commented else 'has a default, not commented out'}"
        if kind == "default" and value != default:
            yield f"{name}: shows {value}, the default is {default}"
        if kind == "derived" and default not in comment:
            yield f"{name}: the comment does not say: {default}"
        if kind == "derived" and "NAME" in default and value != default.replace("NAME", NAME):
            yield f"{name}: shows {value}, not {default.replace('NAME', NAME)}"
        if not comment:
            yield f"{name}: no comment"
        for word in words_missing(ranges(kind, allowed), comment):
            yield f"{name}: the comment does not say {word}, of {allowed}"


def check_man(file, table, text):
    found = man_keys(text)
    yield from (f"{file}(5): [{s}] {k} is missing" for s, k in table.keys() - found.keys())
    yield from (f"{file}(5): [{s}] {k} is unknown" for s, k in found.keys() - table.keys())
    for (section, key), (kind, default, allowed) in table.items():
        says = found.get((section, key))
        name = f"{file}(5): [{section}] {key}"
        if says is None:
            continue
        expect = "Must be given." if kind == "required" else f"Default: {default or 'empty'}"
        if expect not in says:
            yield f"{name}: does not say: {expect}"
        for word in words_missing(ranges(kind, allowed), says):
            yield f"{name}: does not say {word}, of {allowed}"


def check_roff(root):
    for page in PAGES:
        path = os.path.join(root, "docs", "man", page)
        result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path], capture_output=True,
                                text=True, check=False, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        if result.returncode or result.stderr:
            yield f"{page}: {result.stderr.strip() or result.returncode}"


def check_roff_can_fail(_):
    """The check above is worth something: a bad page has a warning."""
    result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-"], capture_output=True,
                            text=True, check=False, input=".TH X 1\n.nosuchmacro a\n")
    if not result.stderr:
        yield "a page with an unknown macro has no warning"


def check_can_fail(_):
    table = {("a", "b"): ("default", "64M", "1M to 1G, with unit"), ("a", "c"): ("required", "", "remote or both")}
    good_conf = "[a]\n; 1M to 1G\n;b = 64M\n\n; remote or both\nc = both\n"
    good_man = ".SH [a]\n.TP\n.B b\n1M to 1G.\nDefault: 64M.\n.TP\n.B c\nremote, both.\nMust be given.\n"
    for good, check in (good_conf, check_conf), (good_man, check_man):
        if list(check("good", table, good)):
            yield f"good text refused: {list(check('good', table, good))}"
        for old, new in (("64M", "32M"), ("1G", "2G"), ("both", "b"), ("b", "x")):
            bad = re.sub(rf"\b{old}\b", new, good)
            if not list(check("bad", table, bad)):
                yield f"{check.__name__} does not see {new} instead of {old}"
    if not list(check_conf("bad", table, good_conf.replace(";b", "b"))):
        yield "check_conf does not see a default that is not commented out"


def check_help(root, slabswapctl):
    """Every option that a program's help has is in its page."""
    text = subprocess.run([slabswapctl, "--help"], capture_output=True, text=True, check=True).stdout
    page = read(root, "docs", "man", "slabswapctl.1").replace("\\-", "-")
    for option in re.findall(r"--\w+", text):
        if option not in page:
            yield f"slabswapctl.1: no {option}"


def evidence(text):
    """[(path below tests/ or bench/, name or "")], as `path::name` or `path`."""
    return re.findall(r"`((?:bench|integration|sim|unit|vm)/[\w./]+)(?:::(\w+))?`", text)


def test_exists(root, path, name):
    full = os.path.join(root, *(("tests",) if not path.startswith("bench/") else ()), path)
    if not os.path.isfile(full):
        return False
    text = read(full)
    if path.endswith(".py"):
        return not name or re.search(rf"^def {name}\(", text, re.MULTILINE) is not None
    # Defined, and in the list of those that run.
    return not name or (re.search(rf"^{name}\(", text, re.MULTILINE) is not None
                        and len(re.findall(rf"\b{name}\b", text)) > 1)


def check_evidence(root, text):
    """Every test that is named exists, and every defect has one by its name."""
    for path, name in evidence(text):
        if not test_exists(root, path, name):
            yield f"docs/infiniswap.md: there is no {path}{'::' if name else ''}{name}"
    for defect in DEFECTS:
        row = re.search(rf"^\| {defect} \|.*$", text, re.MULTILINE)
        names = [name.removeprefix("test_") for _, name in evidence(row[0])] if row else []
        if not any(name.startswith(defect.lower() + "_") for name in names):
            yield f"docs/infiniswap.md: no test of {defect} by that name"


def check_evidence_can_fail(root):
    good = read(root, "docs/infiniswap.md")
    for old, new in (("average__is_the_papers", "average__is_not"), ("| S9 |", "| S99 |"), ("test_psk`", "test_ps`"),
                     ("::d6__", "::d7__"), ("`bench/run`", "`bench/rnu`")):
        if old not in good or not list(check_evidence(root, good.replace(old, new))):
            yield f"check_evidence does not see {new} instead of {old}"


def main():
    root, ini_keys, slabswapctl = sys.argv[1:4]
    tables = key_table(ini_keys)
    checks = {"roff": check_roff(root), "roff_can_fail": check_roff_can_fail(root), "can_fail": check_can_fail(root),
              "help_slabswapctl": check_help(root, slabswapctl),
              "evidence": check_evidence(root, read(root, "docs/infiniswap.md")),
              "evidence_can_fail": check_evidence_can_fail(root)}
    for file, table in tables.items():
        checks[f"conf_{file}"] = check_conf(file, table, read(root, "conf", file))
        checks[f"man_{file}"] = check_man(file, table, read(root, "docs", "man", file + ".5"))
    failed = 0
    for name, problems in checks.items():
        problems = list(problems)
        print(f"{'not ok' if problems else 'ok'} - {name}")
        for problem in problems:
            print(f"  # {problem}")
        failed += bool(problems)
    sys.exit(failed > 0 or len(tables) != 2)


if __name__ == "__main__":
    main()
