//! Renames all nonces of a world in the order in which they occur, so that worlds that differ only by names are one
//! state.

use super::call::{Call, Reply, Write};
use super::world::{Process, World};
use crate::fleet::rollout::identity::Nonce;
use crate::fleet::rollout::journal::Journal;
use crate::fleet::rollout::register::Register;
use crate::fleet::rollout::store::Versioned;
use crate::ports::store::Etag;

pub(super) trait Nonces {
    /// Calls `f` with each nonce, always in the same order.
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce));
}

impl Nonces for Nonce {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        f(self);
    }
}

/// The ETag of an object of the model is its nonce.
pub(super) fn etag(nonce: Nonce) -> Etag {
    Etag(nonce.0.to_string())
}

impl Nonces for Etag {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        let mut nonce = Nonce(self.0.parse().expect("the model's ETags are numbers"));
        f(&mut nonce);
        *self = etag(nonce);
    }
}

impl<T: Nonces> Nonces for Option<T> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        if let Some(value) = self {
            value.visit(f);
        }
    }
}

impl<T: Nonces> Nonces for Vec<T> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        self.iter_mut().for_each(|value| value.visit(f));
    }
}

impl<T: Nonces> Nonces for Versioned<T> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        self.object.visit(f);
        self.etag.visit(f);
    }
}

impl Nonces for Register {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        f(&mut self.nonce);
        if let Some(claim) = &mut self.claim {
            f(&mut claim.claim);
        }
    }
}

macro_rules! has_nonce {
    ($($type:path),*) => {$(
        impl Nonces for $type {
            fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
                f(&mut self.nonce);
            }
        }
    )*};
}
has_nonce!(
    crate::fleet::rollout::slot::Slot,
    crate::fleet::rollout::quarantine::Quarantine,
    crate::fleet::rollout::once::OnceResult
);

impl Nonces for Journal {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        if let Some(slot) = &mut self.slot {
            f(&mut slot.nonce);
            slot.replaces.visit(f);
        }
        if let Some(claim) = &mut self.claim {
            f(&mut claim.claim);
            claim.replaces.visit(f);
        }
    }
}

impl Nonces for Write {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        match self {
            Write::Register(object, known) => {
                object.visit(f);
                known.visit(f);
            }
            Write::Slot(_, object, known) => {
                object.visit(f);
                known.visit(f);
            }
            Write::Quarantine(_, object, known) => {
                object.visit(f);
                known.visit(f);
            }
            Write::Once(_, _, object, known) => {
                object.visit(f);
                known.visit(f);
            }
            Write::Mark(..) | Write::Unmark(..) => {}
        }
    }
}

impl Nonces for Call {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        if let Call::Write(write) = self {
            write.visit(f);
        }
    }
}

impl Nonces for Reply {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        match self {
            Reply::Register(found) => found.visit(f),
            Reply::Slot(found) => found.visit(f),
            Reply::Quarantine(found) => found.visit(f),
            Reply::Once(found) => found.visit(f),
            _ => {}
        }
    }
}

impl Nonces for Process {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        self.minted.visit(f);
        self.log.visit(f);
        self.call.visit(f);
    }
}

impl Nonces for World {
    fn visit(&mut self, f: &mut dyn FnMut(&mut Nonce)) {
        self.register.visit(f);
        self.slots.visit(f);
        for quarantine in self.quarantines.values_mut() {
            quarantine.visit(f);
        }
        for result in self.once.values_mut() {
            result.visit(f);
        }
        self.late_writes.visit(f);
        for host in &mut self.hosts {
            host.begin.journal.visit(f);
            host.now.journal.visit(f);
            host.process.visit(f);
        }
        f(&mut self.operator.shown_nonce);
        self.operator.process.visit(f);
    }
}

/// Gives a world its canonical names.
pub(super) fn rename(world: &mut World) {
    // By old name: the new one. 0 is the nonce of what was never written, and keeps its name.
    let mut names: Vec<u64> = Vec::new();
    let mut used = 0;
    world.visit(&mut |nonce| {
        let old = usize::try_from(nonce.0).expect("the model counts its nonces");
        if old >= names.len() {
            names.resize(old + 1, 0);
        }
        if old > 0 && names[old] == 0 {
            used += 1;
            names[old] = used;
        }
        nonce.0 = names[old];
    });
    world.fresh = used + 1;
}
