//! Walks the parser's tree and collects the simple commands.

use std::collections::BTreeSet;
use std::ops::Range;

use shuck_ast as ast;
use shuck_ast::{Command, CompoundCommand, RedirectKind, RedirectTarget, WordPart};

use super::words::{Word, decode};
use super::wrappers::look_through;
use super::{Dialect, Part, Redirection, Script, StdinFrom, Unparsed};

/// Collects the commands of a parsed file.
pub(super) fn script(text: &str, dialect: Dialect, file: &ast::File) -> Result<Script, Unparsed> {
    if text.contains("expand_aliases") {
        return Err(Unparsed::new("the text switches aliases on or off"));
    }
    let substitutes = ["$(", "`", "${", "$[", "<(", ">(", "=("]
        .iter()
        .any(|s| text.contains(s));
    let mut walk = Walk {
        text,
        dialect,
        parts: Vec::new(),
        defined: Defined::default(),
        plain: !substitutes,
    };
    walk.seq(&file.body, Around::default())?;
    let Walk {
        mut parts,
        defined,
        plain,
        ..
    } = walk;
    parts.sort_by_key(|p| p.span.start);
    for part in &mut parts {
        if part.left_alone.is_none() {
            part.left_alone = defined.shadows(part);
        }
    }
    Ok(Script { parts, plain })
}

/// What stands around a command.
#[derive(Clone, Copy, Default)]
struct Around {
    stdin: StdinFrom,
    depth: usize,
    background: bool,
    /// Directly under the keyword `time`.
    timed: bool,
    left_alone: Option<&'static str>,
}

impl Around {
    fn deeper(self) -> Self {
        Around {
            depth: self.depth + 1,
            timed: false,
            ..self
        }
    }

    /// For words that only mean something to the shell itself, and that the grammar treats apart.
    fn of_the_shell(self) -> Self {
        Around {
            left_alone: self
                .left_alone
                .or(Some("it is a declaration or jump of the shell")),
            ..self
        }
    }

    /// Inside something whose commands are listed but never touched.
    fn untouched(self, why: &'static str) -> Self {
        Around {
            left_alone: self.left_alone.or(Some(why)),
            ..self.deeper()
        }
    }
}

/// Names that the text itself gives a new meaning.
#[derive(Default)]
struct Defined {
    names: BTreeSet<String>,
    /// Set where a name is not known: then any may be meant.
    any: bool,
}

impl Defined {
    fn shadows(&self, part: &Part) -> Option<String> {
        if self.any {
            return Some("the text defines functions or aliases of unknown names".to_owned());
        }
        let program = part.argv.first().and_then(Word::text);
        part.wrappers
            .iter()
            .map(String::as_str)
            .chain(program)
            .find(|name| self.names.contains(*name))
            .map(|name| format!("the text defines `{name}` as a function or alias"))
    }
}

struct Walk<'a> {
    text: &'a str,
    dialect: Dialect,
    parts: Vec<Part>,
    defined: Defined,
    plain: bool,
}

type Done = Result<(), Unparsed>;

impl<'a> Walk<'a> {
    fn seq(&mut self, seq: &ast::StmtSeq, around: Around) -> Done {
        seq.iter().try_for_each(|stmt| self.stmt(stmt, around))
    }

