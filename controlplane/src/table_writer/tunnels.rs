//! Tunnels and their associations as entries of the packet path.
//!
//! ```text
//!   add_sa ─► key schedule in a slot of every worker ─► the owner's tunnel        AH inbound: (peer, SPI) in the flow table too
//!             two slots a generation: of its AH associations and of the TVTs born under it
//! ```
//! A generation's slots are free again when [`TableWriter::end_generation`] was called and its last TVT is gone.

use std::sync::Arc;

use ain_crypto::{Backend, MacAlgorithm};
use ain_dataplane::command::{Command, IvSource};
use ain_dataplane::entry::AhKey;
use ain_dataplane::id::{KeySlot, PeerId, Spi, WorkerId};
use ain_dataplane::limits::{KEY_SLOTS, SAS_OF_A_KIND};
use ain_dataplane::reserve::{Grant, Reserved};
use ain_dataplane::sa::{SeqNo, TunnelWindow};
use ain_dataplane::table::{InsertError, Target, TargetKind};
use ain_dataplane::tunnel::{AhInKey, AhOutKey, Association, EspOutKey, SaIn, SaOut, Tunnel};
use ain_dataplane::usage::SaUse;

use super::{TableError, TableWriter, TunnelShape, shape};
use crate::action::KeyedLink;
use crate::limits::{GENERATIONS_KEPT, GENERATIONS_OF_A_PEER};
use crate::sa::{Generation, Numbers, SaDirection, SaKind, SaName, SaProtocol, SaSpec};

/// An ESP+AH tunnel, which has no associations yet.
#[derive(Clone, Copy, Debug)]
pub struct TunnelSpec {
    /// The other end.
    pub peer: PeerId,
    /// The worker that shall own it.
    pub owner: WorkerId,
    /// What its packets show.
    pub shape: TunnelShape,
}

/// What is known of a peer.
pub(super) struct PeerKeys {
    pub(super) owner: WorkerId,
    /// None for the node itself.
    tunnel: Option<TunnelKeys>,
}

impl PeerKeys {
    /// Whether TVTs ride on the tunnel's own AH associations.
    pub(super) fn carries(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.shape.is_carrier())
    }
}

struct TunnelKeys {
    slot: u32,
    shape: TunnelShape,
    /// Associations in the packet path.
    sas: Vec<SaName>,
    /// Oldest first.
    generations: Vec<KeyPair>,
}

/// The keys of one generation.
struct KeyPair {
    generation: Generation,
    /// Of the inbound and of the outbound association, taken together: who has one half has room for the other.
    slots: [KeySlot; 2],
    /// Which of them have a key.
    filled: [bool; 2],
    /// Inbound halves of TVTs that were born under it.
    tvts: u32,
    is_over: bool,
}

/// What a TVT goes by.
#[derive(Clone, Copy)]
pub(super) struct TvtKeys {
    pub(super) key_in: KeySlot,
    pub(super) key_out: KeySlot,
    /// It rides on the tunnel's own AH associations.
    pub(super) carries: bool,
}

/// What hides the count in explicit IVs: a secret of the key, the same after every restart, so that no IV repeats under it.
fn iv_mask(key: &[u8]) -> u64 {
    let derived = shape::derived(key, b"ain iv mask");
    u64::from_be_bytes(*derived.first_chunk().expect("8 of 16 bytes"))
}

impl<C: Backend, B> TableWriter<C, B> {
    /// Installs a tunnel; its slot at the owner.
    ///
    /// # Errors
    /// [`TableError`]; nothing is installed then.
    pub fn add_tunnel(&mut self, spec: &TunnelSpec) -> Result<u32, TableError> {
        let slots = self
            .tunnel_slots
            .get_mut(usize::from(spec.owner.0))
            .ok_or(TableError::Unknown("worker"))?;
        let slot = slots.free.pop().ok_or(TableError::Full("tunnel"))?;
        let tunnel = Tunnel::new(spec.peer, spec.shape.padded_len, shape::pace(spec.shape.rate));
        self.command(spec.owner, Command::Tunnel(slot, Box::new(tunnel)));
        let tunnel = TunnelKeys {
            slot,
            shape: spec.shape,
            sas: Vec::new(),
            generations: Vec::new(),
        };
        let keys = PeerKeys {
            owner: spec.owner,
            tunnel: Some(tunnel),
        };
        self.peers.insert(spec.peer, keys);
        Ok(slot)
    }

