//! Where templates get their peers from: looked for when the first one asks, once in a pass.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::book::{Book, Guard};
use super::cache::Cache;
use super::{Look, Peer, look};
use crate::ports::Host;
use crate::ports::root::RootError;
use crate::ports::store::{Store, StoreError};
use crate::settings::{Fleet, Settings};

/// How many lines about records a report has at most.
const LINES: usize = 5;

/// The peers of a host.
pub struct Peers<'a> {
    fleet: &'a Fleet,
    environment: &'a str,
    /// As it is called in the settings.
    store_name: &'a str,
    source: Source<'a>,
    /// Take the list as it is, however much smaller.
    accept: bool,
    found: OnceCell<Found>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    /// There is no host: roles are only read.
    Paper,
    /// What the host knew last.
    Known(&'a Host),
    Store(&'a Host, &'a dyn Store),
}

struct Found {
    book: Arc<Mutex<Book>>,
    before: Cache,
    cache: Cache,
    problems: Vec<String>,
    lost: Option<StoreError>,
}

impl<'a> Peers<'a> {
    fn new(settings: &'a Settings, source: Source<'a>) -> Peers<'a> {
        Peers {
            fleet: &settings.fleet,
            environment: &settings.environment,
            store_name: &settings.store.url,
            source,
            accept: false,
            found: OnceCell::new(),
        }
    }

    /// Only those that the settings name.
    pub fn on_paper(settings: &'a Settings) -> Peers<'a> {
        Peers::new(settings, Source::Paper)
    }

    /// Those that the host knew last. Asks nobody.
    pub fn known(settings: &'a Settings, host: &'a Host) -> Peers<'a> {
        Peers::new(settings, Source::Known(host))
    }

    /// Those in the store, if anybody asks. `accept`: however few they are.
    pub fn of_store(
        settings: &'a Settings,
        host: &'a Host,
        store: &'a dyn Store,
        accept: bool,
    ) -> Peers<'a> {
        Peers {
            accept,
            ..Peers::new(settings, Source::Store(host, store))
        }
    }

    /// What answers `nodes(…)`. The first call asks the store.
    pub fn book(&self) -> Arc<Mutex<Book>> {
        self.found.get_or_init(|| self.find()).book.clone()
    }

    fn find(&self) -> Found {
        let (host, store) = match self.source {
            Source::Paper => (None, None),
            Source::Known(host) => (Some(host), None),
            Source::Store(host, store) => (Some(host), Some(store)),
        };
        let before = match host {
            Some(host) => Cache::load(host, self.store_name, self.environment),
            None => Cache::empty(self.store_name, self.environment),
        };
        let mut cache = before.clone();
        let gone_after = self.fleet.gone_after();
        let answer = store.map(|store| look(store, self.environment, gone_after, &mut cache));
        let (seen, lost) = match answer {
            None => (None, None),
            Some(Ok(look)) => (Some(look), None),
            Some(Err(error)) => (None, Some(error)),
        };
        let fixed = self.fleet.others.iter();
        let fixed = fixed.filter_map(|(name, node)| Peer::of_static(name, node));
        let guard = Guard {
            max_shrink: self.fleet.max_shrink,
            accept: self.accept,
            now: host.map_or(jiff::Timestamp::UNIX_EPOCH, |host| host.clock.now()),
        };
        let book = Book::new(
            fixed.collect(),
            seen.as_ref().map(|look| self.of_use(look)),
            before.answers.clone(),
            guard,
        );
        let book = match &lost {
            Some(error) => book.without_store(&error.to_string()),
            None => book,
        };
        Found {
            book: Arc::new(Mutex::new(book)),
            before,
            cache,
            problems: seen.map_or_else(Vec::new, |look| look.problems),
            lost,
        }
    }

    /// Those that live and serve.
    fn of_use(&self, look: &Look) -> Vec<Peer> {
        let gone_after = self.fleet.gone_after();
        let alive = look.rows.iter();
        let alive = alive.filter(|row| row.silent(look.now) <= gone_after);
        alive.filter_map(|row| Peer::of(&row.record)).collect()
    }

    fn answered(found: &Found) -> MutexGuard<'_, Book> {
        found.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was learnt for the next pass. `acted_on`: the answers are about to be acted on, so
    /// they are the last good ones from now on.
    pub fn keep(&self, acted_on: bool) -> Result<(), RootError> {
        let (Some(found), Source::Store(host, _)) = (self.found.get(), self.source) else {
            return Ok(());
        };
        let mut cache = found.cache.clone();
        if acted_on {
            let book = Peers::answered(found);
            let asked = book.asked().iter();
            cache.answers = asked
                .map(|(words, asked)| (words.clone(), asked.answer.clone()))
                .collect();
        }
        if cache == found.before {
            return Ok(());
        }
        cache.save(host)
    }

    /// What is wrong with records in the store, a line each, not too many.
    pub fn notes(&self) -> Vec<String> {
        let problems = self.found.get().map_or(&[][..], |found| &found.problems);
        let mut notes: Vec<String> = problems.iter().take(LINES).cloned().collect();
        if problems.len() > LINES {
            let more = problems.len() - LINES;
            notes.push(format!(
                "{more} more records like these: `trueup fleet` lists them"
            ));
        }
        notes
    }

    /// Why a last good list is in force instead of what the store has, a line for each question.
    pub fn kept(&self) -> Vec<String> {
        let Some(found) = self.found.get() else {
            return Vec::new();
        };
        let book = Peers::answered(found);
        book.asked()
            .values()
            .filter_map(|asked| asked.kept.clone())
            .collect()
    }

    /// Why there is no answer at all to a question that was asked, if the store is the reason.
    pub fn unanswered(self) -> Option<StoreError> {
        let found = self.found.into_inner()?;
        let failed = Peers::answered(&found).has_failed();
        found.lost.filter(|_| failed)
    }
}
