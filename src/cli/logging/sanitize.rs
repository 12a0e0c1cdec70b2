//! Escapes control sequences in log lines: some lines name files of a repository, or quote a server.

use std::fmt::Debug;
use std::io::Write;

use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::live;
use crate::printable;

/// Maximum number of fields of an event.
const MAX_FIELDS: usize = 32;

/// Standard error; each write is one complete line.
pub(super) enum SanitizedStderr {
    Text,
    Json,
}

impl Write for SanitizedStderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let fit = match self {
            SanitizedStderr::Text => printable::text(&text),
            SanitizedStderr::Json => printable::json(&text),
        };
        live::erase();
        std::io::stderr().write_all(fit.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Wraps another layer and escapes event fields, because the journal's own tools may print them raw (`-o
/// cat`). Fields of spans need no escaping: they are names from roles.
pub(super) struct SanitizeLayer<L>(pub(super) L);

impl<S, L> Layer<S> for SanitizeLayer<L>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    L: Layer<S>,
{
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(span, id, context);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, record, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut texts = SanitizedFields::default();
        event.record(&mut texts);
        if !texts.is_altered || texts.fields.len() > MAX_FIELDS {
            return self.0.on_event(event, context);
        }
        let Some((first, _)) = texts.fields.first() else {
            return;
        };
        let mut values: [(&Field, Option<&dyn Value>); MAX_FIELDS] = [(first, None); MAX_FIELDS];
        for (slot, (field, text)) in values.iter_mut().zip(&texts.fields) {
            *slot = (field, Some(text as &dyn Value));
        }
        let meta = event.metadata();
        let values = meta.fields().value_set(&values);
        self.0.on_event(&Event::new(meta, &values), context);
    }
}

/// The escaped fields of an event.
#[derive(Default)]
struct SanitizedFields {
    fields: Vec<(Field, String)>,
    is_altered: bool,
}

impl SanitizedFields {
    fn add(&mut self, field: &Field, text: &str) {
        let fit = printable::text(text);
        self.is_altered |= fit != text;
        self.fields.push((field.clone(), fit.into_owned()));
    }
}

impl Visit for SanitizedFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    struct RecordingLayer(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for RecordingLayer {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut texts = SanitizedFields::default();
            event.record(&mut texts);
            assert!(!texts.is_altered);
            let fields = texts.fields.into_iter();
            let fields = fields.map(|(field, text)| (field.name().to_owned(), text));
            self.0.lock().unwrap().extend(fields);
        }
    }

    #[test]
    fn journal_events_carry_no_terminal_control_characters() {
        let fields = Arc::new(Mutex::new(Vec::new()));
        let layer = SanitizeLayer(RecordingLayer(Arc::clone(&fields)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (name, number) = ("\x1b]52;c;aGk=\x07", 5);
            tracing::warn!(number, name, "the file {name} of\nothers");
            tracing::warn!("plain");
        });
        let field = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let mut observed = fields.lock().unwrap().clone();
        observed.sort();
        assert_eq!(
            observed,
            [
                field("message", "plain"),
                field("message", "the file \\x1b]52;c;aGk=\\x07 of\nothers"),
                field("name", "\\x1b]52;c;aGk=\\x07"),
                field("number", "5"),
            ]
        );
    }
}
