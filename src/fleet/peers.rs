//! Where templates get their peers from: looked for when the first one asks, once in a pass.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::book::{Asked, Book, Guard, Seen};
use super::cache::Cache;
use super::contact::Contact;
use super::lists::Lists;
use super::look::{MAX_WEIGHT, too_heavy};
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
    /// As the store is called in the settings.
    store_name: &'a str,
    source: Source<'a>,
    /// Take the list as it is, however much smaller.
    accept: bool,
    /// What this host is called, and its addresses.
    own: (String, Vec<IpAddr>),
    found: OnceCell<Found>,
}

/// Why there is no answer at all to a question that was asked.
#[derive(Debug)]
pub enum Unanswered {
    /// The store is the reason.
    Store(StoreError),
    /// What is kept on this host is, or what can be.
    Lists(String),
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
    /// As they are in the file. `None`: there is none that can be read.
    lists: Option<Lists>,
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
            own: (String::new(), Vec::new()),
            found: OnceCell::new(),
        }
    }

    /// This host is called so and has these addresses: no other node has them.
    pub fn apart_from(self, node: &str, addresses: Vec<IpAddr>) -> Peers<'a> {
        Peers {
            own: (node.to_owned(), addresses),
            ..self
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
        let (store_name, environment) = (self.store_name, self.environment);
        let mut before = match host {
            Some(host) => Cache::load(host, store_name, environment),
            None => Cache::empty(store_name, environment),
        };
        let nothing = || Lists::empty(store_name, environment);
        let lists = match host {
            Some(host) => Lists::load(host, store_name, environment),
            None => Ok(nothing()),
        };
        // Somebody who takes the lists as they are needs none to hold them against.
        let (lists, unknown) = match lists {
            Ok(lists) => (Some(lists), None),
            Err(why) => (None, Some(why).filter(|_| !self.accept)),
        };
        let known = lists.clone().unwrap_or_else(nothing);
        before.beside = known.weight();
        let mut cache = before.clone();
        let answer = match (store, &unknown) {
            (Some(store), None) => Some(self.ask(store, &mut cache, &known, host)),
            _ => None,
        };
        let heard = host.and_then(|host| Contact::load(host, store_name, environment));
        let mut problems = Vec::new();
        let (seen, contact, lost) = match answer {
            None => (unknown.map_or(Seen::Nothing, Seen::Lost), heard, None),
            Some(Err(error)) => {
                // What it may have taken up before it was refused.
                cache = before.clone();
                let seen = Seen::Lost(error.to_string());
                (seen, heard.map(Contact::lost), Some(error))
            }
            Some(Ok((look, peers, contact))) => {
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
        let book = Book::new(fixed.collect(), seen, known, guard);
        Found {
            book: Arc::new(Mutex::new(book)),
            before,
            cache,
            lists,
            contact,
            problems,
            lost,
        }
    }

    /// Asks the store which nodes live and serve.
    fn ask(
        &self,
        store: &dyn Store,
        cache: &mut Cache,
        known: &Lists,
        host: Option<&Host>,
    ) -> Result<(Look, Vec<Arc<Peer>>, Contact), StoreError> {
        let gone_after = self.fleet.gone_after();
        let mut look = look(store, self.environment, gone_after, cache)?;
        let whose = (self.store_name, self.environment);
        let heard = host.and_then(|host| Contact::load(host, whose.0, whose.1));
        let contact = Contact::answered(heard, whose, look.now, gone_after);
        let mut peers = self.of_use(&mut look, known, &contact);
        let new = share(&mut peers, known);
        match cache.weight() + new > MAX_WEIGHT {
            true => Err(too_heavy(store, self.environment)),
            false => Ok((look, peers, contact)),
        }
    }

    /// Those that live and serve. Whoever was listed is silent only if this host listened.
    fn of_use(&self, look: &mut Look, known: &Lists, contact: &Contact) -> Vec<Arc<Peer>> {
        let gone_after = self.fleet.gone_after();
        let listened = contact.lasts() >= gone_after;
        let listed = known.answers.values().flat_map(|answer| &answer.nodes);
        let listed: BTreeSet<&str> = listed.map(|peer| peer.name.as_str()).collect();
        let alive = look.rows.iter().filter(|row| {
            let listed = listed.contains(row.node.as_str());
            row.silent(look.now) <= gone_after || (listed && !listened)
        });
        let peers = alive.filter_map(|row| Peer::of(&row.record));
        let mut mistaken = Vec::new();
        let peers = peers.filter_map(|peer| {
            let (node, addresses) = &self.own;
            if peer.name == *node {
                return Some(peer);
            }
            let (peer, mine) = peer.without(addresses);
            mistaken.extend(mine);
            peer
        });
        let peers: Vec<Arc<Peer>> = peers.map(Arc::new).collect();
        look.problems.extend(mistaken);
        peers
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
        if acted_on {
            let book = Peers::answered(found);
            let asked = book.asked().iter();
            let mut lists = Lists::empty(self.store_name, self.environment);
            lists.answers = asked
                .map(|(words, asked)| (words.clone(), asked.answer.clone()))
                .collect();
            if found.lists.as_ref() != Some(&lists) {
                lists.save(host)?;
            }
        }
        if found.cache == found.before {
            return Ok(());
        }
        found.cache.save(host)
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

    /// Why there is no answer at all to a question that was asked.
    pub fn unanswered(self) -> Option<Unanswered> {
        let found = self.found.into_inner()?;
        let why = Peers::answered(&found).failed()?.to_owned();
        Some(match found.lost {
            Some(error) => Unanswered::Store(error),
            None => Unanswered::Lists(why),
        })
    }
}

/// Has each that is known by now as it is known: what does not change is in memory once. Returns what the
/// others weigh.
fn share(peers: &mut [Arc<Peer>], known: &Lists) -> usize {
    let mut by_name: BTreeMap<&str, Vec<&Arc<Peer>>> = BTreeMap::new();
    for peer in known.nodes() {
        by_name.entry(&peer.name).or_default().push(peer);
    }
    let mut new = 0;
    for peer in peers {
        let same = by_name.get(peer.name.as_str());
        match same.and_then(|all| all.iter().find(|one| **one == peer)) {
            Some(one) => *peer = Arc::clone(one),
            None => new += peer.weight(),
        }
    }
    new
}
