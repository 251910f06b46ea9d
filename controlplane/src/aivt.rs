//! AIVTs of this node and their life.
//!
//! ```text
//!  entrance      Asked ----CREATED----> Installing --installed--> Standing
//!  intermediate  Asked ----CREATED----> Installing --installed, CREATED goes on--> Standing
//!  exit                    CREATE-----> Installing --installed, CREATED goes back--> Standing
//! ```
//!
//! Each may end in any state; then it is gone at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ain_dataplane::entry::Activity;
use ain_dataplane::id::{AivtId, Now, Pair, PeerId};

use crate::action::{HopKeys, KeyedLink, Link};
use crate::by_aivt::{ByAivt, PLACES, name, place};
use crate::directory::NodeId;
use crate::flow::FlowNumber;
use crate::key_schedule::{ConfirmKey, HopSecrets};
use crate::sa::Generation;
use crate::signal::create::FlowToken;
use crate::signal::created::Confirmation;

/// How far an AIVT has come at this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// CREATE went on; CREATED is awaited.
    Asked,
    /// The workers are being told.
    Installing,
    /// Cells pass.
    Standing,
}

/// The TVT towards the entrance.
pub struct Upstream {
    /// Neighbour and SPI.
    pub link: Link,
    /// What it is born under.
    pub generation: Generation,
    /// Message id of the CREATE that asked for it.
    pub create_id: u32,
    /// Key of this hop's link in the chain of CREATED, until CREATED leaves.
    pub confirm: Option<Box<ConfirmKey>>,
}

/// The TVT towards the exit.
pub struct Downstream {
    /// Neighbour and SPI.
    pub link: Link,
    /// What it is born under.
    pub generation: Generation,
    /// Message id of our CREATE.
    pub create_id: u32,
    /// What was in it, until CREATED: for another try after an SPI collision.
    pub onion: Box<[u8]>,
    /// Tries so far besides the first.
    pub redraws: u8,
}

impl Upstream {
    /// For the packet path.
    pub fn keyed(&self) -> KeyedLink {
        self.link.under(self.generation)
    }
}

impl Downstream {
    /// For the packet path.
    pub fn keyed(&self) -> KeyedLink {
        self.link.under(self.generation)
    }
}

/// What a CREATE was let in for, which an exit must remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// All that AIVTs do.
    Full,
    /// It came without the ticket that the node demands, to get some: it may bind to the node itself and to nothing else.
    ForIssuance,
}

/// What only one role knows.
pub enum Role {
    /// This node made the AIVT.
    Entrance {
        /// For this flow.
        flow: FlowNumber,
        /// Over these nodes, itself first.
        path: Box<[NodeId]>,
        /// With these keys, until they are installed.
        secrets: Option<Box<Vec<HopSecrets>>>,
    },
    /// This node is between two others.
    Relay {
        /// What it holds until the AIVT stands.
        waiting: Option<Box<Waiting>>,
    },
    /// This node is the last.
    Exit {
        /// Whose flow it is.
        flow_token: FlowToken,
        /// The first datagram's pair.
        bound: Option<Box<Pair>>,
        /// What its CREATE was let in for.
        admission: Admission,
    },
}

/// What an intermediate node needs until its AIVT stands, and not longer.
pub struct Waiting {
    /// Data keys, until they are installed.
    pub keys: Option<HopKeys>,
    /// c_{i+1}, once it came.
    pub beyond: Confirmation,
}

/// Roles, for counting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RoleName {
    /// See [`Role::Entrance`].
    Entrance = 0,
    /// See [`Role::Relay`].
    Intermediate = 1,
    /// See [`Role::Exit`].
    Exit = 2,
}

impl RoleName {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Entrance, Self::Intermediate, Self::Exit];

    /// Name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entrance => "entrance",
            Self::Intermediate => "intermediate",
            Self::Exit => "exit",
        }
    }
}

