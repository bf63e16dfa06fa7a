//! Filters of documents, as text: `rating >= 1500 and not (name = "x" or credits in (1, 2))`.
//!
//! Fields are attributes, calculations, `key` and `version`; `inventory.0.name` goes into lists and
//! structs. `and` binds tighter than `or`. Values of different types are unequal, and neither is
//! less than the other. Called by [`super::read`], which refuses a filter that compares a field
//! with values of a type that the field never has.

use std::cmp::Ordering;

use serde_json::Value as Json;

/// The longest filter, in bytes.
const MAX_FILTER: usize = 4 << 10;
/// How deep brackets and `not` may be nested.
const MAX_DEPTH: usize = 32;

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A field against a value.
    Compare(String, Operator, Json),
    /// A field is one of these.
    In(String, Vec<Json>),
    /// A field lies between two values, both included.
    Between(String, Json, Json),
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// Whether it asks for an order, and not only for what is equal.
    pub(crate) fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::Unequal)
    }

    fn holds(self, found: &Json, wanted: &Json) -> bool {
        match self {
            Self::Equal => equal(found, wanted),
            Self::Unequal => !equal(found, wanted),
            Self::Less => order(found, wanted) == Some(Ordering::Less),
            Self::Greater => order(found, wanted) == Some(Ordering::Greater),
            Self::LessOrEqual => order(found, wanted).is_some_and(Ordering::is_le),
            Self::GreaterOrEqual => order(found, wanted).is_some_and(Ordering::is_ge),
        }
    }
}

impl Filter {
    /// Whether it lets through what `field` says the fields are.
    pub(crate) fn holds(&self, field: &(impl Fn(&str) -> Json + ?Sized)) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.holds(field)),
            Self::Or(any) => any.iter().any(|filter| filter.holds(field)),
            Self::Not(filter) => !filter.holds(field),
            Self::Compare(name, operator, wanted) => operator.holds(&field(name), wanted),
            Self::In(name, values) => {
                let found = field(name);
                values.iter().any(|value| equal(&found, value))
            }
            Self::Between(name, low, high) => {
                let found = field(name);
                Operator::GreaterOrEqual.holds(&found, low)
                    && Operator::LessOrEqual.holds(&found, high)
            }
        }
    }

    /// The fields that it asks for, each with how it is compared and with what.
    pub(crate) fn comparisons(&self) -> Vec<(&str, Operator, &Json)> {
        match self {
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().flat_map(Self::comparisons).collect()
            }
            Self::Not(filter) => filter.comparisons(),
            Self::Compare(name, operator, value) => vec![(name, *operator, value)],
            Self::In(name, values) => {
                values.iter().map(|value| (name.as_str(), Operator::Equal, value)).collect()
            }
            Self::Between(name, low, high) => {
                vec![(name, Operator::GreaterOrEqual, low), (name, Operator::LessOrEqual, high)]
            }
        }
    }
}

fn equal(a: &Json, b: &Json) -> bool {
    a == b || order(a, b) == Some(Ordering::Equal)
}