    fn stmt(&mut self, stmt: &ast::Stmt, mut around: Around) -> Done {
        if matches!(stmt.terminator, Some(ast::StmtTerminator::Background(_))) {
            around.background = true;
            self.plain = false;
        }
        let redirects = self.redirects(&stmt.redirects, &mut around)?;
        match &stmt.command {
            Command::Simple(c) => {
                let words = std::iter::once(&c.name).chain(&c.args).map(|w| w.span);
                self.assignments(&c.assignments, around)?;
                for word in std::iter::once(&c.name).chain(&c.args) {
                    self.word(word, around)?;
                }
                self.part(c.span, words, &c.assignments, redirects, around)
            }
            Command::Decl(c) => {
                self.assignments(&c.assignments, around)?;
                let mut spans = vec![c.variant_span];
                for operand in &c.operands {
                    spans.push(match operand {
                        ast::DeclOperand::Flag(w) | ast::DeclOperand::Dynamic(w) => {
                            self.word(w, around)?;
                            w.span
                        }
                        ast::DeclOperand::Name(r) => r.span,
                        ast::DeclOperand::Assignment(a) => {
                            self.assignments(std::slice::from_ref(a), around)?;
                            a.span
                        }
                    });
                }
                self.part(c.span, spans, &c.assignments, redirects, around.of_the_shell())
            }
            Command::Builtin(c) => {
                let (first, rest, assignments, span) = match c {
                    ast::BuiltinCommand::Break(c) => (&c.depth, &c.extra_args, &c.assignments, c.span),
                    ast::BuiltinCommand::Continue(c) => (&c.depth, &c.extra_args, &c.assignments, c.span),
                    ast::BuiltinCommand::Return(c) => (&c.code, &c.extra_args, &c.assignments, c.span),
                    ast::BuiltinCommand::Exit(c) => (&c.code, &c.extra_args, &c.assignments, c.span),
                };
                self.assignments(assignments, around)?;
                for word in first.iter().chain(rest) {
                    self.word(word, around)?;
                }
                let name = match c {
                    ast::BuiltinCommand::Break(_) => "break",
                    ast::BuiltinCommand::Continue(_) => "continue",
                    ast::BuiltinCommand::Return(_) => "return",
                    ast::BuiltinCommand::Exit(_) => "exit",
                };
                self.builtin(
                    name,
                    span,
                    first.iter().chain(rest),
                    assignments,
                    redirects,
                    around.of_the_shell(),
                )
            }
            Command::Binary(c) => self.binary(c, around),
            Command::Compound(CompoundCommand::Time(c)) => c.command.as_deref().map_or(Ok(()), |inner| {
                self.stmt(
                    inner,
                    Around {
                        timed: true,
                        ..around
                    },
                )
            }),
            Command::Compound(c) => {
                self.plain = false;
                self.compound(c, around.deeper())
            }
            Command::Function(f) => {
                self.plain = false;
                for entry in &f.header.entries {
                    match decode(self.slice(range(entry.word.span))?, self.dialect) {
                        Word::Static(name) => drop(self.defined.names.insert(name)),
                        Word::Dynamic | Word::Flag(_) => self.defined.any = true,
                    }
                }
                // Where it is called from is not known, so neither is its standard input.
                self.stmt(&f.body, around.untouched("inside a function definition"))
            }
            Command::AnonymousFunction(f) => {
                self.plain = false;
                for word in &f.args {
                    self.word(word, around)?;
                }
                self.stmt(&f.body, around.untouched("inside a function definition"))
            }
        }
    }

    /// `a && b || c | d`: the tree leans left and may be a thousand deep, so its spine is walked in a loop.
    fn binary(&mut self, top: &ast::BinaryCommand, around: Around) -> Done {
        let around = Around {
            timed: false,
            ..around
        };
        let mut rights = Vec::new();
        let mut at = top;
        let first = loop {
            let piped = matches!(at.op, ast::BinaryOp::Pipe | ast::BinaryOp::PipeAll);
            rights.push((&*at.right, piped));
            match &at.left.command {
                Command::Binary(left) if at.left.redirects.is_empty() => at = left,
                _ => break &*at.left,
            }
        };
        self.stmt(first, around)?;
        for (stmt, piped) in rights.into_iter().rev() {
            let stdin = if piped { StdinFrom::Pipe } else { around.stdin };
            self.stmt(stmt, Around { stdin, ..around })?;
        }
        Ok(())
    }

