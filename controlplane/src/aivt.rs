//! AIVTs of this node and their life.
//!
//! ```text
//!  entrance      Asked ----CREATED----> Installing --installed--> Standing
//!  intermediate  Asked ----CREATED----> Installing --installed, CREATED goes on--> Standing
//!  exit                    CREATE-----> Installing --installed, CREATED goes back--> Standing
//! ```
//!
//! Each may end in any state; then it is gone at once.

use std::collections::HashMap;

use ain_dataplane::id::{AivtId, Now, Pair, PeerId};

use crate::action::{HopKeys, Link};
use crate::directory::NodeId;
use crate::flow::FlowNumber;
use crate::key_schedule::{ConfirmKey, HopSecrets};
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
    /// Message id of the CREATE that asked for it.
    pub create_id: u32,
    /// Key of this hop's link in the chain of CREATED.
    pub confirm: ConfirmKey,
}

/// The TVT towards the exit.
pub struct Downstream {
    /// Neighbour and SPI.
    pub link: Link,
    /// Message id of our CREATE.
    pub create_id: u32,
    /// What was in it, until CREATED: for another try after an SPI collision.
    pub onion: Vec<u8>,
    /// Tries so far besides the first.
    pub redraws: u8,
}

/// What only one role knows.
pub enum Role {
    /// This node made the AIVT.
    Entrance {
        /// For this flow.
        flow: FlowNumber,
        /// Over these nodes, itself first.
        path: Vec<NodeId>,
        /// With these keys, until they are installed.
        secrets: Vec<HopSecrets>,
    },
    /// This node is between two others.
    Relay {
        /// Data keys, until they are installed.
        keys: Option<HopKeys>,
        /// c_{i+1}, once it came.
        beyond: Confirmation,
    },
    /// This node is the last.
    Exit {
        /// Whose flow it is.
        flow_token: FlowToken,
        /// The first datagram's pair.
        bound: Option<Pair>,
    },
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
    /// When it ends in any case.
    pub expires: Option<Now>,
}

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

    fn links(&self) -> impl Iterator<Item = Link> {
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
#[derive(Default)]
pub struct Aivts {
    by_id: HashMap<AivtId, Aivt>,
    by_link: HashMap<Link, AivtId>,
    joined: HashMap<PeerId, Joined>,
    /// By role and stage.
    tally: [[usize; 3]; 3],
    next_id: u64,
}

impl Aivts {
    #[cfg(feature = "test-dump")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AivtId, &Aivt)> {
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
        self.by_link.contains_key(link)
    }

    /// How many TVTs are in use.
    pub fn links(&self) -> usize {
        self.by_link.len()
    }

    /// The AIVT that has `link`.
    pub fn with_link(&self, link: &Link) -> Option<AivtId> {
        self.by_link.get(link).copied()
    }

    /// The AIVT `id`.
    pub fn by_id(&self, id: AivtId) -> Option<&Aivt> {
        self.by_id.get(&id)
    }

    /// The AIVT `id`; its links and its stage change only through [`Aivts::relink`] and [`Aivts::set_stage`].
    pub fn by_id_mut(&mut self, id: AivtId) -> Option<&mut Aivt> {
        self.by_id.get_mut(&id)
    }

    /// What `peer` asked this node to join.
    pub fn joined(&self, peer: PeerId) -> Joined {
        self.joined.get(&peer).copied().unwrap_or_default()
    }

    /// Every AIVT that has a TVT to `peer`, oldest first.
    pub fn over(&self, peer: PeerId) -> Vec<AivtId> {
        let over = self
            .by_id
            .iter()
            .filter(|(_, aivt)| aivt.links().any(|link| link.peer == peer));
        let mut ids: Vec<_> = over.map(|(id, _)| *id).collect();
        ids.sort();
        ids
    }

    /// Every AIVT, oldest first.
    pub fn ids(&self) -> Vec<AivtId> {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort();
        ids
    }

    /// Takes in a new AIVT, whose links are not in use.
    pub fn insert(&mut self, aivt: Aivt) -> AivtId {
        self.next_id += 1;
        let id = AivtId(self.next_id);
        for link in aivt.links() {
            self.by_link.insert(link, id);
        }
        self.count(aivt.role_name(), aivt.asker(), aivt.stage, 1);
        self.by_id.insert(id, aivt);
        id
    }

    /// Takes out the AIVT `id`.
    pub fn remove(&mut self, id: AivtId) -> Option<Aivt> {
        let aivt = self.by_id.remove(&id)?;
        for link in aivt.links() {
            self.by_link.remove(&link);
        }
        self.count(aivt.role_name(), aivt.asker(), aivt.stage, -1);
        Some(aivt)
    }

    /// Moves the AIVT `id` to `stage`.
    pub fn set_stage(&mut self, id: AivtId, stage: Stage) {
        if let Some(aivt) = self.by_id.get_mut(&id) {
            let (role, asker) = (aivt.role_name(), aivt.asker());
            let before = std::mem::replace(&mut aivt.stage, stage);
            self.count(role, asker, before, -1);
            self.count(role, asker, stage, 1);
        }
    }

    /// Gives the AIVT `id` another downstream TVT, asked for by the CREATE `create_id`.
    pub fn relink(&mut self, id: AivtId, link: Link, create_id: u32) {
        let Some(downstream) = self.by_id.get_mut(&id).and_then(|aivt| aivt.downstream.as_mut()) else {
            return;
        };
        self.by_link.remove(&downstream.link);
        self.by_link.insert(link, id);
        downstream.link = link;
        downstream.create_id = create_id;
        downstream.redraws += 1;
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