/// The order of two numbers, two texts or two truth values.
pub(crate) fn order(a: &Json, b: &Json) -> Option<Ordering> {
    match (a, b) {
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        (Json::Bool(a), Json::Bool(b)) => Some(a.cmp(b)),
        (Json::Number(x), Json::Number(y)) => match (whole(x), whole(y)) {
            // Whole numbers beyond 2^53 are compared as they are.
            (Some(x), Some(y)) => Some(x.cmp(&y)),
            _ => x.as_f64()?.partial_cmp(&y.as_f64()?),
        },
        _ => None,
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Reads a filter; the problem, with the place, if it is none.
pub(crate) fn parse(text: &str) -> Result<Filter, String> {
    if text.len() > MAX_FILTER {
        return Err(format!("a filter of {} bytes: at most {MAX_FILTER} are read", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.len() };
    let filter = parser.any(0)?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => Err(parser.expected("`and`, `or` or the end")),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A field, a keyword, `true`, `false`, `null`.
    Word(String),
    /// A number or a text.
    Value(Json),
    /// An operator, a bracket, a comma.
    Sign(&'static str),
}

/// The tokens of a filter with their places.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    const SIGNS: [&str; 9] = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ","];
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if let Some(sign) = sign {
            found.push((at, Token::Sign(sign)));
            at += sign.len();
        } else if first == '"' || first == '\'' {
            let (content, length) = quoted(rest, first)
                .ok_or_else(|| format!("at {at}: a text without its closing {first}"))?;
            found.push((at, Token::Value(Json::String(content))));
            at += length;
        } else if first.is_ascii_digit() || first == '-' || first == '+' {
            let is = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
            let length = rest.find(|c| !is(c)).unwrap_or(rest.len());
            let number = serde_json::from_str(&rest[..length])
                .map_err(|_| format!("at {at}: `{}` is no number", &rest[..length]))?;
            found.push((at, Token::Value(Json::Number(number))));
            at += length;
        } else if first.is_alphabetic() || first == '_' {
            let is = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
            let length = rest.find(|c| !is(c)).unwrap_or(rest.len());
            found.push((at, Token::Word(rest[..length].to_owned())));
            at += length;
        } else {
            return Err(format!("at {at}: `{first}` is not expected in a filter"));
        }
    }
    Ok(found)
}

/// The content of a text in quotes, `\` before a quote or a `\`, and how long it is with its
/// quotes.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => content.push(chars.next()?.1),
            c if c == quote => return Some((content, at + quote.len_utf8())),
            c => content.push(c),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Where the text ends.
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn expected(&self, what: &str) -> String {
        match self.tokens.get(self.at) {
            Some((at, _)) => format!("at {at}: expected {what}"),
            None => format!("at {}: expected {what}", self.end),
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let is =
            matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &str) -> Result<(), String> {
        if matches!(self.peek(), Some(Token::Sign(found)) if *found == sign) {
            self.at += 1;
            return Ok(());
        }
        Err(self.expected(&format!("`{sign}`")))
    }

    fn any(&mut self, depth: usize) -> Result<Filter, String> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Or(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Filter, String> {
        let mut parts = vec![self.one(depth)?];
        while self.keyword("and") {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::And(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Filter, String> {
        if depth >= MAX_DEPTH {
            return Err(self.expected(&format!("at most {MAX_DEPTH} brackets and `not`")));
        }
        if self.keyword("not") {
            return Ok(Filter::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.sign("(").is_ok() {
            let inside = self.any(depth + 1)?;
            self.sign(")")?;
            return Ok(inside);
        }
        let Some(Token::Word(field)) = self.peek().cloned() else {
            return Err(self.expected("a field, `not` or `(`"));
        };
        self.at += 1;
        if self.keyword("in") {
            self.sign("(")?;
            let mut values = vec![self.value()?];
            while self.sign(",").is_ok() {
                values.push(self.value()?);
            }
            self.sign(")")?;
            return Ok(Filter::In(field, values));
        }
        if self.keyword("between") {
            let low = self.value()?;
            if !self.keyword("and") {
                return Err(self.expected("`and`"));
            }
            return Ok(Filter::Between(field, low, self.value()?));
        }
        let operator = match self.peek() {
            Some(Token::Sign("=")) => Operator::Equal,
            Some(Token::Sign("!=")) => Operator::Unequal,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            _ => return Err(self.expected("= != < <= > >= `in` or `between`")),
        };
        self.at += 1;
        Ok(Filter::Compare(field, operator, self.value()?))
    }

    fn value(&mut self) -> Result<Json, String> {
        let problem = self.expected("a number, a text in quotes, true, false or null");
        match self.next() {
            Some(Token::Value(value)) => Ok(value),
            Some(Token::Word(word)) if word == "true" => Ok(Json::Bool(true)),
            Some(Token::Word(word)) if word == "false" => Ok(Json::Bool(false)),
            Some(Token::Word(word)) if word == "null" => Ok(Json::Null),
            _ => Err(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str) -> bool {
        let filter = parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        filter.holds(&|field| match field {
            "rating" => json!(1500),
            "name" => json!("Ada"),
            "big" => json!(u64::MAX),
            "kd" => json!(1.5),
            "banned" => json!(false),
            _ => Json::Null,
        })
    }

    #[test]
    fn filters_compare_numbers_texts_and_truth_values() {
        for yes in [
            "rating = 1500",
            "rating = 1500.0",
            "rating >= 1500 and rating <= 1500",
            "rating != 1 and not rating < 1500",
            "name = 'Ada' or rating = 0",
            "name in (\"Bob\", \"Ada\")",
            "kd between 1 and 1.5",
            "banned = false",
            "guild = null",
            "big > 18446744073709551614",
            "NOT (name = 'x' OR name = 'y')",
            // `and` binds tighter.
            "rating = 1500 or rating = 1 and name = 'x'",
            r#"name != "A\"da""#,
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["name > 5", "name < 5", "rating = '1500'", "guild < 1", "kd between 2 and 1"] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_place() {
        for (text, words) in [
            ("", "at 0: expected a field"),
            ("rating", "at 6: expected ="),
            ("rating = ", "expected a number"),
            ("rating = 1 name", "at 11: expected `and`"),
            ("(rating = 1", "expected `)`"),
            ("name = 'x", "at 7: a text without its closing '"),
            ("rating = 1..2", "`1..2` is no number"),
            ("rating ; 1", "`;` is not expected"),
            ("a in ()", "expected a number"),
            ("a between 1 or 2", "expected `and`"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
        let deep = format!("{}a = 1{}", "(".repeat(40), ")".repeat(40));
        assert!(parse(&deep).unwrap_err().contains("at most 32"));
        assert!(parse(&"a".repeat(5000)).unwrap_err().contains("4096"));
    }
}
