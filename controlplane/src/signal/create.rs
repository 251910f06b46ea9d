//! The creating signal: what each node of a path is told, one layer a node (protocol section 5, the paper's section 4.3).
//!
//! ```text
//! entrance: build ---onion---> AIN_2: peel ---onion'---> AIN_3: peel ... AIN_n: peel, "you are the exit"
//! ```

use std::fmt;

use ain_dataplane::id::FlowTag;
use ain_dataplane::limits::MAX_HOPS;
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::onion::{self, HEAD_BYTES, Layer};
use super::suite::{Kem, OnionPrivateKey, ROUTING_BYTES, TICKET_BYTES};
use crate::action::HopKeys;
use crate::directory::NodeId;
use crate::key_schedule::{ConfirmKey, HopSecrets, ReplayTag};
use crate::ticket::Ticket;

const FLAG_EXIT: u8 = 1;

/// Random per flow and kept across rebuilds: lets a rebuilt AIVT take over the exit's binding, and nobody else. Compared in
/// constant time, for it is a secret of the entrance and the exit.
#[derive(Clone, Copy)]
pub struct FlowToken(pub(crate) [u8; 16]);

impl FlowToken {
    /// What a table may know the token by: tables may look it up in any time, for what it tells is not the token.
    pub(crate) fn tag(&self) -> FlowTag {
        let mut tag = [0; 16];
        tag.copy_from_slice(&Sha256::digest(self.0)[..16]);
        FlowTag(tag)
    }

    /// A fresh token.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut token = [0; 16];
        rng.fill_bytes(&mut token);
        Self(token)
    }
}

impl PartialEq for FlowToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for FlowToken {}

impl fmt::Debug for FlowToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowToken(redacted)")
    }
}

/// One node after the entrance, as the entrance sees it.
#[derive(Clone, Copy, Debug)]
pub struct HopSpec<'a> {
    /// The node.
    pub id: NodeId,
    /// Its public onion key of the path's suite.
    pub onion_key: &'a [u8],
    /// Date of the signal for this node, Unix seconds, rounded and jittered.
    pub created: u32,
    /// What this node demands, if the entrance has one.
    pub ticket: Option<&'a Ticket>,
}

/// What every node of a path is told alike, and the exit's flow token.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Number of the cell profile.
    pub profile: u8,
    /// When the AIVT ends at the latest, Unix seconds; 0 = by inactivity alone.
    pub expires: u32,
    /// For the exit alone.
    pub flow_token: FlowToken,
}

/// A path that no creating signal can be made for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BuildError {
    /// Not 1 to 5 nodes after the entrance.
    #[error("a path has 1 to {MAX_HOPS} nodes after the entrance, not {0}")]
    Length(usize),
    /// A node twice.
    #[error("node {0} stands twice in the path")]
    Repeated(NodeId),
    /// An onion key that does not fit the suite, or yields an all-zero secret.
    #[error("the onion key of node {0} is unusable")]
    Key(NodeId),
}

