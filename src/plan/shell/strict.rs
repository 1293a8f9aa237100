//! What the parser takes and bash does not. Such a text is left as it is: what bash makes of its beginning is not known.

use std::ops::Range;

use shuck_ast as ast;
use shuck_ast::WordPart;

use super::Unparsed;
use super::walk::{odd_span, range};

/// A text, asked about pieces of its tree.
#[derive(Clone, Copy)]
pub(super) struct Strict<'a>(pub &'a str);

type Done = Result<(), Unparsed>;

fn refused(why: &str, when: bool) -> Done {
    if when { Err(Unparsed::new(why)) } else { Ok(()) }
}

impl Strict<'_> {
    fn slice(&self, range: Range<usize>) -> Result<&str, Unparsed> {
        self.0.get(range).ok_or_else(odd_span)
    }

    /// A command that nothing parts from the one before (`{ a; } b`), and an end of nothing (`a; ;`).
    pub(super) fn apart(&self, stmt: &ast::Stmt, first: bool) -> Done {
        let before = self
            .slice(0..range(stmt.span).start)?
            .trim_end_matches([' ', '\t']);
        let after = match stmt.terminator_span {
            Some(span) => self
                .slice(range(span).end..self.0.len())?
                .trim_start_matches([' ', '\t', '\n']),
            None => "",
        };
        let ends_nothing = after.starts_with(';') && !after.starts_with(";;") && !after.starts_with(";&");
        let apart = match first {
            true => !before.trim_end().ends_with(';'),
            false => before.ends_with([';', '&', '\n']),
        };
        refused(
            "the text has commands that nothing parts, or an end of none",
            ends_nothing || !apart,
        )
    }

    /// An expansion without its end.
    pub(super) fn closed(&self, span: ast::Span) -> Done {
        let source = self.slice(range(span))?;
        let ends = [("${", '}'), ("$(", ')'), ("`", '`'), ("<(", ')'), (">(", ')')];
        let open =
            |(start, end): &(&str, char)| source.starts_with(start) && !source[start.len()..].ends_with(*end);
        refused("the text has an expansion without an end", ends.iter().any(open))
    }

    /// A character in a word that bash would take for an operator there.
    pub(super) fn word(&self, word: &ast::Word) -> Done {
        let literals = word
            .parts
            .iter()
            .filter(|p| matches!(p.kind, WordPart::Literal(_)));
        for literal in literals.filter_map(|p| self.0.get(range(p.span))) {
            let mut before = ' ';
            for c in literal.chars() {
                let escaped = before == '\\';
                let operator = match c {
                    // `!(a)` and its like are patterns where the option for them is set.
                    '(' => !"?*+@!".contains(before),
                    ' ' | '\t' | '\n' | ';' | '&' | '|' => true,
                    _ => false,
                };
                refused("the text has an operator within a word", operator && !escaped)?;
                before = if escaped { ' ' } else { c };
            }
        }
        Ok(())
    }

    /// Something between the words of one command.
    pub(super) fn pieces(&self, pieces: impl Iterator<Item = Range<usize>>) -> Done {
        let mut pieces: Vec<_> = pieces.collect();
        pieces.sort_unstable_by_key(|p| (p.start, p.end));
        let mut end = pieces.first().map_or(0, |p| p.end);
        for piece in pieces {
            let between = self.slice(end.min(piece.start)..piece.start)?;
            let strange = between.contains(|c: char| !matches!(c, ' ' | '\t' | '\\' | '\n'));
            refused("the text has an operator within a command", strange)?;
            end = end.max(piece.end);
        }
        Ok(())
    }

    /// A group whose end is part of a word.
    pub(super) fn group(&self, commands: &ast::StmtSeq) -> Done {
        let Some(last) = commands.iter().last() else {
            return Ok(());
        };
        let in_word = matches!(last.command, ast::Command::Simple(_)) && last.terminator.is_none();
        let (inside, behind) = self
            .0
            .split_at_checked(range(commands.span).end)
            .ok_or_else(odd_span)?;
        let apart = inside.ends_with([' ', '\t', '\n']) || !behind.starts_with('}');
        refused("the text has a group without an end", in_word && !apart)
    }

    /// A redirection to nothing.
    pub(super) fn target(&self, redirect: &ast::Redirect) -> Done {
        const OPERATORS: [&str; 12] = [
            "&>>", "<<<", "<<-", "&>", ">&", "<&", ">|", "<>", ">>", "<<", ">", "<",
        ];
        let written = self.slice(range(redirect.span))?;
        // `&>> f` is two in the tree, and the second has no target of its own.
        if written == "&>>" {
            return Ok(());
        }
        let written = written.trim_start_matches(|c: char| c.is_ascii_digit());
        let target = OPERATORS.iter().find_map(|o| written.strip_prefix(o));
        let target = target.unwrap_or_default().trim_start_matches([' ', '\t']);
        let operator = target.starts_with(['|', '&', ';', '<', '>', '(', ')', '\n']);
        let process = target.starts_with("<(") || target.starts_with(">(");
        refused(
            "the text has a redirection to nothing",
            target.is_empty() || (operator && !process),
        )
    }

    /// A `case` with an empty pattern.
    pub(super) fn patterns(&self, patterns: &[ast::Pattern]) -> Done {
        let ended = match patterns.last() {
            Some(last) => self
                .slice(range(last.span).end..self.0.len())?
                .trim_start_matches([' ', '\t'])
                .starts_with(')'),
            None => false,
        };
        refused("the text has an empty pattern", !ended)
    }

    /// A `]]` that is part of a word.
    pub(super) fn condition_end(&self, bracket: ast::Span) -> Done {
        let before = self.slice(0..range(bracket).start)?;
        refused(
            "the text has a condition without an end",
            !before.ends_with([' ', '\t', '\n', ')']),
        )
    }

    /// Arithmetic that ends with another parenthesis than its own.
    pub(super) fn arithmetic_end(&self, end: ast::Span) -> Done {
        refused(
            "the text has an expression without an end",
            self.slice(range(end))? != "))",
        )
    }
}
