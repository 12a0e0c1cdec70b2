//! Logging setup: text at a terminal, fields in the journal under systemd, JSON on request.

mod live;
mod sanitize;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::args::LogFormat;
use crate::apply::RESOURCE_TARGET;
use crate::ports::journal;
use crate::release::progress;

pub(crate) use live::erase as erase_live_line;
pub(crate) use live::is_supported as is_live_line_supported;

/// Initializes logging. Returns whether standard output is the journal, which then holds everything as events
/// with fields already.
pub(crate) fn init(form: Option<LogFormat>, verbose: u8) -> bool {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let form = form.unwrap_or_else(|| {
        if journal::stderr_is_journal() || journal::service_discards_stderr() {
            LogFormat::Journal
        } else {
            LogFormat::Text
        }
    });
    // Log lines of libraries appear only at the highest verbosity.
    let is_live = form == LogFormat::Text && verbose == 0 && live::is_supported();
    let is_logged_target = move |target: &str| match target {
        progress::LIVE => false,
        // The live line shows them.
        progress::STARTED | progress::FETCHING => !is_live,
        // The journal has more readers than the log of a release, which this quotes.
        progress::RUNNING => !is_live && form != LogFormat::Journal,
        progress::ENDED_SOON => is_live,
        "progress" | progress::ENDED | progress::OUTPUT => true,
        target => verbose > 1 || target.starts_with("trueup"),
    };
    // At a terminal the command prints these itself; other logs need them as fields.
    let printed = form == LogFormat::Text && verbose == 0;
    let filter = tracing_subscriber::filter::filter_fn(move |meta| {
        // A text line names its subject itself; spans are fields for machines.
        let is_text_span = meta.is_span() && form == LogFormat::Text;
        *meta.level() <= level
            && is_logged_target(meta.target())
            && !(printed && meta.target() == RESOURCE_TARGET)
            && !is_text_span
    });
    let live_filter = tracing_subscriber::filter::filter_fn(|meta| meta.target() == progress::LIVE);
    let text = || {
        fmt::layer()
            .with_writer(|| sanitize::SanitizedStderr::Text)
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_level(verbose > 0)
            .boxed()
    };
    let mut journalled = false;
    let layer = match form {
        LogFormat::Text => text(),
        LogFormat::Json => fmt::layer()
            .json()
            .with_writer(|| sanitize::SanitizedStderr::Json)
            .boxed(),
        LogFormat::Journal => match tracing_journald::layer() {
            Ok(layer) => {
                journalled = true;
                // `journalctl -u` shows what root says about a unit in this field.
                let unit = journal::own_unit();
                let unit = unit.iter().map(|unit| ("OBJECT_SYSTEMD_UNIT", unit));
                let layer = layer.with_field_prefix(Some("TRUEUP".into()));
                sanitize::SanitizeLayer(layer.with_custom_fields(unit)).boxed()
            }
            Err(_) => text(),
        },
    };
    // A second initialization in one process (a test) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(is_live.then(|| live::LiveLayer.with_filter(live_filter)))
        .try_init();
    journalled && journal::stdout_is_journal()
}