    fn compound(&mut self, c: &CompoundCommand, around: Around) -> Done {
        match c {
            CompoundCommand::If(c) => {
                self.seq(&c.condition, around)?;
                self.seq(&c.then_branch, around)?;
                for (condition, branch) in &c.elif_branches {
                    self.seq(condition, around)?;
                    self.seq(branch, around)?;
                }
                c.else_branch.as_ref().map_or(Ok(()), |b| self.seq(b, around))
            }
            CompoundCommand::For(c) => {
                self.words(c.words.iter().flatten(), around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::Repeat(c) => {
                self.word(&c.count, around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::Foreach(c) => {
                self.words(&c.words, around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::ArithmeticFor(c) => self.seq(&c.body, around),
            CompoundCommand::While(c) => {
                self.seq(&c.condition, around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::Until(c) => {
                self.seq(&c.condition, around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::Case(c) => {
                self.word(&c.word, around)?;
                c.cases.iter().try_for_each(|case| self.seq(&case.body, around))
            }
            CompoundCommand::Select(c) => {
                self.words(&c.words, around)?;
                self.seq(&c.body, around)
            }
            CompoundCommand::Subshell(seq) | CompoundCommand::BraceGroup(seq) => self.seq(seq, around),
            CompoundCommand::Arithmetic(_) => Ok(()),
            CompoundCommand::Time(c) => c
                .command
                .as_deref()
                .map_or(Ok(()), |inner| self.stmt(inner, around)),
            CompoundCommand::Conditional(c) => self.condition(&c.expression, around),
            CompoundCommand::Coproc(c) => self.stmt(
                &c.body,
                Around {
                    stdin: StdinFrom::Pipe,
                    ..around
                },
            ),
            CompoundCommand::Always(c) => {
                self.seq(&c.body, around)?;
                self.seq(&c.always_body, around)
            }
        }
    }

    fn condition(&mut self, expr: &ast::ConditionalExpr, around: Around) -> Done {
        match expr {
            ast::ConditionalExpr::Binary(e) => {
                self.condition(&e.left, around)?;
                self.condition(&e.right, around)
            }
            ast::ConditionalExpr::Unary(e) => self.condition(&e.expr, around),
            ast::ConditionalExpr::Parenthesized(e) => self.condition(&e.expr, around),
            ast::ConditionalExpr::Word(w) | ast::ConditionalExpr::Regex(w) => self.word(w, around),
            ast::ConditionalExpr::Pattern(_) | ast::ConditionalExpr::VarRef(_) => Ok(()),
        }
    }

    fn words<'w>(&mut self, words: impl IntoIterator<Item = &'w ast::Word>, around: Around) -> Done {
        words.into_iter().try_for_each(|w| self.word(w, around))
    }

    /// Commands inside a word. Those in operands of `${x:-...}` and in arithmetic are not looked for: the parser
    /// reads these texts a second time, out of place.
    fn word(&mut self, word: &ast::Word, around: Around) -> Done {
        self.word_parts(&word.parts, around)
    }

    fn word_parts(&mut self, parts: &[ast::WordPartNode], around: Around) -> Done {
        for part in parts {
            match &part.kind {
                WordPart::DoubleQuoted { parts, .. } => self.word_parts(parts, around)?,
                WordPart::CommandSubstitution { body, syntax } => {
                    self.substitution(body, *syntax, part.span, around)?;
                }
                WordPart::ProcessSubstitution { body, is_input } => {
                    let stdin = if *is_input { around.stdin } else { StdinFrom::Pipe };
                    self.seq(
                        body,
                        Around {
                            stdin,
                            ..around.deeper()
                        },
                    )?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn substitution(
        &mut self,
        body: &ast::StmtSeq,
        syntax: ast::CommandSubstitutionSyntax,
        span: ast::Span,
        around: Around,
    ) -> Done {
        let backtick = syntax == ast::CommandSubstitutionSyntax::Backtick;
        // Backslashes inside backticks are read twice, and offsets no longer tell.
        if backtick && self.slice(range(span))?.contains('\\') {
            return Ok(());
        }
        self.seq(body, around.deeper())
    }

    fn assignments(&mut self, assignments: &[ast::Assignment], around: Around) -> Done {
        for a in assignments {
            match &a.value {
                ast::AssignmentValue::Scalar(w) => self.word(w, around)?,
                ast::AssignmentValue::Compound(array) => {
                    for element in &array.elements {
                        self.word(element.value(), around)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lists redirections, walks their words, and sets where standard input then comes from.
    fn redirects(
        &mut self,
        redirects: &[ast::Redirect],
        around: &mut Around,
    ) -> Result<Vec<Redirection>, Unparsed> {
        let mut out = Vec::with_capacity(redirects.len());
        for r in redirects {
            let is_stdin = r.fd_var.is_none() && r.fd.is_none_or(|fd| fd == 0);
            let (stdin, writes) = match r.kind {
                RedirectKind::Input | RedirectKind::DupInput => (Some(StdinFrom::File), false),
                RedirectKind::ReadWrite => (Some(StdinFrom::File), true),
                RedirectKind::HereDoc | RedirectKind::HereDocStrip | RedirectKind::HereString => {
                    (Some(StdinFrom::Heredoc), false)
                }
                RedirectKind::DupOutput => {
                    let to_fd = r
                        .word_target()
                        .and_then(|w| self.text.get(range(w.span)))
                        .is_some_and(|t| {
                            t == "-" || t.trim_end_matches('-').bytes().all(|b| b.is_ascii_digit())
                        });
                    (None, !to_fd)
                }
                RedirectKind::Output
                | RedirectKind::Clobber
                | RedirectKind::Append
                | RedirectKind::OutputBoth => (None, true),
            };
            let target = match &r.target {
                RedirectTarget::Word(w) => {
                    self.word(w, *around)?;
                    decode(self.slice(range(w.span))?, self.dialect)
                }
                RedirectTarget::Heredoc(h) => {
                    let inside = around.untouched("inside a here-document");
                    for part in &h.body.parts {
                        if let ast::HeredocBodyPart::CommandSubstitution { body, syntax } = &part.kind {
                            self.substitution(body, *syntax, part.span, inside)?;
                        }
                    }
                    Word::Static(h.delimiter.cooked.to_string())
                }
            };
            out.push(Redirection {
                span: range(r.span),
                writes,
                target,
            });
            if let (Some(stdin), true) = (stdin, is_stdin) {
                around.stdin = stdin;
            }
        }
        Ok(out)
    }

    fn builtin<'w>(
        &mut self,
        name: &str,
        span: ast::Span,
        args: impl Iterator<Item = &'w ast::Word>,
        assignments: &[ast::Assignment],
        redirects: Vec<Redirection>,
        around: Around,
    ) -> Done {
        // The tree keeps no span of the builtin's own name: it follows the assignments.
        let from = assignments
            .last()
            .map_or(range(span).start, |a| range(a.span).end);
        let found = self
            .slice(from..range(span).end)?
            .find(name)
            .ok_or_else(odd_span)?;
        let site = from + found;
        let args: Vec<Range<usize>> = args.map(|w| range(w.span)).collect();
        self.push(
            range(span),
            site..site + name.len(),
            args,
            assignments,
            redirects,
            around,
        )
    }

    fn part(
        &mut self,
        span: ast::Span,
        words: impl IntoIterator<Item = ast::Span>,
        assignments: &[ast::Assignment],
        redirects: Vec<Redirection>,
        around: Around,
    ) -> Done {
        let mut words = words.into_iter().map(range);
        let name = words.next().unwrap_or(0..0);
        let rest = words.collect();
        self.push(range(span), name, rest, assignments, redirects, around)
    }

    fn push(
        &mut self,
        span: Range<usize>,
        name: Range<usize>,
        rest: Vec<Range<usize>>,
        assigned: &[ast::Assignment],
        redirects: Vec<Redirection>,
        around: Around,
    ) -> Done {
        // The parser's own span of a command can include blanks and what follows: take that of its pieces.
        let pieces = || {
            let assigned = assigned.iter().map(|a| range(a.span));
            let redirects = redirects.iter().map(|r| r.span.clone());
            std::iter::once(name.clone())
                .filter(|n| !n.is_empty())
                .chain(rest.iter().cloned())
                .chain(assigned)
                .chain(redirects)
        };
        let start = pieces().map(|p| p.start).min().unwrap_or(span.start);
        let end = pieces().map(|p| p.end).max().unwrap_or(span.end);
        self.slice(start..end)?;

        let mut assignments: Vec<String> = assigned.iter().map(|a| a.target.name.to_string()).collect();
        let mut wrappers: Vec<String> = Vec::new();
        if around.timed {
            wrappers.push("time".to_owned());
        }
        let mut left_alone = around.left_alone.map(str::to_owned);
        let mut site = name.start;
        let mut argv = Vec::new();
        if name.is_empty() {
            site = end;
            left_alone.get_or_insert_with(|| "no program".to_owned());
        } else {
            let spans: Vec<Range<usize>> = std::iter::once(name).chain(rest).collect();
            let raws: Vec<&str> = spans
                .iter()
                .map(|s| self.slice(s.clone()))
                .collect::<Result<_, _>>()?;
            let front = look_through(&raws, self.dialect);
            site = spans.get(front.skip).map_or(site, |s| s.start);
            argv.extend(raws[front.skip..].iter().map(|raw| decode(raw, self.dialect)));
            wrappers.extend(front.wrappers);
            assignments.extend(front.assignments);
            left_alone = left_alone
                .or(front.left_alone)
                .or_else(|| own_reason(&argv))
                .or_else(|| self.misplaced(site));
            self.note_definitions(&argv);
        }
        self.parts.push(Part {
            span: start..end,
            site,
            argv,
            assignments,
            wrappers,
            stdin: around.stdin,
            fed: false,
            redirects,
            left_alone,
            depth: around.depth,
            background: around.background,
        });
        Ok(())
    }

    /// Refuses a site that does not stand after a blank or an operator.
    fn misplaced(&self, site: usize) -> Option<String> {
        let before = self.text.as_bytes()[..site].last();
        let fine = before.is_none_or(|b| b" \t\n;&|()`".contains(b));
        (!fine).then(|| "the command word is not clearly apart from what precedes it".to_owned())
    }

    fn note_definitions(&mut self, argv: &[Word]) {
        if argv.first().and_then(Word::text) != Some("alias") {
            return;
        }
        for arg in &argv[1..] {
            match arg.text() {
                // zsh: `alias -g X=...` replaces words anywhere, `-s` goes by suffix.
                Some(flag) if flag.starts_with('-') && flag != "-p" && flag != "--" => {
                    self.defined.any = true
                }
                Some(text) => {
                    if let Some((name, _)) = text.split_once('=') {
                        self.defined.names.insert(name.to_owned());
                    }
                }
                None => self.defined.any = true,
            }
        }
    }

    fn slice(&self, range: Range<usize>) -> Result<&'a str, Unparsed> {
        self.text.get(range).ok_or_else(odd_span)
    }
}

fn odd_span() -> Unparsed {
    Unparsed::new("the parser's positions do not fit the text")
}

fn range(span: ast::Span) -> Range<usize> {
    span.start.offset()..span.end.offset()
}

/// Commands that are left alone for what they are.
fn own_reason(argv: &[Word]) -> Option<String> {
    let Some(program) = argv.first().and_then(Word::text) else {
        return Some("the program's name is not a static word".to_owned());
    };
    let base = program.rsplit('/').next().unwrap_or(program);
    let why = match base {
        "xargs" | "parallel" => "starts its commands itself",
        "find" | "fd" | "fdfind"
            if argv.iter().filter_map(Word::text).any(|a| {
                matches!(
                    a,
                    "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X" | "--exec" | "--exec-batch"
                )
            }) =>
        {
            "starts its commands itself"
        }
        "sh" | "bash" | "zsh" | "dash" | "ksh" | "mksh" | "fish" | "ash" | "busybox" => {
            "is a shell of its own"
        }
        "eval" | "source" | "." | "trap" => "runs shell text",
        "sudo" | "doas" | "su" | "runuser" | "pkexec" | "gosu" => "changes the user",
        "!" | "{" | "}" | "[[" | "]]" | "if" | "then" | "else" | "elif" | "fi" | "do" | "done" | "case"
        | "esac" | "while" | "until" | "for" | "select" | "function" | "in" | "coproc" | "repeat"
        | "foreach" | "end" | "always" | "((" => "may be a word of the shell's grammar",
        "time" => "may be the keyword",
        "builtin" => "names a builtin of the shell",
        "" => "the program's name is empty",
        _ if base.starts_with('-') => "looks like an option",
        _ => return None,
    };
    Some(if base.is_empty() {
        why.to_owned()
    } else {
        format!("`{base}` {why}")
    })
}
