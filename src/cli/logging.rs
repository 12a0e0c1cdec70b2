//! Where log lines go: text at a terminal, fields in the journal under systemd, JSON on request.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::args::LogForm;

/// The target of events about resources: each has its id and what is done to it as fields.
pub(crate) const RESOURCE: &str = "trueup::resource";

pub(crate) fn start(form: Option<LogForm>, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let form = form.unwrap_or_else(|| {
        // systemd says so to what it connected to the journal.
        if std::env::var_os("JOURNAL_STREAM").is_some() {
            LogForm::Journal
        } else {
            LogForm::Text
        }
    });
    // Libraries only speak up when everything is asked for.
    let ours =
        move |target: &str| verbose > 1 || target.starts_with("trueup") || target == "progress";
    // At a terminal a command prints these itself; a log needs them as fields.
    let printed = form == LogForm::Text && verbose == 0;
    let filter = tracing_subscriber::filter::filter_fn(move |meta| {
        *meta.level() <= level && ours(meta.target()) && !(printed && meta.target() == RESOURCE)
    });
    let text = || {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .without_time()
            .with_level(verbose > 0)
            .boxed()
    };
    let layer = match form {
        LogForm::Text => text(),
        LogForm::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogForm::Journal => match tracing_journald::layer() {
            Ok(layer) => layer.with_field_prefix(Some("TRUEUP".into())).boxed(),
            Err(_) => text(),
        },
    };
    // A second start in one process (a test) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
}
