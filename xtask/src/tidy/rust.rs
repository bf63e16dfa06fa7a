//! Reads Rust sources as far as the rules need it: what is code, what is a string, what is a
//! comment, and where the tests of a file begin. No parser: a scanner that knows quotes.

/// A string literal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// The line on which it begins, counted from 1.
    pub(super) line: usize,
    /// What stands between its quotes, escapes as they are written.
    pub(super) text: String,
}

/// A source, split into code and string literals.
pub(super) struct Source {
    /// The code; each character of a comment or of a string's content is a space. Lines are where
    /// they were.
    pub(super) code: String,
    /// The string literals, in order.
    pub(super) literals: Vec<Literal>,
}

impl Source {
    /// Scans `text`.
    pub(super) fn scan(text: &str) -> Self {
        let mut scanner = Scanner {
            chars: text.chars().collect(),
            at: 0,
            line: 1,
            code: String::with_capacity(text.len()),
            literals: Vec::new(),
        };
        scanner.run();
        Self { code: scanner.code, literals: scanner.literals }
    }

    /// The line on which the tests of the file begin (`#[cfg(test)]` over a module), or one past
    /// its end.
    pub(super) fn first_line_of_tests(&self) -> usize {
        let lines: Vec<&str> = self.code.lines().collect();
        let begins = |at: usize| {
            lines[at].starts_with("#[cfg(test)]")
                && lines[at + 1..].iter().find(|line| !line.trim().is_empty()).is_some_and(|line| {
                    let line = line.trim_start_matches("pub(crate) ");
                    // `mod tests;` is another file: what follows it here is product.
                    line.starts_with("mod ") && line.trim_end().ends_with('{')
                })
        };
        (0..lines.len()).find(|at| begins(*at)).map_or(lines.len() + 1, |at| at + 1)
    }
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    literals: Vec<Literal>,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Takes one character as code.
    fn keep(&mut self) {
        let c = self.peek(0);
        self.code.push(c);
        self.line += usize::from(c == '\n');
        self.at += 1;
    }

    /// Takes one character as something else than code.
    fn mask(&mut self) -> char {
        let c = self.peek(0);
        self.code.push(if c == '\n' { '\n' } else { ' ' });
        self.line += usize::from(c == '\n');
        self.at += 1;
        c
    }

    fn run(&mut self) {
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.mask();
                    }
                }
                ('/', '*') => self.block_comment(),
                ('"', _) => self.string(),
                ('r', '"' | '#') if !self.in_word() && self.raw_hashes().is_some() => self.raw(),
                ('\'', _) => self.quote(),
                _ => self.keep(),
            }
        }
    }

    /// Whether the character before belongs to a word, so that an `r` here begins no raw string.
    /// `br"` and `cr"` do begin one.
    fn in_word(&self) -> bool {
        let word = |back: usize| {
            self.at
                .checked_sub(back)
                .and_then(|at| self.chars.get(at))
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        };
        let prefix = self.at > 0 && matches!(self.chars[self.at - 1], 'b' | 'c');
        word(1) && (!prefix || word(2))
    }

    /// The number of `#` of the raw string that begins here, if one does.
    fn raw_hashes(&self) -> Option<usize> {
        let mut hashes = 0;
        while self.peek(1 + hashes) == '#' {
            hashes += 1;
        }
        (self.peek(1 + hashes) == '"').then_some(hashes)
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.mask();
                    continue;
                }
            }
            self.mask();
            self.mask();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        self.keep();
        let mut text = String::new();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                text.push(self.mask());
            }
            text.push(self.mask());
        }
        self.keep();
        self.literals.push(Literal { line, text });
    }

    fn raw(&mut self) {
        let line = self.line;
        let hashes = self.raw_hashes().unwrap_or_default();
        for _ in 0..hashes + 2 {
            self.keep();
        }
        let ends =
            |scanner: &Self| scanner.peek(0) == '"' && (1..=hashes).all(|n| scanner.peek(n) == '#');
        let mut text = String::new();
        while self.at < self.chars.len() && !ends(self) {
            text.push(self.mask());
        }
        for _ in 0..=hashes {
            self.keep();
        }
        self.literals.push(Literal { line, text });
    }

    /// A character literal, or the tick of a lifetime.
    fn quote(&mut self) {
        let long = self.peek(1) == '\\';
        self.keep();
        if long {
            self.mask();
            self.mask();
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.mask();
            }
            self.keep();
        } else if self.peek(1) == '\'' {
            self.mask();
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_no_code() {
        let text =
            "let a = \"x { \\\" y\"; // {\nlet b = r#\"} \" \"#; /* { /* } */ */ '{' 'a: '\\'';";
        let source = Source::scan(text);
        assert!(!source.code.contains(['{', '}']), "{}", source.code);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(
            source.literals,
            [
                Literal { line: 1, text: "x { \\\" y".to_owned() },
                Literal { line: 2, text: "} \" ".to_owned() },
            ]
        );
    }

    #[test]
    fn a_word_that_ends_in_r_begins_no_raw_string() {
        let source = Source::scan("for\"a\"; br\"b\\\"; c");
        let texts: Vec<_> = source.literals.iter().map(|literal| literal.text.as_str()).collect();
        assert_eq!(texts, ["a", "b\\"]);
    }

    #[test]
    fn tests_begin_at_their_module() {
        let source = Source::scan("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n");
        assert_eq!(source.first_line_of_tests(), 2);
        let source = Source::scan("#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert_eq!(source.first_line_of_tests(), 4);
    }
}
