"""What Claude Code 2.1.330 does with a Bash call, as far as it was observed: a model to judge `cx hook` by.

`observed.json` and `src/hook/permissions/observed.json` hold what the real client did, and this model says the same of all of it;
`permissions.py --client` compares it with the client again. It shares nothing with cx: its reader of shell texts is its own, and
knows no more than those texts need. All of it was seen in sessions in which commands had run before: in its first one the client asks
about every variable that is set (`for i in`, `x=1;`), as `check.py` shows.
"""

import re

RAN, ASKED, DENIED, JUDGED = "ran", "asked", "denied", "judged"
SEVERITY = {RAN: 0, JUDGED: 1, ASKED: 2, DENIED: 3}

# Variables that it passes over in front of a command, and those that it asks about even where they stand alone.
SAFE = set(
    "NODE_ENV CI RUST_LOG RUST_BACKTRACE PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTEST_DISABLE_PLUGIN_AUTOLOAD LC_ALL LANG TZ "
    "TERM COLUMNS NO_COLOR FORCE_COLOR CLICOLOR CGO_ENABLED GOOS GOARCH GO111MODULE".split())
OF_THE_SHELL = set("PATH IFS LD_PRELOAD BASH_ENV ENV HOME SHELL path cdpath fpath status functions".split())
# Programs that it runs without a rule when they only look at the project.
LOOKS = set(
    "basename cat column cut date df diff dirname du echo egrep false file find free grep head hostname id jq ls md5sum nl nproc "
    "printf ps pwd readlink realpath rev rg sed seq sleep sort stat tac tail test [ tr tree true type uname uniq wc which "
    "whoami".split())
# What starts another program in a way that no allow rule but one for all of Bash is let speak of.
NEVER = set("exec ionice setsid watch eval strace coproc".split())
GIT_LOOKS = set("status diff log show branch rev-parse".split())
WRITES_UNASKED = set("mkdir touch rm cp mv".split())


class Command:
    """A simple command: its words as written, and what stands around it."""

    def __init__(self):
        self.assigned, self.words, self.redirects = [], [], []


class Text:
    """A text taken apart: its commands in order, and the names of what it holds besides."""

    def __init__(self, text):
        self.text, self.commands, self.holds = text, [], set()
        if re.search(r"\S\\\n", text):
            self.holds.add("a continuation in a word")
        self.read(text.replace("\\\n", " "))

    def read(self, text):
        tokens = tokenize(text, self.holds)
        command, i = Command(), 0
        loops = []

        def end():
            nonlocal command
            if command.words or command.assigned or command.redirects:
                self.commands.append(command)
            command = Command()

        while i < len(tokens):
            kind, raw = tokens[i]
            fresh = not command.words and not command.assigned and not command.redirects
            if kind == "op":
                end()
                if raw in ("|", "|&") and loops:
                    self.holds.add("pipe in a loop")
                if raw in ("(", ")"):
                    self.holds.add("subshell")
                elif raw == "&":
                    self.holds.add("background")
                elif raw == ";;":
                    self.holds.add("case")
            elif kind == "redirect":
                command.redirects.append((raw, tokens[i + 1][1] if i + 1 < len(tokens) else ""))
                if loops and not raw.startswith("<<"):
                    self.holds.add("redirection in a loop")
                self.substitutions(command.redirects[-1][1])
                i += 1
            elif fresh and raw in ("if", "then", "elif", "else", "do", "!", "time"):
                if raw == "time" and i + 1 < len(tokens) and tokens[i + 1][1] == "-p":
                    self.holds.add("time -p")
                    i += 1
            elif fresh and raw in ("while", "until"):
                loops.append(raw)
            elif fresh and raw == "for":
                loops.append("for")
                name = tokens[i + 1][1]
                if name == "(":
                    self.holds.add("arithmetic")
                elif name in OF_THE_SHELL:
                    self.holds.add("a variable of the shell")
                i += 2
                while i < len(tokens) and tokens[i] not in (("op", ";"), ("op", "\n")):
                    word = tokens[i][1]
                    if word != "in":
                        self.substitutions(word)
                        if "{" in word or re.search(r"\$(?!\()", word):
                            self.holds.add("expansion in a list")
                    i += 1
            elif fresh and raw in ("fi", "done"):
                if raw == "done":
                    loops and loops.pop()
                if i + 1 < len(tokens) and tokens[i + 1][0] == "redirect":
                    self.holds.add("redirection of a compound")
            elif fresh and raw in ("{", "}"):
                self.holds.add("group")
            elif fresh and raw == "case":
                self.holds.add("case")
                while tokens[i][1] != "in":
                    i += 1
            elif fresh and raw == "esac":
                pass
            elif not command.words and re.match(r"[A-Za-z_]\w*(\[.*?\])?\+?=", raw):
                command.assigned.append(raw)
                self.substitutions(raw)
            else:
                command.words.append(raw)
                self.substitutions(raw)
            i += 1
        end()

    def substitutions(self, word):
        for inner in inner_texts(word):
            self.read(inner)


