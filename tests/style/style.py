#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The rules of this tree that a program can check.  test_style.py proves that each of them can fail.

A check is a function check_*(tree) that yields "path:line: what is wrong".
Usage: style.py ROOT [check ...]
"""
import ast
import os
import re
import subprocess
import sys

LINES_MAX = 1000
FUNCTION_LINES_MAX = 100
PYTHON_COLUMNS_MAX = 120
NEW_SUFFIXES = (".c", ".h", ".py", ".md", ".build", ".ini", ".in", ".1", ".5", ".8")
# Inputs of the fuzz targets: bytes, not text.
CORPUS = "tests/fuzz/corpus/"

# What a folder of src/ may include of the others; a file name, or a folder.  main.c joins everything.
ARROWS = {
    "common": [],
    "wire": ["common"],
    "transport": ["common", "wire", "loop"],
    "loop": ["common", "transport/transport.h", "daemon/slab_memory.h"],
    "rdma": ["common", "loop", "transport"],
    "nbd_server": ["common", "wire", "loop"],
    "slab": ["common", "wire", "transport/transport.h", "nbd_server/backend.h"],
    "backup": ["common", "loop", "slab/backup.h"],
    "daemon": ["common", "wire", "transport/transport.h"],
    "ctl": ["common"],
    # Where the parts are joined into programs: everything is seen, nothing is done.
    "programs": ["common", "wire", "loop", "transport", "rdma", "nbd_server", "slab", "backup", "daemon"],
}
# Configuration files may also check addresses.
CONFIG_FILE = re.compile(r"_config_file\.[ch]$")
CONFIG_FILE_ARROWS = ["common", "wire", "transport/config_check.h"]

# The cores that also run in a simulator.
PURE = ["wire", "slab", "daemon"]
IMPURE_HEADERS = re.compile(
    r"^(ev\.h|sys/(socket|un|epoll|eventfd|timerfd|select|time|mman)\.h|netinet/.*|arpa/.*|netdb\.h|poll\.h|"
    r"time\.h|pthread\.h|threads\.h|semaphore\.h|liburing\.h|infiniband/.*|rdma/.*|systemd/.*|unistd\.h|fcntl\.h|"
    r"stdio_ext\.h|signal\.h)$")
# Headers that only one folder may name.
OWNED_HEADERS = [
    (re.compile(r"^(infiniband|rdma)/.*"), "rdma"),
    (re.compile(r"^(iniparser/.*|iniparser\.h|dictionary\.h)"), "common"),
    (re.compile(r"^liburing\.h"), "backup"),
    (re.compile(r"^ares\.h"), "programs"),
]
FORBIDDEN = re.compile(
    r"(?<![\w.>])(atoi|atol|atoll|atof|strcpy|stpcpy|strcat|strncpy|strncat|sprintf|vsprintf|strtok|strtok_r|gets|"
    r"usleep|sleep|nanosleep|alloca|system|popen|tmpnam|mktemp|gethostbyname|inet_addr|inet_ntoa|"
    r"bzero|bcopy)\s*\(")
# Folders with files that may end the process, besides main.c.
MAIN_FOLDERS = ["programs", "ctl"]
EXITS = re.compile(r"(?<![\w.>])(exit|_exit|abort|_Exit|quick_exit)\s*\(")
DESIGN_FOLDER = re.compile(r"\bwork/" r"shared\b|\bshared/" r"design\b|(?<!docs/)(?<!\]\()\binfiniswap" r"\.md\b")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def git_files(root, *which):
    out = subprocess.run(["git", "-c", f"safe.directory={root}", "ls-files", "-z", *which], cwd=root,
                         capture_output=True, text=True, check=True).stdout
    return out.split("\0")


def walked_files(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "build", "__pycache__"))]
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in files)


class Tree:
    """The files of the project."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self._texts = {}
        if os.path.exists(os.path.join(self.root, ".git")):
            # Not everything new: running tests drop files.
            names = git_files(self.root, "--cached")
            names += [n for n in git_files(self.root, "--others", "--exclude-standard") if n.endswith(NEW_SUFFIXES)]
        else:
            names = walked_files(self.root)
        self.names = sorted({n for n in names if n and not n.startswith(CORPUS) and
                             os.path.isfile(os.path.join(self.root, n))})

    def path(self, name):
        return os.path.join(self.root, name)

    def text(self, name):
        if name not in self._texts:
            with open(self.path(name), encoding="utf-8", errors="surrogateescape") as file:
                self._texts[name] = file.read()
        return self._texts[name]

    def c_files(self, below=""):
        return [n for n in self.names if n.endswith((".c", ".h")) and n.startswith(below)]

    def python_files(self):
        return [n for n in self.names if n.endswith(".py")]

    def shell_files(self):
        """Those that say so in their first line."""
        return [n for n in self.names if re.match(r"#! ?(/usr)?/bin/(env )?(busybox )?(ba)?sh\b", self.text(n)[:40])]