    /// The node's own datagrams have `owner`.
    pub fn add_own(&mut self, peer: PeerId, owner: WorkerId) {
        self.peers.insert(peer, PeerKeys { owner, tunnel: None });
    }

    /// Installs an association of a tunnel that is there, in the place of `instead_of` if that is one of its kind; what tells its use.
    /// Of outbound ones the newest is used.
    ///
    /// # Errors
    /// [`TableError`]; nothing has changed then. [`TableError::Full`] too where [`SAS_OF_A_KIND`] are there and none gives way, or the
    /// peer has as many key generations as it may.
    pub fn add_sa(&mut self, spec: &SaSpec, instead_of: Option<SaName>) -> Result<Arc<SaUse>, TableError> {
        let name = spec.name();
        let tunnel = self.tunnel_of(name.peer)?;
        if tunnel.sas.contains(&name) {
            return Err(TableError::InUse);
        }
        let kept =
            |sa: &&SaName| (sa.direction, sa.protocol) == (name.direction, name.protocol) && Some(**sa) != instead_of;
        if tunnel.sas.iter().filter(kept).count() >= SAS_OF_A_KIND {
            return Err(TableError::Full("association of a tunnel"));
        }
        let used = match &spec.numbers {
            Numbers::In { highest } => SaUse::sharing(Arc::clone(highest)),
            Numbers::Out { grant, .. } => SaUse::new(grant.next().saturating_sub(1)),
        };
        let sa = match spec.kind {
            SaKind::Ah {
                algorithm, generation, ..
            } => self.ah(spec, algorithm, generation, &used)?,
            SaKind::Esp(algorithm) => {
                let key = C::aead_key(algorithm, &spec.key)?;
                match &spec.numbers {
                    Numbers::In { .. } => Association::EspIn(Box::new(self.inbound(spec, key, &used))),
                    Numbers::Out { grant, .. } => {
                        let iv_mask = iv_mask(&spec.key);
                        Association::EspOut(Box::new(outbound(spec, EspOutKey { key, iv_mask }, grant, &used)))
                    }
                }
            }
        };
        let (owner, slot) = self.place_of(name.peer)?;
        instead_of.into_iter().for_each(|oldest| self.remove_sa(oldest));
        self.command(owner, Command::AddSa(slot, sa));
        self.tunnel_of(name.peer)?.sas.push(name);
        Ok(used)
    }

    /// Takes an association out of the packet path. The keys of its generation stay for TVTs. No error if it is not there.
    pub fn remove_sa(&mut self, name: SaName) {
        let Ok(tunnel) = self.tunnel_of(name.peer) else { return };
        let Some(at) = tunnel.sas.iter().position(|sa| *sa == name) else {
            return;
        };
        tunnel.sas.swap_remove(at);
        let slot = tunnel.slot;
        if (name.direction, name.protocol) == (SaDirection::In, SaProtocol::Ah) {
            self.table.remove(name.peer, name.spi);
        }
        if let Ok(owner) = self.owner_of(name.peer) {
            self.command(owner, Command::RemoveSa(slot, name.direction, name.protocol, name.spi));
        }
    }

    /// No TVT is made under `generation` any more, none of whose associations is left; its keys go with the last one that there is.
    /// Returns the oldest generations of the peer that only TVTs still use, so many as there are more than [`GENERATIONS_KEPT`] of these.
    pub fn end_generation(&mut self, peer: PeerId, generation: Generation) -> Vec<Generation> {
        if let Some(pair) = self.key_pair(peer, generation) {
            pair.is_over = true;
        }
        self.free_keys(peer, generation);
        let Ok(tunnel) = self.tunnel_of(peer) else {
            return Vec::new();
        };
        let kept = tunnel.generations.iter().filter(|pair| pair.is_over);
        let mut kept: Vec<_> = kept.map(|pair| pair.generation).collect();
        kept.truncate(kept.len().saturating_sub(GENERATIONS_KEPT));
        kept
    }