def tokenize(text, holds):
    """Operators, redirections and words of a text; comments and the bodies of here-documents are left out."""
    tokens, i, bodies = [], 0, []
    while i < len(text):
        c = text[i]
        if text.startswith("\\\n", i):
            i += 2
        elif c in " \t":
            i += 1
        elif c == "#":
            if tokens and tokens[-1] in (("op", "&&"), ("op", "||"), ("op", "|")):
                holds.add("comment behind an operator")
            while i < len(text) and text[i] != "\n":
                i += 1
        elif c == "\n":
            tokens.append(("op", "\n"))
            i += 1
            for delimiter in bodies:
                end = re.compile(r"^%s$" % re.escape(delimiter), re.M).search(text, i)
                i = end.end() + 1 if end else len(text)
            bodies = []
        else:
            redirect = re.compile(r"\d?(<<<|<<-?|<>|<&|>&|>>|>\||<(?!\()|>(?!\())|&>>?").match(text, i)
            operator = re.compile(r"&&|\|\||;;|\|&|[;&|()]").match(text, i)
            if redirect:
                tokens.append(("redirect", redirect.group()))
                i = redirect.end()
                if redirect.group().lstrip("0") in ("<<", "<<-"):
                    start = i + len(text[i:]) - len(text[i:].lstrip(" \t"))
                    word, i = read_word(text, start)
                    bodies.append(word.strip("'\""))
                    tokens.append(("word", word))
            elif operator:
                tokens.append(("op", operator.group()))
                i = operator.end()
            else:
                word, i = read_word(text, i)
                tokens.append(("word", word))
    return tokens


def read_word(text, i):
    start = i
    while i < len(text):
        c = text[i]
        if c == "\\":
            i += 2
        elif c == "'":
            i = text.index("'", i + 1) + 1
        elif c == '"':
            i += 1
            while text[i] != '"':
                if text[i] == "\\":
                    i += 2
                elif text.startswith("$(", i):
                    i = closing(text, i + 1)
                else:
                    i += 1
            i += 1
        elif c == "`":
            i = text.index("`", i + 1) + 1
        elif text.startswith(("$(", "<(", ">("), i):
            i = closing(text, i + 1)
        elif c == "(" and text[start:i].endswith("="):
            i = closing(text, i)
        elif text.startswith("${", i):
            i = text.index("}", i) + 1
        elif text.startswith("[[ ", i) and i == start:
            i = text.index(" ]]", i) + 3
        elif text.startswith("((", i) and i == start:
            i = text.index("))", i) + 2
        elif c in " \t\n;&|()<>":
            break
        else:
            i += 1
    return text[start:i], max(i, start + 1) if i == start else i


def closing(text, i):
    depth = 0
    while i < len(text):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        i += 1
        if depth == 0:
            return i
    return i


def inner_texts(word):
    bare = re.sub(r"'[^']*'", "", word) if '"' not in word else word
    for match in re.finditer(r"[$<>]\((?!\()", bare):
        yield bare[match.end():closing(bare, match.end() - 1) - 1]
    for match in re.finditer(r"`([^`]*)`", bare):
        yield match.group(1)


def unquoted(word):
    return re.sub(r"\\(.)", r"\1", re.sub(r"'([^']*)'|\"([^\"]*)\"", lambda m: m.group(1) or m.group(2) or "", word))


def expands(word):
    """Whether it asks about a word for what the shell would make of it."""
    if re.search(r"^\$'", word) or (word.startswith("'") and word.endswith("'") and "'" not in word[1:-1]):
        return word.startswith("$")
    plain = re.sub(r"'[^']*'", "", word)
    if "`" in plain or re.search(r"\$\(|[<>]\(", plain) or re.search(r"\$(?!HOME\b)[\w{?@*#!]", plain):
        return True
    bare = re.sub(r'"(\\.|[^"\\])*"', "", plain)
    return "{" in bare and "," in bare or ".." in bare and "{" in bare or bool(re.search(r"\\ ", bare))


