//! Walks the parser's tree and collects the simple commands.

use std::ops::Range;

use shuck_ast as ast;
use shuck_ast::{Command, CompoundCommand, RedirectKind, RedirectTarget, WordPart};

use super::inside::{self, Found, Quotes};
use super::reasons::{self, Defined, Shown};
use super::strict::Strict;
use super::words::{Word, decode};
use super::wrappers::look_through;
use super::{Assignment, Dialect, Part, Redirection, Script, StdinFrom, Unparsed};

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
        strict: Strict(text),
        dialect,
        parts: Vec::new(),
        defined: Defined::default(),
        plain: !substitutes,
        branching: !substitutes,
        grouped: false,
        tries: inside::TRIES,
        level: 0,
    };
    walk.seq(&file.body, Around::default())?;
    let Walk {
        mut parts,
        defined,
        plain,
        branching,
        grouped,
        ..
    } = walk;
    parts.sort_by_key(|p| (p.span.start, p.span.end));
    // `a[$(x)]=$(x)]=1`: where a subscript ends is not always sure, and what stands there is then met twice.
    parts.dedup_by(|b, a| a.span == b.span && a.site == b.site && a.argv == b.argv);
    let shown = Shown::of(text, &parts);
    for part in &mut parts {
        if part.left_alone.is_none() {
            part.left_alone = defined.shadows(part).or_else(|| shown.reason(part));
        }
    }
    Ok(Script {
        parts,
        sources: defined.sources,
        plain,
        branching,
        grouped,
    })
}

/// What stands around a command.
#[derive(Clone, Copy, Default)]
struct Around {
    stdin: StdinFrom,
    depth: usize,
    background: bool,
    /// Directly under the keyword `time`.
    timed: bool,
    /// The text itself gives it its input, though no operator stands right before it.
    fed: bool,
    in_function: bool,
    /// It stands in a loop or function.
    repeated: bool,
    /// It is given a descriptor above 2.
    handed: bool,
    left_alone: Option<&'static str>,
}

impl Around {
    fn deeper(self) -> Self {
        Around {
            depth: self.depth + 1,
            timed: false,
            fed: false,
            ..self
        }
    }

    /// The body of a function: where it is called from is not known, so neither is its standard input.
    fn of_function(self) -> Self {
        Around {
            stdin: StdinFrom::Inherited,
            in_function: true,
            repeated: true,
            ..self.deeper()
        }
    }

    /// For words that only mean something to the shell itself, and that the grammar treats apart.
    fn of_the_shell(self) -> Self {
        self.left_as("it is a declaration or jump of the shell")
    }

    /// What is not touched itself, for that reason; what stands in its words may be.
    fn left_as(self, why: &'static str) -> Self {
        Around {
            left_alone: self.left_alone.or(Some(why)),
            ..self
        }
    }

    /// Inside something whose commands are listed but never touched.
    fn untouched(self, why: &'static str) -> Self {
        self.left_as(why).deeper()
    }
}

struct Walk<'a> {
    text: &'a str,
    strict: Strict<'a>,
    dialect: Dialect,
    parts: Vec<Part>,
    defined: Defined,
    plain: bool,
    branching: bool,
    grouped: bool,
    /// Tries left at finding the ends of substitutions.
    tries: u32,
    /// How many texts inside one another are being walked.
    level: u32,
}

/// Texts in texts are looked into this deep.
const MAX_LEVEL: u32 = 5;

/// Words that no command starts with.
const CLOSING: [&str; 8] = ["then", "else", "elif", "fi", "do", "done", "esac", "}"];

type Done = Result<(), Unparsed>;

impl<'a> Walk<'a> {
    fn seq(&mut self, seq: &ast::StmtSeq, around: Around) -> Done {
        for (i, stmt) in seq.iter().enumerate() {
            if self.dialect == Dialect::Bash {
                self.strict.apart(stmt, i == 0)?;
            }
            self.stmt(stmt, around)?;
        }
        Ok(())
    }

