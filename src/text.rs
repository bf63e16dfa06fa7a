//! Words of others, and words for people: what is done to a text before it is printed or logged.
//!
//! Reasons of operators, names of players, host names, reports of games and answers of servers come
//! from outside. A terminal must not obey them, and a line break in them must not make a second
//! line. Called by [`crate::output`] for all that commands print, and by the human log.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

/// The name that this program has in texts of all crates, in backticks: `` `rekindle match ls` ``.
const NAME_IN_TEXTS: &str = "rekindle";
/// Stands where a secret was.
pub const HIDDEN: &str = "***";

/// The text on one line and without anything that a terminal obeys: control characters, line breaks
/// and marks that change the direction of writing stand there as escapes, `\n` or `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let escaped = text
        .chars()
        .map(|c| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() });
    Cow::Owned(escaped.collect())
}

/// Whether a terminal does something for this character other than to show it.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Direction of writing.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Ends of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Unseen ones.
            | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with the password of every URL in it hidden: `postgres://u:***@host`. The last resort
/// for words of libraries; what is known to be a secret does not get into a text in the first
/// place.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        // A password may hold an `@` or a slash that should have been encoded.
        match url.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let name = user.split(':').next().unwrap_or_default();
                let _ = write!(out, "{name}:{HIDDEN}@{host}");
            }
            _ => out.push_str(url),
        }
        rest = behind;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What an error says, and what the errors under it say that it does not repeat itself.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    message
}

/// `1 match`, `2 matches`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The name under which this executable was started, without folders: `rekindle`, or what a studio
/// calls its own.
pub fn program() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let named = std::env::args_os().next();
        let name = named
            .as_deref()
            .and_then(|path| Path::new(path).file_name())
            .map(|name| name.to_string_lossy().into_owned());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| NAME_IN_TEXTS.to_owned())
    })
}

/// This executable as it was started, for commands that are printed to be typed: in a game's folder
/// `target/debug/my-game`, which [`program`] alone would not start.
pub(crate) fn program_as_typed() -> String {
    let named = std::env::args_os().next();
    let name = named.map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.is_empty());
    plain(name.as_deref().unwrap_or(NAME_IN_TEXTS)).into_owned()
}

/// The reason of a match without the `match ID: ` that it may begin with, for a place that has the
/// id in front anyway. `id`: as it is printed in full.
pub(crate) fn without_its_id(reason: &str, id: &str) -> String {
    reason.replacen(&format!("match {id}: "), "", 1)
}

/// A command that stands by itself, `rekindle match ls`, as it is called here: `duel match ls`.
pub(crate) fn own_command(command: &str) -> String {
    let arguments = command.strip_prefix(NAME_IN_TEXTS).filter(|rest| rest.starts_with(' '));
    arguments.map_or_else(|| command.to_owned(), |rest| format!("{}{rest}", program()))
}

/// The text with the commands in it as they are called here: a studio's executable says ``
/// `duel match ls` ``. For all that this process tells people: what commands print, its log, the
/// answers of its admin listener that are no JSON.
pub fn own(text: &str) -> Cow<'_, str> {
    called(text, program())
}

fn called<'a>(text: &'a str, program: &str) -> Cow<'a, str> {
    if program == NAME_IN_TEXTS || !text.contains("`rekindle") {
        return Cow::Borrowed(text);
    }
    let program = plain(program);
    Cow::Owned(
        text.replace("`rekindle ", &format!("`{program} "))
            .replace("`rekindle`", &format!("`{program}`")),
    )
}

/// Writes the fields of a log event for people: as usual, but [`plain`],
/// [without credentials](without_credentials), and with the [`own`] name in commands.
pub fn log_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    format::debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        let text = format!("{value:?}");
        let text = own(&text);
        let text = without_credentials(&text);
        match field.name() {
            "message" => write!(writer, "{}", plain(&text)),
            name => write!(writer, "{name}={}", plain(&text)),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_foreign_text_is_obeyed() {
        assert_eq!(
            plain("an honest reason, ünïcode and 👩‍🚀 too"),
            "an honest reason, ünïcode and 👩‍🚀 too"
        );
        assert_eq!(
            plain("a\nb\r\t\u{1b}[31mred\u{7f}\u{9b}"),
            r"a\nb\r\t\u{1b}[31mred\u{7f}\u{9b}"
        );
        assert_eq!(
            plain("x\u{202e}gnp.exe\u{2066}\u{2028}\u{feff}"),
            r"x\u{202e}gnp.exe\u{2066}\u{2028}\u{feff}"
        );
    }

    #[test]
    fn passwords_in_urls_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            (
                "cannot open postgres://u:s3cret@db/x: gone",
                "cannot open postgres://u:***@db/x: gone",
            ),
            (
                "local:postgres://u:s3c@/ret@db and scylla://v:s3cret@a,b/k",
                "local:postgres://u:***@db and scylla://v:***@a,b/k",
            ),
            ("http://127.0.0.1:7780/readyz", "http://127.0.0.1:7780/readyz"),
            ("postgres://u@db/x", "postgres://u@db/x"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn a_line_of_the_log_stays_one_line() {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct Written(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(log_fields())
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let name = "eve\nERROR forged\u{1b}[31m";
            tracing::warn!(
                code = "RK-TEST-001", %name, quoted = name, url = "postgres://u:s3cret@h/d",
                "bye {name}"
            );
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.lines().count() == 1 && !text.contains('\u{1b}') && !text.contains("s3cret"),
            "{text}"
        );
        assert!(
            text.contains(r"bye eve\nERROR forged\u{1b}[31m")
                && text.contains(r#"code="RK-TEST-001""#),
            "{text}"
        );
    }

    #[test]
    fn commands_in_texts_have_the_name_of_this_executable() {
        assert_eq!(
            called("see `rekindle match ls` or start `rekindle`", "duel"),
            "see `duel match ls` or start `duel`"
        );
        assert_eq!(called("`rekindle-data` stays", "duel"), "`rekindle-data` stays");
        assert_eq!(called("see `rekindle match ls`", "rekindle"), "see `rekindle match ls`");
        assert_eq!(own_command("rekindle match ls"), format!("{} match ls", program()));
        assert_eq!(own_command("kill -9 7"), "kill -9 7");
        assert_eq!(own_command("rekindle-data"), "rekindle-data");
    }
}