class Pattern:
    """A rule for Bash: what its parentheses hold."""

    def __init__(self, rule):
        match = re.fullmatch(r"Bash(?:\((.*)\))?", rule, re.S)
        self.content = match and (match.group(1) if match.group(1) is not None else "*")
        self.all = self.content == "*"
        if not match or self.content in ("", ":*") or "\\" in (self.content or ""):
            self.content = None
        elif self.content != self.content.strip() or re.search(r" :\*$|\*.*:\*$|::\*$", self.content):
            self.content = None

    def matches(self, text, whole=None, prefixes_only=False):
        """Whether it matches the text of a command; `whole` is the text that this stands in."""
        if self.content is None:
            return False
        if self.all:
            return True
        squeezed = " ".join(text.split())
        for form in (":*", " *"):
            if self.content.endswith(form) and "*" not in self.content[:-len(form)]:
                words = self.content[:-len(form)]
                return squeezed == words or squeezed.startswith(words + " ")
        if prefixes_only and self.content.find("*") != len(self.content) - 1:
            return False
        if "*" in self.content:
            return re.fullmatch(re.escape(self.content).replace(r"\*", ".*"), squeezed, re.S) is not None
        return text == self.content and (whole is None or self.content in whole or "'" in whole or '"' in whole)


def strip_wrapper(words):
    """How many words a wrapper takes that it looks through; 0 where there is none."""
    def at(n):
        return words[n] if n < len(words) else ""
    duration = re.compile(r"\d+(\.\d+)?[smhd]?").fullmatch
    if at(0) == "timeout":
        n = 1
        while at(n).startswith("-"):
            n += 2 if at(n) in ("-k", "-s") else 1
        return n + 1 if duration(at(n)) else 0
    if at(0) == "nice":
        return 3 if at(1) == "-n" else 2 if re.fullmatch(r"-\d+", at(1)) else 1
    if at(0) == "stdbuf":
        return 2 if re.fullmatch(r"-[oei][L0]", at(1)) else 0
    if at(0) == "command":
        return 2 if at(1) == "-p" else 0 if at(1).startswith("-") else 1
    if at(0) in ("nohup", "time", "builtin"):
        return 0 if at(1).startswith("-") else 1
    if at(0) == "xargs":
        return 0 if at(1).startswith("-") or len(words) == 1 else 1
    return 0


def hidden_in(words):
    """The same for what deny and ask rules see through besides."""
    def at(n):
        return words[n] if n < len(words) else ""
    if at(0) == "env":
        n = 1
        while re.match(r"\w+=", at(n)) or at(n).startswith("-"):
            n += 1
        return n
    if at(0) in ("time", "sudo", "doas", "setsid", "strace", "exec", "ionice", "watch"):
        n = 1
        while at(n).startswith("-") and len(words) > n + 1:
            n += 1
        return n
    return strip_wrapper(words)