    /// Whether `peer` may have another key generation after `earlier` ones of other peers, and has room for it: none has so many that
    /// others have no room for theirs.
    pub fn may_begin(&self, peer: PeerId, earlier: usize) -> bool {
        let slots = self.keys_in_use() + 2 * earlier;
        let bound = if slots < KEY_SLOTS / 2 {
            GENERATIONS_OF_A_PEER
        } else {
            SAS_OF_A_KIND
        };
        let tunnel = self.peers.get(&peer).and_then(|peer| peer.tunnel.as_ref());
        let is_below = |tunnel: &TunnelKeys| {
            let going = tunnel.generations.iter().filter(|pair| !pair.is_over).count();
            going < bound && tunnel.generations.len() < GENERATIONS_OF_A_PEER + GENERATIONS_KEPT
        };
        let has_room = slots + 2 <= KEY_SLOTS && self.table.len() + earlier < self.table.capacity();
        has_room && tunnel.is_some_and(is_below)
    }

    /// Whether an AH association from `peer` may have this SPI: no other and no TVT has it.
    pub fn is_free(&self, peer: PeerId, spi: Spi) -> bool {
        self.table.lookup(peer, spi).is_none()
    }

    /// Slots of key schedules in use.
    pub fn keys_in_use(&self) -> usize {
        KEY_SLOTS - self.key_slots.free.len()
    }

    /// Publishes the key of an AH association and makes its entry; inbound it is in the flow table too.
    fn ah(
        &mut self,
        spec: &SaSpec,
        algorithm: MacAlgorithm,
        generation: Generation,
        used: &Arc<SaUse>,
    ) -> Result<Association<C>, TableError> {
        let key = AhKey::<C> {
            algorithm,
            key: C::mac_key(algorithm, &spec.key)?,
        };
        let side = spec.numbers.direction() as usize;
        if self
            .key_pair(spec.peer, generation)
            .is_some_and(|pair| pair.is_over || pair.filled[side])
        {
            return Err(TableError::InUse);
        }
        // An outbound one follows an inbound one: refused now, it would leave an exchange half done, and the tunnel without keys.
        if side == SaDirection::In as usize
            && self.key_pair(spec.peer, generation).is_none()
            && !self.may_begin(spec.peer, 0)
        {
            return Err(TableError::Full("key generation of this peer"));
        }
        let target = self.target_of(spec.peer)?;
        if spec.numbers.direction() == SaDirection::In
            && let Err(error) = self.table.insert(spec.peer, spec.spi, target)
        {
            return Err(match error {
                InsertError::InUse => TableError::InUse,
                InsertError::Full => TableError::Full("association"),
            });
        }
        let slot = self.fill(spec.peer, generation, side)?;
        let shape = self.tunnel_of(spec.peer)?.shape;
        Ok(match &spec.numbers {
            Numbers::In { .. } => {
                self.publish_key(slot, key, &[], 0);
                let veil = shape.is_carrier().then(|| shape::veil(&spec.key));
                Association::AhIn(Box::new(self.inbound(spec, AhInKey { slot, veil }, used)))
            }
            Numbers::Out { grant, ah_ivs } => {
                let ivs = if algorithm == MacAlgorithm::Aes128Gmac {
                    ah_ivs.as_slice()
                } else {
                    &[]
                };
                self.publish_key(slot, key, ivs, iv_mask(&spec.key));
                let disguise = shape.rate.pps().map(|_| shape::disguise(&spec.key));
                Association::AhOut(Box::new(outbound(spec, AhOutKey { slot, disguise }, grant, used)))
            }
        })
    }

    /// The slot of one half of a generation, which begins with its first half.
    fn fill(&mut self, peer: PeerId, generation: Generation, side: usize) -> Result<KeySlot, TableError> {
        if self.key_pair(peer, generation).is_none() {
            let mut free = || self.key_slots.free.pop().ok_or(TableError::Full("AH key"));
            let slots = [free()?, free()?].map(|slot| KeySlot(slot as u16));
            self.tunnel_of(peer)?.generations.push(KeyPair {
                generation,
                slots,
                filled: [false; 2],
                tvts: 0,
                is_over: false,
            });
        }
        let pair = self.key_pair(peer, generation);
        let pair = pair.ok_or(TableError::Unknown("key generation"))?;
        pair.filled[side] = true;
        Ok(pair.slots[side])
    }

    fn inbound<K>(&self, spec: &SaSpec, key: K, used: &Arc<SaUse>) -> SaIn<K> {
        let window = if self.anti_replay {
            TunnelWindow::resume_after(SeqNo(used.highest()))
        } else {
            TunnelWindow::off()
        };
        SaIn {
            spi: spec.spi,
            key,
            esn: spec.esn,
            window,
            used: Arc::clone(used),
        }
    }

