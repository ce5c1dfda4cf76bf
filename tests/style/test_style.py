#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every check of style.py finds its bad sample, and is content with the good one.

A sample is a tree: {path: text}.  What is expected is a part of one problem, or None."""
import os
import sys
import tempfile

import style

SPDX = "/* SPDX-License-Identifier: MIT */\n"
WHY = SPDX + "/* A sample. */\n"
SHARED = "work/" + "shared"


def header(guard, body=""):
    return f"{WHY}#ifndef {guard}\n#define {guard}\n{body}#endif /* {guard} */\n"


LONG_FUNCTION = WHY + "int\nf(void)\n{\n" + "\tg();\n" * 101 + "}\n"
FITTING_FUNCTION = WHY + "int\nf(void)\n{\n" + "\tg();\n" * 99 + "}\n"

SAMPLES = [
    ("clang_format", {"src/slab/a.c": WHY + "int\nf(void)\n{\n\treturn 1;\n}\n"}, None),
    ("clang_format", {"src/slab/a.c": WHY + "int f(void) {\n  return 1; }\n"}, "src/slab/a.c:3"),

    ("arrows", {"src/slab/a.c": '#include "wire/w.h"\n', "src/wire/w.h": ""}, None),
    ("arrows", {"src/slab/a.c": '#include "transport/transport.h"\n', "src/transport/transport.h": ""}, None),
    ("arrows", {"src/slab/a.c": '#include "transport/tcp.h"\n', "src/transport/tcp.h": ""}, "slab/a.c:1: slab must"),
    ("arrows", {"src/common/a.h": '# include "slab/b.h"\n', "src/slab/b.h": ""}, "common must not"),
    ("arrows", {"src/wire/a.c": '\n#include "slab/b.h"\n', "src/slab/b.h": ""}, "wire/a.c:2: wire must not"),
    ("arrows", {"src/daemon/a.c": '#include "slab/b.h"\n', "src/slab/b.h": ""}, "daemon must not"),
    ("arrows", {"src/nbd_server/a.c": '#include "slab/b.h"\n', "src/slab/b.h": ""}, "nbd_server must not"),
    ("arrows", {"src/nbd_server/main.c": '#include "slab/b.h"\n', "src/slab/b.h": ""}, None),
    ("arrows", {"src/daemon/daemon_config_file.c": '#include "transport/config_check.h"\n',
                "src/transport/config_check.h": ""}, None),
    ("arrows", {"src/daemon/daemon.c": '#include "transport/config_check.h"\n',
                "src/transport/config_check.h": ""}, "daemon must not"),
    ("arrows", {"src/slab/a.c": '#include "b.h"\n', "src/slab/b.h": ""}, "must not include b.h"),
    ("arrows", {"src/slab/a.c": '#include "slab/gone.h"\n'}, "no src/slab/gone.h"),
    ("arrows", {"src/programs/a.c": '#include "rdma/b.h"\n', "src/rdma/b.h": ""}, None),
    ("arrows", {"src/new/a.c": ""}, "folder without a place"),

    ("pure", {"src/slab/a.c": "#include <string.h>\n", "src/loop/b.c": "#include <ev.h>\n",
              "src/daemon/main.c": "#include <ev.h>\n", "src/daemon/x_config_file.c": "#include <unistd.h>\n"}, None),
    ("pure", {"src/slab/a.c": "#include <ev.h>\n"}, "a.c:1: <ev.h> in a pure folder"),
    ("pure", {"src/wire/a.h": "#include <time.h>\n"}, "<time.h> in a pure"),
    ("pure", {"src/daemon/a.c": "#include <pthread.h>\n"}, "<pthread.h> in a pure"),
    ("pure", {"src/daemon/a.c": "#include <sys/socket.h>\n"}, "<sys/socket.h> in a pure"),
    ("pure", {"src/slab/a.c": "#include <netinet/in.h>\n"}, "in a pure"),
    ("pure", {"src/transport/a.c": "#include <infiniband/verbs.h>\n"}, "outside src/rdma"),
    ("pure", {"src/nbd_server/main.c": "#include <rdma/rdma_cma.h>\n"}, "outside src/rdma"),
    ("pure", {"src/rdma/a.c": "#include <rdma/rdma_cma.h>\n", "src/backup/a.c": "#include <liburing.h>\n",
              "src/common/a.c": "#include <iniparser/iniparser.h>\n"}, None),
    ("pure", {"src/nbd_server/a.c": "#include <iniparser/iniparser.h>\n"}, "outside src/common"),
    ("pure", {"src/loop/a.c": "#include <liburing.h>\n"}, "outside src/backup"),

    ("own_header_first", {"src/slab/a.c": '#include "slab/a.h"\n\n#include <errno.h>\n', "src/slab/a.h": "",
                          "src/slab/main.c": "#include <errno.h>\n"}, None),
    ("own_header_first", {"src/slab/a.c": '#include <errno.h>\n\n#include "slab/a.h"\n', "src/slab/a.h": ""}, "a.c:1"),

    ("forbidden_functions", {"src/slab/a.c": '\tx->sleep(1); /* sprintf() */ log("gets(");\n\tsnprintf(b, 1);\n'},
     None),
    *(("forbidden_functions", {"tests/a.c": f"\n\tx = {name}(a, b);\n"}, f"tests/a.c:2: {name}()") for name in
      ("atoi", "strcpy", "strcat", "strncpy", "sprintf", "strtok", "gets", "usleep", "sleep", "alloca", "system")),
    ("forbidden_functions", {"src/slab/a.c": "\tabort();\n"}, "abort() outside main.c"),
    ("forbidden_functions", {"src/slab/main.c": "\texit(1);\n", "tests/a.c": "\t_exit(1);\n"}, None),

    ("first_lines", {"src/slab/a.c": WHY, "src/slab/b.h": WHY, "src/slab/b.c": SPDX + "#include <errno.h>\n"}, None),
    ("first_lines", {"src/slab/a.c": "/* A sample. */\n"}, "a.c:1"),
    ("first_lines", {"src/slab/a.c": SPDX + "#include <errno.h>\n"}, "a.c:2"),
    ("first_lines", {"src/slab/a.h": "// SPDX-License-Identifier: MIT\n"}, "a.h:1"),

    ("header_guards", {"src/slab/a.h": header("SLAB_A_H")}, None),
    ("header_guards", {"src/slab/a.h": header("SLAB_B_H")}, "a.h:1: the guard must be SLAB_A_H"),
    ("header_guards", {"src/slab/a.h": WHY + "#pragma once\n"}, "a.h:1"),

    ("lengths", {"src/slab/a.c": WHY + "int x;\n" * 998, "src/slab/b.c": FITTING_FUNCTION}, None),
    ("lengths", {"src/slab/a.c": WHY + "int x;\n" * 999}, "more than 1000 lines"),
    ("lengths", {"tests/a.py": "x = 1\n" * 1001}, "more than 1000 lines"),
    ("lengths", {"src/slab/a.c": LONG_FUNCTION}, "a.c:5: function of"),

    ("typedefs", {"src/slab/a.h": "typedef void done_fn(void *arg);\ntypedef const char *name_fn(int);\n"}, None),
    ("typedefs", {"src/slab/a.h": "typedef struct a a_t;\n"}, "a.h:1: typedef"),
    ("typedefs", {"src/slab/a.h": "typedef void (*done)(void);\n"}, "a.h:1: typedef"),

    ("comments", {"src/slab/a.c": '/* see https://x // y\n // z */\nchar *s = "a//b";\n'}, None),
    ("comments", {"src/slab/a.c": "int x; // y\n"}, "a.c:1: // comment"),

    ("unfinished", {"a.md": "todo list\n"}, None),
    ("unfinished", {"src/slab/a.c": "\n/* TO" "DO: x */\n"}, "a.c:2"),
    ("unfinished", {"a.md": "FIX" "ME\n"}, "a.md:1"),

    ("design_folder", {"a.md": "work is shared, see docs/architecture.md\n"}, None),
    ("design_folder", {"src/slab/a.c": f"\n/* see /{SHARED}/x */\n"}, "a.c:2"),
    ("design_folder", {"conf/a.ini": "; infiniswap" ".md 1.1\n"}, "a.ini:1"),
    ("design_folder", {"a.md": "design/infiniswap" ".md\n"}, "a.md:1"),
    ("design_folder", {"a.md": "[docs/infiniswap.md](infiniswap.md)\n"}, None),

    ("whitespace", {"a.md": "a\n\nb\n"}, None),
    ("whitespace", {"a.md": "a \n"}, "a.md:1: white space"),
    ("whitespace", {"a.md": "a"}, "no newline"),
    ("whitespace", {"a.md": "a\n\n"}, "empty line"),

    ("python", {"a.py": "#!/usr/bin/python3\nx = 1\n"}, None),
    ("python", {"a.py": "x = = 1\n"}, "a.py:1"),
    ("python", {"a.py": "#!/usr/bin/env python3\n"}, "Debian's python"),
    ("python", {"a.py": "x = '" + "y" * 120 + "'\n"}, "columns"),

    ("shell", {"a": '#!/bin/sh\necho "$1"\n', "b.md": "text\n#!/bin/sh\nif\n"}, None),
    ("shell", {"a": "#!/bin/bash\nif true; then\n"}, "a:1"),
    ("shell", {"a": "#!/bin/sh\nrm $1\n"}, "a:2:"),

    ("spelling", {"a.md": "receive\n", "b.c": '"\\nnumber"\n'}, None),
    ("spelling", {"a.md": "rec" "ieve\n"}, "a.md:1"),
]


def problems(check, sample):
    with tempfile.TemporaryDirectory(prefix="slabswap-style-") as root:
        with open(os.path.join(style.Tree(os.path.join(os.path.dirname(__file__), "..", "..")).root,
                               ".clang-format"), encoding="utf-8") as source:
            sample = {**sample, ".clang-format": source.read()}
        for name, text in sample.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                file.write(text)
        return list(style.CHECKS[check](style.Tree(root)))


def main():
    failed = 0
    for check in style.CHECKS:
        wrong = []
        samples = [(sample, expect) for name, sample, expect in SAMPLES if name == check]
        if not any(expect for _, expect in samples) or all(expect for _, expect in samples):
            wrong.append("needs a good and a bad sample")
        for sample, expect in samples:
            found = problems(check, sample)
            if expect is None and found or expect and not any(expect in problem for problem in found):
                wrong.append(f"{sample}: expected {expect}, found {found}")
        print(f"{'not ok' if wrong else 'ok'} - finds_{check}")
        for line in wrong:
            print(f"  # {line}")
        failed += bool(wrong)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