/// One AIVT.
pub struct Aivt {
    /// Present at every node but the entrance.
    pub upstream: Option<Upstream>,
    /// Present at every node but the exit.
    pub downstream: Option<Downstream>,
    /// What only one role knows.
    pub role: Role,
    /// How far it has come.
    pub stage: Stage,
    /// When it must have come to stand, then when something last moved on it.
    pub since: Now,
    /// When it ends in any case; [`NEVER`] if only by inactivity.
    pub expires: Now,
    /// When something last moved on it, as the workers see it; from installation on.
    pub activity: Option<Arc<Activity>>,
    /// When to look at it again; changes only through [`Aivts::set_due`].
    pub due: Now,
}

/// A time that does not come.
pub const NEVER: Now = Now(u64::MAX);

impl Aivt {
    /// Its role's name.
    pub fn role_name(&self) -> RoleName {
        match self.role {
            Role::Entrance { .. } => RoleName::Entrance,
            Role::Relay { .. } => RoleName::Intermediate,
            Role::Exit { .. } => RoleName::Exit,
        }
    }

    /// The neighbour that asked for it, unless this node made it.
    fn asker(&self) -> Option<PeerId> {
        self.upstream.as_ref().map(|upstream| upstream.link.peer)
    }

    /// When something last moved on it, or when it came to stand, or what it waits for began.
    pub fn last_active(&self) -> Now {
        let seen = self.activity.as_ref().map_or(Now(0), |activity| activity.last());
        self.since.max(seen)
    }

    /// The generation that its TVT to `peer` was born under.
    pub fn generation_with(&self, peer: PeerId) -> Option<Generation> {
        let upstream = self.upstream.iter().map(|one| (one.link.peer, one.generation));
        let downstream = self.downstream.iter().map(|one| (one.link.peer, one.generation));
        let mut both = upstream.chain(downstream);
        both.find(|(other, _)| *other == peer).map(|(_, generation)| generation)
    }

    /// Its TVTs at this node, one or two.
    pub fn links(&self) -> impl Iterator<Item = Link> {
        let upstream = self.upstream.as_ref().map(|upstream| upstream.link);
        upstream
            .into_iter()
            .chain(self.downstream.as_ref().map(|downstream| downstream.link))
    }
}

/// AIVTs that one neighbour asked this node to join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Joined {
    /// All.
    pub all: usize,
    /// Those that do not stand yet.
    pub pending: usize,
}

/// All AIVTs of this node. One TVT belongs to at most one.
///
/// Links and deadlines are in ordered trees and not in hash tables: they grow without copying what stands, and AIVTs over one
/// neighbour lie together.
#[derive(Default)]
pub struct Aivts {
    by_id: ByAivt<Aivt>,
    /// Places by link.
    by_link: BTreeMap<(PeerId, u32), u32>,
    /// Places by deadline.
    due: BTreeSet<(Now, u32)>,
    free: Vec<u32>,
    joined: HashMap<PeerId, Joined>,
    /// By role and stage.
    tally: [[usize; 3]; 3],
    made: u64,
}

fn key(link: &Link) -> (PeerId, u32) {
    (link.peer, link.spi.value())
}

impl Aivts {
    #[cfg(feature = "test-dump")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AivtId, &Aivt)> {
        self.by_id.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many have `role` and `stage`.
    pub fn tally(&self, role: RoleName, stage: Stage) -> usize {
        self.tally[role as usize][stage as usize]
    }

    /// Whether a TVT is in use.
    pub fn uses(&self, link: &Link) -> bool {
        self.by_link.contains_key(&key(link))
    }

    /// How many TVTs are in use.
    pub fn links(&self) -> usize {
        self.by_link.len()
    }

    /// The AIVT that has `link`.
    pub fn with_link(&self, link: &Link) -> Option<AivtId> {
        self.id_at(*self.by_link.get(&key(link))?)
    }

    /// The AIVT `id`.
    pub fn by_id(&self, id: AivtId) -> Option<&Aivt> {
        self.by_id.of(id)
    }

    /// The AIVT `id`; its links and its stage change only through [`Aivts::relink`] and [`Aivts::set_stage`].
    pub fn by_id_mut(&mut self, id: AivtId) -> Option<&mut Aivt> {
        self.by_id.of_mut(id)
    }

    /// What `peer` asked this node to join.
    pub fn joined(&self, peer: PeerId) -> Joined {
        self.joined.get(&peer).copied().unwrap_or_default()
    }

