//! Rule `functions`: a function has at most 70 lines, from the line with `fn` to its closing brace.
//! Tests are included: a test that no screen holds is as hard to read.

use super::Finding;
use super::rust::Source;
use super::tree::Tree;

/// What one screen holds.
const MOST: usize = 70;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        for function in functions(&Source::scan(&file.text).code) {
            if function.lines > MOST {
                let problem = format!(
                    "fn {} has {} lines, at most {MOST} are allowed",
                    function.name, function.lines
                );
                findings.push(Finding::new(&file.path, function.line, problem));
            }
        }
    }
    findings
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    /// Where `fn` stands, counted from 1.
    line: usize,
    /// From there to the closing brace, both included.
    lines: usize,
}

/// The functions with a body in `code`, which holds no strings and no comments.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ").map(|at| from + at) {
        from = at + "fn ".len();
        let in_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String =
            code[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if in_word || name.is_empty() {
            // The end of another word, or the type `fn (..)`.
            continue;
        }
        if let Some(end) = end_of_body(code, from) {
            let line = 1 + code[..at].matches('\n').count();
            found.push(Function { name, line, lines: 1 + code[at..end].matches('\n').count() });
        }
    }
    found
}

/// Where the closing brace stands of the body that begins behind `from`; none for a declaration
/// without one.
fn end_of_body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            // In `[u8; 4]` it ends nothing.
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && brackets == 0 {
                    return Some(from + at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_71_lines_is_found() {
        let body = |lines: usize| format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
        assert!(check(&Tree::of(&[("src/a.rs", &body(70))])).is_empty());
        let found = check(&Tree::of(&[("src/a.rs", &body(71))]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].problem, "fn long has 71 lines, at most 70 are allowed");
    }

    #[test]
    fn lines_are_counted_from_fn_to_brace() {
        let code = "trait A { fn none(a: [u8; 4]); }\nfn a(\n  b: fn(u8) -> u8,\n) -> [u8; 2] {\n  \
                    if b { c }\n}\nfn d() {}\n";
        let expected =
            [("none", 0, 0), ("a", 2, 5), ("d", 7, 1)].into_iter().filter(|(_, line, _)| *line > 0);
        let expected: Vec<_> = expected
            .map(|(name, line, lines)| Function { name: name.to_owned(), line, lines })
            .collect();
        assert_eq!(functions(code), expected);
    }
}