/// Builds the creating signal for `path`, the nodes after the entrance in order. Returns the onion for the first of them and
/// the keys shared with each. Errors: see [`BuildError`].
pub fn build(
    kem: &Kem,
    path: &[HopSpec<'_>],
    terms: &Terms,
    rng: &mut dyn CryptoRng,
) -> Result<(Vec<u8>, Vec<HopSecrets>), BuildError> {
    if path.is_empty() || path.len() > MAX_HOPS {
        return Err(BuildError::Length(path.len()));
    }
    let mut layers = Vec::with_capacity(path.len());
    for (index, hop) in path.iter().enumerate() {
        if path[..index].iter().any(|earlier| earlier.id == hop.id) {
            return Err(BuildError::Repeated(hop.id));
        }
        let head = head(hop, path.get(index + 1).map(|next| next.id), terms);
        layers.push(Layer::new(kem, hop.onion_key, head, rng).ok_or(BuildError::Key(hop.id))?);
    }
    let secrets = layers.iter().map(|layer| HopSecrets {
        data: layer.schedule().hop_keys(kem.suite.id),
        confirm: layer.schedule().confirm_key(),
    });
    let secrets = secrets.collect();
    Ok((onion::wrap(kem.suite, &layers, rng), secrets))
}

/// flags u8 | profile u8 | 0 u16 | expires u32 | created u32 | 0 u32 | next id[32] | flow token[16] | ticket[96], zero for none.
fn head(hop: &HopSpec<'_>, next: Option<NodeId>, terms: &Terms) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[1] = terms.profile;
    head[4..8].copy_from_slice(&terms.expires.to_be_bytes());
    head[8..12].copy_from_slice(&hop.created.to_be_bytes());
    if let Some(ticket) = hop.ticket {
        head[ROUTING_BYTES..].copy_from_slice(ticket.bytes());
    }
    match next {
        Some(next) => head[16..48].copy_from_slice(&next.0),
        None => {
            head[0] = FLAG_EXIT;
            head[48..64].copy_from_slice(&terms.flow_token.0);
        }
    }
    head
}

/// A creating signal that cannot be accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CreateError {
    /// Wrong length, version or suite, bad encapsulation or bad mac: the sender cannot tell which.
    #[error("the creating signal is not for this node or was changed on its way")]
    Unauthentic,
    /// Authentic, yet not of this version: unknown flags, reserved fields in use, an exit with a next node or the reverse.
    #[error("the routing part of the creating signal is malformed")]
    Routing,
}

/// Where the AIVT goes from here.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nowhere: this node is the exit.
    Exit {
        /// Whose flow it is.
        flow_token: FlowToken,
    },
    /// To another node.
    Relay {
        /// The node.
        node: NodeId,
        /// The creating signal for it.
        onion: Vec<u8>,
    },
}

/// What a creating signal tells this node.
pub struct Peeled {
    /// Number of the cell profile; must be the network's.
    pub profile: u8,
    /// When the AIVT ends at the latest, Unix seconds; 0 = by inactivity alone.
    pub expires: u32,
    /// Date of the signal, Unix seconds.
    pub created: u32,
    /// Mark for the replay cache.
    pub replay: ReplayTag,
    /// Data keys of this hop.
    pub keys: HopKeys,
    /// Key of this hop's link in the chain of CREATED.
    pub confirm: ConfirmKey,
    /// Where it goes.
    pub next: Next,
    /// What stands in the ticket's place; not looked at.
    pub ticket: [u8; TICKET_BYTES],
}

/// Opens this node's layer of `onion`. The ticket is not looked at. Errors: see [`CreateError`].
pub fn peel(onion: &[u8], key: &OnionPrivateKey) -> Result<Peeled, CreateError> {
    let layer = onion::unwrap(onion, key).ok_or(CreateError::Unauthentic)?;
    let (head, schedule) = (&layer.head, &layer.schedule);
    Ok(Peeled {
        profile: head[1],
        expires: u32::from_be_bytes(field(head, 4)),
        created: u32::from_be_bytes(field(head, 8)),
        replay: schedule.replay,
        keys: schedule.hop_keys(layer.suite.id),
        confirm: schedule.confirm_key(),
        next: next(head, layer.next)?,
        ticket: field(head, ROUTING_BYTES),
    })
}

fn next(head: &[u8; HEAD_BYTES], onion: Vec<u8>) -> Result<Next, CreateError> {
    let (node, flow_token) = (NodeId(field(head, 16)), field(head, 48));
    let reserved_used = head[2..4] != [0; 2] || head[12..16] != [0; 4];
    match head[0] {
        _ if reserved_used => Err(CreateError::Routing),
        FLAG_EXIT if node.0 == [0; 32] => Ok(Next::Exit {
            flow_token: FlowToken(flow_token),
        }),
        0 if node.0 != [0; 32] && flow_token == [0; 16] => Ok(Next::Relay { node, onion }),
        _ => Err(CreateError::Routing),
    }
}

fn field<const N: usize>(head: &[u8; HEAD_BYTES], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("inside the head")
}