def code_of(text):
    """C code without comments and strings, the lines kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

    def blank(match):
        kept = "\n" * match[0].count("\n")
        return '""' if match[0][0] in "\"'" else kept or " "
    return pattern.sub(blank, text)


def numbered(text):
    return enumerate(text.split("\n"), 1)


def includes(tree, name):
    for number, line in numbered(tree.text(name)):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1], match[2]


def run(argv, tree):
    return subprocess.run(argv, cwd=tree.root, capture_output=True, text=True, check=False)


def batches(names, size=40):
    return [names[i:i + size] for i in range(0, len(names), size)]


# The checks


def check_clang_format(tree):
    for batch in batches(tree.c_files()):
        result = run(["clang-format", "--style=file", "--dry-run", "-Werror", *batch], tree)
        if result.returncode:
            yield from re.findall(r"^\S+:\d+:\d+: error: .*", result.stderr, re.MULTILINE) or [result.stderr]


def folder_of(name):
    parts = name.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_arrows(tree):
    """Who may include whom."""
    for name in tree.c_files("src/"):
        folder = folder_of(name)
        if folder not in ARROWS:
            yield f"{name}:1: folder without a place in the arrows: {folder}"
            continue
        if os.path.basename(name) == "main.c":
            continue
        allowed = [folder, *(CONFIG_FILE_ARROWS if CONFIG_FILE.search(name) else ARROWS[folder])]
        for number, kind, header in includes(tree, name):
            if kind == '"' and header not in allowed and header.split("/")[0] not in allowed:
                yield f"{name}:{number}: {folder} must not include {header}"
            elif kind == '"' and not os.path.exists(tree.path("src/" + header)):
                yield f"{name}:{number}: no src/{header}: project headers are named from src/"


def check_pure(tree):
    """No clock, thread, socket or loop in the cores; libraries stay in their folder."""
    for name in tree.c_files("src/"):
        folder = folder_of(name)
        is_core = folder in PURE and os.path.basename(name) != "main.c" and not CONFIG_FILE.search(name)
        for number, kind, header in includes(tree, name):
            if kind != "<":
                continue
            if is_core and IMPURE_HEADERS.match(header):
                yield f"{name}:{number}: <{header}> in a pure folder"
            for pattern, owner in OWNED_HEADERS:
                if pattern.match(header) and folder != owner:
                    yield f"{name}:{number}: <{header}> outside src/{owner}"


def check_own_header_first(tree):
    for name in tree.c_files("src/"):
        own = name[len("src/"):-2] + ".h"
        if not name.endswith(".c") or not os.path.exists(tree.path("src/" + own)):
            continue
        first = next(iter(includes(tree, name)), None)
        if not first or first[2] != own:
            yield f"{name}:{first[0] if first else 1}: the first include must be \"{own}\""


def check_forbidden_functions(tree):
    for name in tree.c_files():
        for number, line in numbered(code_of(tree.text(name))):
            for match in FORBIDDEN.finditer(line):
                yield f"{name}:{number}: {match[1]}() is not used here"
            if name.startswith("src/") and folder_of(name) not in MAIN_FOLDERS and os.path.basename(name) != "main.c":
                for match in EXITS.finditer(line):
                    yield f"{name}:{number}: {match[1]}() outside main.c"


def check_first_lines(tree):
    """The licence, then why the file exists; the header may say it for the .c."""
    for name in tree.c_files():
        lines = tree.text(name).split("\n")
        if lines[0] != "/* SPDX-License-Identifier: MIT */":
            yield f"{name}:1: the first line must be /* SPDX-License-Identifier: MIT */"
        elif not lines[1].startswith("/*") and not os.path.exists(tree.path(name[:-2] + ".h")):
            yield f"{name}:2: a comment must say why the file exists"


def check_header_guards(tree):
    for name in tree.c_files("src/"):
        if not name.endswith(".h"):
            continue
        guard = re.sub(r"\W", "_", name[len("src/"):]).upper()
        text = tree.text(name)
        if f"#ifndef {guard}\n#define {guard}\n" not in text or not text.endswith(f"#endif /* {guard} */\n"):
            yield f"{name}:1: the guard must be {guard}"


def check_lengths(tree):
    """Files, and functions in C: from the line with "{" to the one with "}" in the first column."""
    for name in tree.c_files() + tree.python_files() + tree.shell_files():
        lines = tree.text(name).count("\n")
        if lines > LINES_MAX:
            yield f"{name}:{lines}: more than {LINES_MAX} lines"
    for name in tree.c_files():
        start = None
        for number, line in numbered(tree.text(name)):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start > FUNCTION_LINES_MAX:
                    yield f"{name}:{start}: function of {number - start} lines"
                start = None


def check_typedefs(tree):
    for name in tree.c_files():
        for number, line in numbered(code_of(tree.text(name))):
            if re.match(r"\s*typedef\b", line) and not re.match(r"\s*typedef\s[\w\s*]+\b\w+_fn\(", line):
                yield f"{name}:{number}: typedef of anything but a function type ..._fn"


def check_comments(tree):
    for name in tree.c_files():
        stripped = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', tree.text(name))
        in_block = False
        for number, line in numbered(stripped):
            line = re.sub(r"/\*.*?\*/", "", line)
            if not in_block and "//" in line.split("/*")[0]:
                yield f"{name}:{number}: // comment"
            if "/*" in line:
                in_block = True
            elif "*/" in line:
                in_block = False


def check_unfinished(tree):
    for name in tree.names:
        for number, line in numbered(tree.text(name)):
            if UNFINISHED.search(line):
                yield f"{name}:{number}: unfinished work"


def check_design_folder(tree):
    """Users have this repository and nothing else."""
    for name in tree.names:
        for number, line in numbered(tree.text(name)):
            if DESIGN_FOLDER.search(line):
                yield f"{name}:{number}: refers to files that users do not have"


def check_whitespace(tree):
    for name in tree.names:
        text = tree.text(name)
        if text and not text.endswith("\n"):
            yield f"{name}:{text.count(chr(10)) + 1}: no newline at the end"
        if text.endswith("\n\n"):
            yield f"{name}:{text.count(chr(10))}: empty line at the end"
        for number, line in numbered(text):
            if line != line.rstrip():
                yield f"{name}:{number}: white space at the end of the line"


def check_python(tree):
    for name in tree.python_files():
        try:
            ast.parse(tree.text(name), name)
        except SyntaxError as error:
            yield f"{name}:{error.lineno}: {error.msg}"
        for number, line in numbered(tree.text(name)):
            if len(line) > PYTHON_COLUMNS_MAX:
                yield f"{name}:{number}: more than {PYTHON_COLUMNS_MAX} columns"
            if re.match(r"#!.*python", line) and line != "#!/usr/bin/python3":
                yield f"{name}:{number}: must run Debian's python: #!/usr/bin/python3"


def check_shell(tree):
    for name in tree.shell_files():
        dialect = "bash" if "bash" in tree.text(name).split("\n")[0] else "sh"
        result = run(["bash", "-n", name] if dialect == "bash" else ["dash", "-n", name], tree)
        if result.returncode:
            yield f"{name}:1: {result.stderr.strip()}"
        result = run(["shellcheck", "-s", dialect, "-S", "info", "-e", "SC1091", "-f", "gcc", name], tree)
        yield from result.stdout.splitlines()
        if result.returncode > 1:
            yield f"{name}:1: {result.stderr.strip()}"


def check_spelling(tree):
    words = tree.path("tests/style/codespell-words")
    ignore = ["--ignore-words", words] if os.path.exists(words) else []
    for batch in batches(tree.names):
        result = run(["codespell", "--quiet-level", "2", "--ignore-regex", r"\\[nrt]", *ignore, *batch], tree)
        yield from (line for line in result.stdout.splitlines() if "==>" in line)
        if result.returncode not in (0, 65):
            yield f"codespell: status {result.returncode}: {result.stderr.strip()}"


CHECKS = {name[len("check_"):]: function for name, function in list(globals().items()) if name.startswith("check_")}


def main():
    tree = Tree(sys.argv[1])
    failed = 0
    for name in sys.argv[2:] or CHECKS:
        problems = list(CHECKS[name](tree))
        print(f"{'not ok' if problems else 'ok'} - {name}")
        for problem in problems[:200]:
            print(f"  # {problem}")
        failed += bool(problems)
    if not tree.c_files("src/"):
        sys.exit(f"not ok - no source files below {tree.root}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