    /// The commands of a compound command, of which bash wants at least one.
    fn body(&mut self, seq: &ast::StmtSeq, around: Around) -> Done {
        if self.dialect == Dialect::Bash && seq.iter().next().is_none() {
            return Err(Unparsed::new(
                "the text has a compound command without any command",
            ));
        }
        self.seq(seq, around)
    }

    fn stmt(&mut self, stmt: &ast::Stmt, mut around: Around) -> Done {
        if matches!(stmt.terminator, Some(ast::StmtTerminator::Background(_))) {
            around.background = true;
            self.groups();
        }
        let redirects = self.redirects(&stmt.redirects, &mut around)?;
        match &stmt.command {
            Command::Simple(c) => {
                let words = std::iter::once(&c.name).chain(&c.args).map(|w| w.span);
                self.assignments(&c.assignments, around)?;
                for word in std::iter::once(&c.name).chain(&c.args) {
                    if self.dialect == Dialect::Bash {
                        self.strict.word(word)?;
                    }
                    self.word(word, around)?;
                }
                let own = if self.has_process_substitution(c)? {
                    around.left_as("it is given a process substitution, which a node has not")
                } else {
                    around
                };
                self.part(c.span, words, &c.assignments, redirects, own)
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
                let branches = matches!(
                    c,
                    CompoundCommand::If(_)
                        | CompoundCommand::For(_)
                        | CompoundCommand::While(_)
                        | CompoundCommand::Until(_)
                );
                if matches!(c, CompoundCommand::Conditional(_)) {
                    self.branching = false;
                } else if !branches {
                    self.groups();
                }
                self.plain = false;
                self.branching &= redirects.is_empty();
                around.repeated |= matches!(
                    c,
                    CompoundCommand::For(_)
                        | CompoundCommand::Foreach(_)
                        | CompoundCommand::Repeat(_)
                        | CompoundCommand::ArithmeticFor(_)
                        | CompoundCommand::While(_)
                        | CompoundCommand::Until(_)
                        | CompoundCommand::Select(_)
                );
                self.compound(c, around.deeper())
            }
            Command::Function(f) => {
                self.groups();
                for entry in &f.header.entries {
                    match decode(self.slice(range(entry.word.span))?, self.dialect) {
                        Word::Static(name) => drop(self.defined.names.insert(name)),
                        Word::Dynamic | Word::Flag(_) => self.defined.any = true,
                    }
                }
                self.stmt(&f.body, around.of_function())
            }
            Command::AnonymousFunction(f) => {
                self.groups();
                for word in &f.args {
                    self.word(word, around)?;
                }
                self.stmt(&f.body, around.deeper())
            }
        }
    }

