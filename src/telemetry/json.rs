//! Log events as lines of JSON: one object, each key once.
//!
//! The fields of an event lie beside `timestamp`, `level`, `message` and `target`. A field whose
//! name is taken already gets a number behind it (`code_2`), so that a reader that refuses double
//! keys, or takes the last of them, gets what was meant.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text;

/// Writes an event as a line of JSON.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let mut line = Line::new(&now(), meta.level().as_str());
        event.record(&mut line);
        line.put("target", Value::from(meta.target()));
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// This moment, as every line has it.
pub(super) fn now() -> String {
    let mut text = String::new();
    // Writing into a string does not fail; a clock that cannot be shown leaves it empty.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// The object that becomes a line.
pub(super) struct Line(pub(super) Map<String, Value>);

impl Line {
    /// With the two keys that every line has.
    pub(super) fn new(timestamp: &str, level: &str) -> Self {
        let mut line = Self(Map::new());
        line.put("timestamp", Value::from(timestamp));
        line.put("level", Value::from(level));
        line
    }

    /// Adds a field under its name, or under one of its own if that is taken.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        let mut key = name.to_owned();
        for number in 2.. {
            if !self.0.contains_key(&key) {
                break;
            }
            key = format!("{name}_{number}");
        }
        self.0.insert(key, value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::from(text::own(&format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::from(text::own(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_key_of_a_line_stands_there_once() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(JsonLines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                code = "RK-X-1",
                code = 7,
                level = true,
                target = "t",
                text = "a \"b\"\n\u{1b}",
                "words"
            );
        });
        let text = String::from_utf8(kept.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(text.matches("\"code\":").count(), 1, "{text}");
        let expected = [
            ("code", Value::from("RK-X-1")),
            ("code_2", 7.into()),
            ("level", "INFO".into()),
            ("level_2", true.into()),
        ];
        for (key, value) in expected.into_iter().chain([
            ("target", "t".into()),
            ("message", "words".into()),
            ("text", "a \"b\"\n\u{1b}".into()),
        ]) {
            assert_eq!(line[key], value, "{key} in {text}");
        }
        assert!(line.contains_key("target_2") && line.contains_key("timestamp"), "{text}");
    }
}
