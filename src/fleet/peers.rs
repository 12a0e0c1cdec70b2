//! Where templates get their peers from: looked for when the first one asks, once in a pass.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::book::{Asked, Book, Guard, Seen};
use super::cache::Cache;
use super::contact::Contact;
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
    contact: Option<Contact>,
    problems: Vec<String>,
    /// Why there is no answer, or only a part of one.
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
        let heard = host.and_then(|host| Contact::load(host, self.store_name, self.environment));
        let mut problems = Vec::new();
        let (seen, contact, lost) = match answer {
            None => (Seen::Nothing, heard, None),
            Some(Err(error)) => {
                // What it may have taken up before it was refused.
                cache = before.clone();
                let seen = Seen::Lost(error.to_string());
                (seen, heard.map(Contact::lost), Some(error))
            }
            Some(Ok(look)) => {
                let whose = (self.store_name, self.environment);
                let contact = Contact::answered(heard, whose, look.now, gone_after);
                let peers = self.of_use(&look, &before, &contact);
                problems = look.problems;
                let seen = match &look.unread {
                    Some(unread) => Seen::Part(peers, unread.to_string()),
                    None => Seen::All(peers),
                };
                let lost = look.unread.map(|unread| unread.first);
                (seen, Some(contact), lost)
            }
        };
        let fixed = self.fleet.others.iter();
        let fixed = fixed.filter_map(|(name, node)| Peer::of_static(name, node).map(Arc::new));
        let guard = Guard {
            max_shrink: self.fleet.max_shrink,
            accept: self.accept,
            now: host.map_or(jiff::Timestamp::UNIX_EPOCH, |host| host.clock.now()),
        };
        let book = Book::new(fixed.collect(), seen, before.answers.clone(), guard);
        Found {
            book: Arc::new(Mutex::new(book)),
            before,
            cache,
            contact,
            problems,
            lost,
        }
    }

    /// Those that live and serve. Whoever was listed is silent only if this host listened.
    fn of_use(&self, look: &Look, before: &Cache, contact: &Contact) -> Vec<Arc<Peer>> {
        let gone_after = self.fleet.gone_after();
        let listened = contact.lasts() >= gone_after;
        let listed = before.answers.values().flat_map(|answer| &answer.nodes);
        let listed: BTreeSet<&str> = listed.map(|peer| peer.name.as_str()).collect();
        let alive = look.rows.iter().filter(|row| {
            let listed = listed.contains(row.node.as_str());
            row.silent(look.now) <= gone_after || (listed && !listened)
        });
        let peers = alive.filter_map(|row| Peer::of(&row.record));
        peers.map(Arc::new).collect()
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
        if let Some(contact) = &found.contact {
            contact.note(host)?;
        }
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
        self.said(|asked| asked.kept.clone())
    }

    /// What was taken only because somebody said so, a line for each question.
    pub fn accepted(&self) -> Vec<String> {
        self.said(|asked| asked.accepted.clone())
    }

    /// What there is to say of the questions that were asked.
    fn said(&self, of: impl Fn(&Asked) -> Option<String>) -> Vec<String> {
        let Some(found) = self.found.get() else {
            return Vec::new();
        };
        let book = Peers::answered(found);
        book.asked().values().filter_map(of).collect()
    }

    /// Why there is no answer at all to a question that was asked, if the store is the reason.
    pub fn unanswered(self) -> Option<StoreError> {
        let found = self.found.into_inner()?;
        let failed = Peers::answered(&found).has_failed();
        found.lost.filter(|_| failed)
    }
}