    /// Notes a command that is more than simple ones joined or branched over.
    fn groups(&mut self) {
        self.plain = false;
        self.branching = false;
        self.grouped = true;
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
                self.body(&c.condition, around)?;
                self.body(&c.then_branch, around)?;
                for (condition, branch) in &c.elif_branches {
                    self.body(condition, around)?;
                    self.body(branch, around)?;
                }
                c.else_branch.as_ref().map_or(Ok(()), |b| self.body(b, around))
            }
            CompoundCommand::For(c) => {
                self.words(c.words.iter().flatten(), around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::Repeat(c) => {
                self.word(&c.count, around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::Foreach(c) => {
                self.words(&c.words, around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::ArithmeticFor(c) => {
                for span in [c.init_span, c.condition_span, c.step_span].into_iter().flatten() {
                    self.search(span, Quotes::Double, around)?;
                }
                self.body(&c.body, around)
            }
            CompoundCommand::While(c) => {
                self.body(&c.condition, around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::Until(c) => {
                self.body(&c.condition, around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::Case(c) => {
                self.word(&c.word, around)?;
                for case in &c.cases {
                    if self.dialect == Dialect::Bash {
                        self.strict.patterns(&case.patterns)?;
                    }
                    for pattern in &case.patterns {
                        self.search(pattern.span, Quotes::Word, around)?;
                    }
                    self.seq(&case.body, around)?;
                }
                Ok(())
            }
            CompoundCommand::Select(c) => {
                self.words(&c.words, around)?;
                self.body(&c.body, around)
            }
            CompoundCommand::Subshell(seq) => self.body(seq, around),
            CompoundCommand::BraceGroup(seq) => {
                if self.dialect == Dialect::Bash {
                    self.strict.group(seq)?;
                }
                self.body(seq, around)
            }
            CompoundCommand::Arithmetic(c) => {
                self.strict.arithmetic_end(c.right_paren_span)?;
                c.expr_span
                    .map_or(Ok(()), |span| self.search(span, Quotes::Double, around))
            }
            CompoundCommand::Time(c) => c
                .command
                .as_deref()
                .map_or(Ok(()), |inner| self.stmt(inner, around)),
            CompoundCommand::Conditional(c) => {
                self.strict.condition_end(c.right_bracket_span)?;
                self.condition(&c.expression, around)
            }
            CompoundCommand::Coproc(c) => self.stmt(
                &c.body,
                Around {
                    stdin: StdinFrom::Pipe,
                    fed: true,
                    ..around
                },
            ),
            CompoundCommand::Always(c) => {
                self.body(&c.body, around)?;
                self.body(&c.always_body, around)
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
            ast::ConditionalExpr::Pattern(p) => self.search(p.span, Quotes::Word, around),
            ast::ConditionalExpr::VarRef(r) => self.search(r.span, Quotes::Double, around),
        }
    }

    /// Whether a command's words or assignments hold the name of a descriptor or temporary file that stands for a command.
    fn has_process_substitution(&self, c: &ast::SimpleCommand) -> Result<bool, Unparsed> {
        let values = c.assignments.iter().filter_map(|a| match &a.value {
            ast::AssignmentValue::Scalar(w) => Some(w),
            ast::AssignmentValue::Compound(_) => None,
        });
        for word in c.args.iter().chain(values) {
            let substitutes = |p: &ast::WordPartNode| matches!(p.kind, WordPart::ProcessSubstitution { .. });
            let into_file = self.dialect == Dialect::Zsh && self.slice(range(word.span))?.starts_with("=(");
            if into_file || word.parts.iter().any(substitutes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn words<'w>(&mut self, words: impl IntoIterator<Item = &'w ast::Word>, around: Around) -> Done {
        words.into_iter().try_for_each(|w| self.word(w, around))
    }

    /// Commands inside a word.
    fn word(&mut self, word: &ast::Word, around: Around) -> Done {
        self.word_parts(&word.parts, Quotes::Word, around)
    }

    fn word_parts(&mut self, parts: &[ast::WordPartNode], quotes: Quotes, around: Around) -> Done {
        for part in parts {
            self.strict.closed(part.span)?;
            match &part.kind {
                WordPart::DoubleQuoted { parts, .. } => self.word_parts(parts, Quotes::Double, around)?,
                WordPart::CommandSubstitution { body, syntax } => {
                    self.substitution(body, *syntax, part.span, quotes, around)?;
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
                WordPart::Literal(_) | WordPart::SingleQuoted { .. } | WordPart::Variable(_) => {}
                WordPart::ArithmeticExpansion { .. } => self.expansion(part.span, Quotes::Double, around)?,
                _ => self.expansion(part.span, quotes, around)?,
            }
        }
        Ok(())
    }

    fn substitution(
        &mut self,
        body: &ast::StmtSeq,
        syntax: ast::CommandSubstitutionSyntax,
        span: ast::Span,
        quotes: Quotes,
        around: Around,
    ) -> Done {
        let backtick = syntax == ast::CommandSubstitutionSyntax::Backtick;
        // Backslashes inside backticks are read twice, and the parser's offsets no longer tell.
        if backtick && self.slice(range(span))?.contains('\\') {
            return self.search(span, quotes, around);
        }
        self.seq(body, around.deeper())
    }

    /// Commands in `$((...))`, `${...}` and the like, where `span` is sure to be that of one.
    fn expansion(&mut self, span: ast::Span, quotes: Quotes, around: Around) -> Done {
        let source = self.slice(range(span))?;
        // What the span opens with is no substitution, and `$` before it is passed over as a letter would be.
        let whole = source.starts_with('$') && source.ends_with(['}', ')', ']']);
        if whole {
            self.search(span, quotes, around)
        } else {
            Ok(())
        }
    }

    /// Commands in a piece of source that the parser does not place.
    fn search(&mut self, span: ast::Span, quotes: Quotes, around: Around) -> Done {
        let found = inside::search(self.text, range(span), quotes, self.dialect, &mut self.tries);
        found.iter().try_for_each(|one| self.inner(one, around))
    }

    /// Walks a text inside the text, and carries back what it holds.
    fn inner(&mut self, found: &Found, around: Around) -> Done {
        if self.level >= MAX_LEVEL {
            return Ok(());
        }
        // What does not parse by itself is passed over: nothing in it is touched.
        let Ok(file) = super::clean(&found.inner, self.dialect) else {
            return Ok(());
        };
        let around = if found.unsure {
            around.untouched("inside backticks with escaped quotes")
        } else {
            around.deeper()
        };
        let mut walk = self.below(&found.inner);
        walk.seq(&file.body, around)?;
        self.tries = walk.tries;
        self.grouped |= walk.grouped;
        self.defined.merge(walk.defined, |offset| {
            found.offsets.get(offset).copied().unwrap_or_default()
        });
        let at = |offset: usize| found.offsets.get(offset).copied().ok_or_else(odd_span);
        let carried = |r: &Range<usize>| Ok::<_, Unparsed>(at(r.start)?..at(r.end)?);
        for mut part in walk.parts {
            part.span = carried(&part.span)?;
            part.site = at(part.site)?;
            for redirect in &mut part.redirects {
                redirect.span = carried(&redirect.span)?;
            }
            self.parts.push(part);
        }
        Ok(())
    }

    /// Takes in what a text defines that an `eval` at `at` runs.
    fn evaluated(&mut self, text: &str, at: usize, around: Around) -> Done {
        let file = super::clean(text, self.dialect);
        let Some(file) = file.ok().filter(|_| self.level < MAX_LEVEL) else {
            self.defined.note_unread(at);
            return Ok(());
        };
        let mut walk = self.below(text);
        if walk.seq(&file.body, around.deeper()).is_err() {
            self.defined.note_unread(at);
        }
        self.tries = walk.tries;
        self.defined.merge(walk.defined, |_| at);
        Ok(())
    }

    /// A walk through a text that stands in this one.
    fn below<'t>(&self, text: &'t str) -> Walk<'t> {
        Walk {
            text,
            strict: Strict(text),
            dialect: self.dialect,
            parts: Vec::new(),
            defined: Defined::default(),
            plain: false,
            branching: false,
            grouped: false,
            tries: self.tries,
            level: self.level + 1,
        }
    }

    fn assignments(&mut self, assignments: &[ast::Assignment], around: Around) -> Done {
        for a in assignments {
            let subscript = match a.target.subscript {
                Some(_) => {
                    self.search(a.target.span, Quotes::Double, around)?;
                    let written = self.slice(range(a.span))?;
                    let key = written.split_once('[').and_then(|(_, k)| k.split_once(']'));
                    Some(key.map_or(Word::Dynamic, |(k, _)| decode(k, self.dialect)))
                }
                None => None,
            };
            self.defined
                .note_assignment(a.target.name.as_str(), subscript, self.dialect);
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
            self.strict.target(r)?;
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
                    if h.body.mode.expands() {
                        self.search(h.body.span, Quotes::Double, *around)?;
                    }
                    Word::Static(h.delimiter.cooked.to_string())
                }
            };
            let mut span = range(r.span);
            if let Some(name) = &r.fd_var {
                span.start = span.start.saturating_sub(name.as_str().len() + "{}".len());
            }
            let closes = self.slice(span.clone())?.ends_with("&-");
            if (r.fd_var.is_some() || r.fd.is_some_and(|fd| fd > 2)) && !closes {
                *around = around.left_as(reasons::DESCRIPTOR);
                around.handed = true;
            }
            out.push(Redirection { span, writes, target });
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
        if self.dialect == Dialect::Bash {
            self.strict.pieces(pieces())?;
        }
        // The keyword `time` takes it for itself.
        if around.timed && self.slice(name.clone())? == "--" {
            return Err(Unparsed::new("`time --` is not followed"));
        }
        let start = pieces().map(|p| p.start).min().unwrap_or(span.start);
        let end = pieces().map(|p| p.end).max().unwrap_or(span.end);
        self.slice(start..end)?;
        // zsh: `make test2() { ...; }` defines both names.
        if self.text[end..].trim_start_matches([' ', '\t']).starts_with("()") {
            return Err(Unparsed::new("the text defines a function of several names"));
        }

        let mut assignments = assigned
            .iter()
            .map(|a| self.assignment(a))
            .collect::<Result<Vec<_>, _>>()?;
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
            if assigned.is_empty() && raws.first().is_some_and(|word| CLOSING.contains(word)) {
                return Err(Unparsed::new("the text closes what is not open"));
            }
            let front = look_through(&raws, self.dialect);
            site = spans.get(front.skip).map_or(site, |s| s.start);
            argv.extend(raws[front.skip..].iter().map(|raw| decode(raw, self.dialect)));
            wrappers.extend(front.wrappers);
            assignments.extend(front.assignments);
            left_alone = left_alone
                .or(front.left_alone)
                .or_else(|| reasons::own(&argv))
                .or_else(|| self.misplaced(site));
            let written = raws.get(front.skip..).unwrap_or_default();
            // In a loop or function what stands before may run after.
            let from = if around.repeated { 0 } else { end };
            if let Some(text) = self.defined.note(&argv, written, from) {
                self.evaluated(&text, from, around)?;
            }
            if around.handed {
                self.defined.note_handed(&argv);
            }
        }
        self.parts.push(Part {
            span: start..end,
            site,
            argv,
            assignments,
            wrappers,
            stdin: around.stdin,
            fed: around.fed,
            redirects,
            left_alone,
            in_function: around.in_function,
            depth: around.depth,
            background: around.background,
        });
        Ok(())
    }

    fn assignment(&self, assigned: &ast::Assignment) -> Result<Assignment, Unparsed> {
        let value = match &assigned.value {
            ast::AssignmentValue::Scalar(w) if !assigned.append && assigned.target.subscript.is_none() => {
                decode(self.slice(range(w.span))?, self.dialect)
            }
            _ => Word::Dynamic,
        };
        Ok(Assignment {
            name: assigned.target.name.to_string(),
            value,
        })
    }

    /// Refuses a site that does not stand after a blank or an operator.
    fn misplaced(&self, site: usize) -> Option<String> {
        let before = self.text.as_bytes()[..site].last();
        let fine = before.is_none_or(|b| b" \t\n;&|()`".contains(b));
        (!fine).then(|| "the command word is not clearly apart from what precedes it".to_owned())
    }

    fn slice(&self, range: Range<usize>) -> Result<&'a str, Unparsed> {
        self.text.get(range).ok_or_else(odd_span)
    }
}

pub(super) fn odd_span() -> Unparsed {
    Unparsed::new("the parser's positions do not fit the text")
}

pub(super) fn range(span: ast::Span) -> Range<usize> {
    span.start.offset()..span.end.offset()
}