    /// Every worker gets the schedule, and its own IVs under it.
    fn publish_key(&mut self, slot: KeySlot, key: AhKey<C>, ivs: &[Arc<Grant>], mask: u64) {
        let key = Arc::new(key);
        for worker in 0..self.backlog.len() {
            let iv = ivs.get(worker).map(|grant| IvSource {
                counter: Reserved::new(Arc::clone(grant)),
                mask,
            });
            self.command(
                WorkerId(worker as u8),
                Command::Key {
                    slot,
                    key: Arc::clone(&key),
                    iv,
                },
            );
        }
    }

    /// Frees the slots of a generation that nothing uses any more.
    fn free_keys(&mut self, peer: PeerId, generation: Generation) {
        let Ok(tunnel) = self.tunnel_of(peer) else { return };
        let unused = |pair: &KeyPair| pair.generation == generation && pair.is_over && pair.tvts == 0;
        let Some(at) = tunnel.generations.iter().position(unused) else {
            return;
        };
        let pair = tunnel.generations.remove(at);
        for slot in pair.slots {
            for worker in 0..self.backlog.len() {
                self.command(WorkerId(worker as u8), Command::RemoveKey(slot));
            }
            self.key_slots.free.push(slot.0.into());
        }
    }

    fn tunnel_of(&mut self, peer: PeerId) -> Result<&mut TunnelKeys, TableError> {
        let tunnel = self.peers.get_mut(&peer).and_then(|peer| peer.tunnel.as_mut());
        tunnel.ok_or(TableError::Unknown("tunnel"))
    }

    fn key_pair(&mut self, peer: PeerId, generation: Generation) -> Option<&mut KeyPair> {
        let pairs = &mut self.tunnel_of(peer).ok()?.generations;
        pairs.iter_mut().find(|pair| pair.generation == generation)
    }

    /// Owner and slot of a tunnel.
    fn place_of(&mut self, peer: PeerId) -> Result<(WorkerId, u32), TableError> {
        Ok((self.owner_of(peer)?, self.tunnel_of(peer)?.slot))
    }

    /// What the flow table says of a tunnel's AH associations.
    fn target_of(&mut self, peer: PeerId) -> Result<Target, TableError> {
        let (worker, slot) = self.place_of(peer)?;
        let kind = if self.tunnel_of(peer)?.shape.is_carrier() {
            TargetKind::Carrier
        } else {
            TargetKind::Tunnel
        };
        Ok(Target { worker, slot, kind })
    }

    /// What a TVT that is born now under the generation that `link` names goes by.
    pub(super) fn tvt_keys(&self, of: KeyedLink) -> Result<TvtKeys, TableError> {
        let tunnel = self.peers.get(&of.link.peer).and_then(|peer| peer.tunnel.as_ref());
        let tunnel = tunnel.ok_or(TableError::Unknown("neighbour"))?;
        let pair = tunnel.generations.iter().find(|pair| pair.generation == of.generation);
        let pair = pair.filter(|pair| pair.filled == [true; 2]);
        let [key_in, key_out] = pair.ok_or(TableError::Unknown("key generation"))?.slots;
        Ok(TvtKeys {
            key_in,
            key_out,
            carries: tunnel.shape.is_carrier(),
        })
    }

    /// One more inbound half of a TVT is there.
    pub(super) fn tvt_born(&mut self, of: KeyedLink) {
        if let Some(pair) = self.key_pair(of.link.peer, of.generation) {
            pair.tvts += 1;
        }
    }

    /// It is gone.
    pub(super) fn tvt_gone(&mut self, of: KeyedLink) {
        if let Some(pair) = self.key_pair(of.link.peer, of.generation) {
            pair.tvts -= 1;
        }
        self.free_keys(of.link.peer, of.generation);
    }
}

fn outbound<K>(spec: &SaSpec, key: K, grant: &Arc<Grant>, used: &Arc<SaUse>) -> SaOut<K> {
    SaOut {
        spi: spec.spi,
        key,
        esn: spec.esn,
        seq: Reserved::new(Arc::clone(grant)),
        used: Arc::clone(used),
    }
}