class Client:
    """Rules, by kind, and a permission mode."""

    def __init__(self, rules, mode):
        self.rules = {kind: [Pattern(rule) for rule in rules.get(kind, ()) if rule != "*"] for kind in ("deny", "ask", "allow")}
        self.mode = mode

    def decides(self, text, hook=None):
        """What becomes of a call with this text, where a hook has said `hook`."""
        parsed = Text(text)
        if self.restricts("deny", parsed) or hook == "deny":
            return DENIED
        no_one = DENIED if self.mode == "dontAsk" else ASKED
        if self.restricts("ask", parsed) or hook == "ask":
            return no_one
        if self.mode == "bypassPermissions":
            return RAN
        if hook == "allow" and self.mode != "plan":
            return RAN
        if self.allows(parsed):
            return RAN
        return JUDGED if self.mode == "auto" else no_one

    def restricts(self, kind, parsed):
        patterns = self.rules[kind]
        whole = any(p.matches(parsed.text) for p in patterns)
        readings = [r for c in parsed.commands for r in restricted_readings(c)]
        return whole or any(p.matches(text) and (not by_xargs or "*" in p.content) for text, by_xargs in readings for p in patterns)

    def allows(self, parsed):
        patterns = self.rules["allow"]
        if any(p.all for p in patterns):
            return True
        if any(p.content == parsed.text for p in patterns) and "|" not in parsed.text:
            return True
        forbidden = parsed.holds - {"pipe in a loop", "redirection in a loop"}
        if forbidden or {"pipe in a loop", "redirection in a loop"} <= parsed.holds:
            return False
        moves = [n for n, c in enumerate(parsed.commands) if c.words[:1] == ["cd"]]
        if len(moves) > 1:
            return False
        moved = False
        for number, command in enumerate(parsed.commands):
            if command.words[:1] == ["cd"]:
                if any(c.words[:1] == ["mkdir"] for c in parsed.commands[:number]):
                    return False
                target = unquoted(command.words[1]) if len(command.words) == 2 else ""
                if expands(target) or target.startswith(("/", "~")) or not target or "/.." in target:
                    return False
                if any(c.words[:1] == ["git"] for c in parsed.commands):
                    return False
                moved = True
                continue
            if not self.runs(command, moved, parsed.text):
                return False
        return True

    def runs(self, command, moved, whole):
        for operator, target in command.redirects:
            kind = operator.lstrip("0123456789")
            if kind.endswith((">&", "<&")):
                if not target.isdigit():
                    return False
            elif kind.startswith("<<") and kind != "<<<":
                # Where the body stands matters: `cat > FILE <<'END'` it knows, the other way round it does not.
                first = command.redirects[0][0].startswith("<<")
                if first or not target.startswith("'") or self.mode != "acceptEdits":
                    return False
            elif kind.startswith("<"):
                if expands(target):
                    return False
            elif target != "/dev/null" and not self.may_write(target, moved):
                return False
        if any(expands(w) for w in command.words + (command.assigned if command.words else [])):
            return False
        if command.words and command.words[0] in NEVER or "-exec" in command.words:
            return False
        if not command.words:
            return self.may_assign(command)
        raw = " ".join(command.assigned + command.words)
        first = unquoted(command.words[0])
        words = [first] + command.words[1:]
        texts, behind_xargs, by_xargs = [raw], [], False
        safe = all(re.fullmatch(r"\w+=[\w./:@%+-]+", a) and a.split("=")[0] in SAFE for a in command.assigned)
        if safe:
            texts.append(" ".join(words))
            while True:
                n = strip_wrapper(words)
                if not n or n >= len(words):
                    break
                by_xargs |= words[0] == "xargs"
                words = [unquoted(words[n])] + words[n + 1:]
                (behind_xargs if by_xargs else texts).append(" ".join(words))
        allow = self.rules["allow"]
        if any(p.matches(t, whole) for t in texts for p in allow):
            return True
        if any(p.matches(t, prefixes_only=True) for t in behind_xargs for p in allow):
            return True
        return safe and self.needs_no_rule(words, moved)

    def may_assign(self, command):
        if len(command.assigned) != 1:
            return not command.assigned
        name, _, value = command.assigned[0].partition("=")
        if name.rstrip("+") in OF_THE_SHELL or "[" in name or value.startswith(("(", "~")):
            return False
        return not expands(value) or bool(re.fullmatch(r"\$\(.*\)|`.*`", value, re.S))

    def may_write(self, path, moved):
        bare = unquoted(path)
        protected = re.search(r"(^|/)(\.git|\.claude|\.vscode|\.bashrc|\.gitmodules|\.mcp\.json)(/|$)", bare)
        inside = not bare.startswith(("/", "~")) and ".." not in bare and "$" not in bare
        return self.mode == "acceptEdits" and not moved and not protected and inside and not bare.startswith("link")

    def may_read(self, path):
        bare = unquoted(path)
        return not bare.startswith(("/", "~")) and "/.." not in bare

    def needs_no_rule(self, words, moved):
        name, rest = words[0], words[1:]
        options = [w for w in rest if w.startswith("-")]
        others = [w for w in rest if not w.startswith("-")]
        if name in WRITES_UNASKED:
            if name in ("touch", "mkdir") and any(o not in ("-p", "-pv", "-m") for o in options):
                return False
            return all(self.may_write(w, moved) for w in others) and self.mode == "acceptEdits"
        if name == "git":
            return bool(rest) and rest[0] in GIT_LOOKS
        if name == "sed":
            if "-i" in options:
                return self.mode == "acceptEdits"
            return not any("$" in w for w in rest)
        if name == "xargs":
            return False
        if name == "cd" or name not in LOOKS and not name.startswith("[[ -"):
            return False
        if name == "echo" or name == "printf":
            return "-v" not in options and not any("\\ " in w for w in others if w[:1] not in "'\"")
        if name == "find":
            return not any(w in ("-delete", "-exec", "-ok") for w in rest)
        if name == "sort":
            return all(re.fullmatch(r"-[a-z]+", o) and "o" not in o for o in options)
        if name in ("grep", "egrep"):
            return not any(w.startswith("'") and "$" in w for w in others) and all(self.may_read(w) for w in others[1:])
        if name in ("[", "test"):
            return True
        if name.startswith("[[ -"):
            return True
        if name == "tail" and "-f" in options:
            return True
        return all(self.may_read(w) for w in others)


def restricted_readings(command):
    """The texts by which deny and ask rules know a command, and whether they were found behind xargs."""
    words = [unquoted(w) for w in command.words]
    by_xargs = False
    yield " ".join(command.assigned + command.words), False
    yield " ".join(command.words), False
    while words:
        yield " ".join(words), by_xargs
        if "/" in words[0]:
            yield " ".join([words[0].rsplit("/", 1)[1]] + words[1:]), by_xargs
        n = hidden_in(words)
        if not n or n >= len(words):
            break
        by_xargs |= words[0] == "xargs"
        words = words[n:]
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