    /// Every TVT to `peer` whose SPI is `from` or higher, in order, and the AIVT that has it.
    pub fn over(&self, peer: PeerId, from: u32) -> impl Iterator<Item = (u32, AivtId)> {
        let links = self.by_link.range((peer, from)..=(peer, u32::MAX));
        links.filter_map(|((_, spi), place)| Some((*spi, self.id_at(*place)?)))
    }

    /// The AIVTs that there are have ids up to this, those to come higher ones.
    pub fn newest(&self) -> AivtId {
        name(self.made, PLACES as u32 - 1)
    }

    /// Every AIVT, oldest first.
    pub fn ids(&self) -> Vec<AivtId> {
        let mut ids: Vec<_> = self.by_id.iter().map(|(id, _)| id).collect();
        ids.sort();
        ids
    }

    /// Takes in a new AIVT, whose links are not in use.
    pub fn insert(&mut self, aivt: Aivt) -> AivtId {
        self.made += 1;
        let at = self.free.pop().unwrap_or(self.by_id.len() as u32);
        let id = name(self.made, at);
        for link in aivt.links() {
            self.by_link.insert(key(&link), at);
        }
        self.count(aivt.role_name(), aivt.asker(), aivt.stage, 1);
        self.due.insert((aivt.due, at));
        self.by_id.insert(id, aivt);
        id
    }

    /// Takes out the AIVT `id`.
    pub fn remove(&mut self, id: AivtId) -> Option<Aivt> {
        let aivt = self.by_id.remove(id)?;
        for link in aivt.links() {
            self.by_link.remove(&key(&link));
        }
        self.due.remove(&(aivt.due, place(id)));
        self.free.push(place(id));
        self.count(aivt.role_name(), aivt.asker(), aivt.stage, -1);
        Some(aivt)
    }

    /// Moves the AIVT `id` to `stage`.
    pub fn set_stage(&mut self, id: AivtId, stage: Stage) {
        if let Some(aivt) = self.by_id.of_mut(id) {
            let (role, asker) = (aivt.role_name(), aivt.asker());
            let before = std::mem::replace(&mut aivt.stage, stage);
            self.count(role, asker, before, -1);
            self.count(role, asker, stage, 1);
        }
    }

    /// Gives the AIVT `id` another downstream TVT.
    pub fn relink(&mut self, id: AivtId, fresh: Downstream) {
        let Some(downstream) = self.by_id.of_mut(id).and_then(|aivt| aivt.downstream.as_mut()) else {
            return;
        };
        self.by_link.remove(&key(&downstream.link));
        self.by_link.insert(key(&fresh.link), place(id));
        *downstream = Downstream {
            redraws: downstream.redraws + 1,
            ..fresh
        };
    }

    /// The AIVT `id` wants to be looked at again at `at`.
    pub fn set_due(&mut self, id: AivtId, at: Now) {
        if let Some(aivt) = self.by_id.of_mut(id) {
            let before = std::mem::replace(&mut aivt.due, at);
            self.due.remove(&(before, place(id)));
            self.due.insert((at, place(id)));
        }
    }

    /// The earliest deadline.
    pub fn next_due(&self) -> Option<Now> {
        self.due.first().map(|(at, _)| *at)
    }

    /// An AIVT that wants to be looked at by `now`. It is named again and again until [`Aivts::set_due`] or [`Aivts::remove`].
    pub fn due(&self, now: Now) -> Option<AivtId> {
        let (_, at) = self.due.first().filter(|(due, _)| *due <= now)?;
        self.id_at(*at)
    }

    fn id_at(&self, place: u32) -> Option<AivtId> {
        self.by_id.at(place).map(|(id, _)| id)
    }

    fn count(&mut self, role: RoleName, asker: Option<PeerId>, stage: Stage, change: isize) {
        let tally = &mut self.tally[role as usize][stage as usize];
        *tally = tally.wrapping_add_signed(change);
        if let Some(peer) = asker {
            let joined = self.joined.entry(peer).or_default();
            joined.all = joined.all.wrapping_add_signed(change);
            if stage != Stage::Standing {
                joined.pending = joined.pending.wrapping_add_signed(change);
            }
        }
    }
}
