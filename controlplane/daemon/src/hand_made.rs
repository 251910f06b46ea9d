//! Hand-made keys on their way from the configuration to the packet path: at the start, and when the file has others.

use ain_controlplane::associations::Associations;
use ain_controlplane::hand_made::HandMadeSource;
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::sa::{Generation, Numbers, SaDirection, SaEvent, SaKind, SaName, SaProtocol, SaSpec};
use ain_controlplane::table_writer::{TableError, TableWriter};
use ain_crypto::{Backend, MacAlgorithm};
use ain_dataplane::id::{Now, PeerId};
use anyhow::{Context, bail};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

use crate::config::{HandMade, Sa, Tunnel};
use crate::durable::{Durable, DurableError, KeyPlace};

/// The keys of each change by themselves.
pub const PROTOCOLS: [SaProtocol; 2] = [SaProtocol::Ah, SaProtocol::Esp];

/// Keys that take the place of others of a tunnel that stands.
pub struct NewKeys {
    /// The other end.
    pub peer: PeerId,
    /// The tunnel with its new keys, and those that stay.
    pub tunnel: Tunnel<HandMade>,
    /// Whose keys are new.
    pub protocols: Vec<SaProtocol>,
}

/// Why keys cannot be taken.
#[derive(Debug, Error)]
pub enum Why {
    /// An outbound association waits.
    #[error("these keys are being changed: the other end has not been heard under them yet; try again in {0} s")]
    Changing(u64),
    /// Of an association, or of a TVT.
    #[error("the SPI is in use with this peer, or was until lately; take another one")]
    SpiInUse,
    /// AH keys.
    #[error("no room for another AH key beside the older ones that AIVTs have")]
    Full,
    /// By the packet path.
    #[error(transparent)]
    Refused(#[from] TableError),
    /// Sequence numbers and IVs.
    #[error(transparent)]
    Numbers(#[from] DurableError),
}

/// Why keys cannot be taken, and which.
#[derive(Debug, Error)]
#[error("{direction:?}bound {protocol:?}: {why}")]
pub struct Obstacle {
    /// The other end.
    pub peer: PeerId,
    /// Which way.
    pub direction: SaDirection,
    /// AH or ESP.
    pub protocol: SaProtocol,
    /// What is wrong.
    pub why: Why,
}

/// What keys are put into.
pub struct Place<'a, C: Backend, B> {
    /// Workers of the process.
    pub workers: u8,
    /// The packet path's tables.
    pub writer: &'a mut TableWriter<C, B>,
    /// Numbers on disk.
    pub durable: &'a mut Durable,
}

/// The hand-made keys of a process that starts are in the packet path before anything else happens, and their numbers on disk.
///
/// # Errors
/// The state cannot be written; a key has been used otherwise; there is no room.
pub fn install<'a, C: Backend, B, K: 'a>(
    now: Now,
    tunnels: impl Iterator<Item = (PeerId, &'a Tunnel<K>, &'a HandMade)>,
    place: &mut Place<'_, C, B>,
) -> anyhow::Result<(Associations, HandMadeSource)> {
    let (mut associations, mut source) = (Associations::default(), HandMadeSource::default());
    for (peer, tunnel, sas) in tunnels {
        for protocol in PROTOCOLS {
            let generation = Generation::HAND_MADE;
            let specs = pair(peer, (tunnel, sas), (protocol, generation), place)
                .with_context(|| format!("hand-made keys of tunnel {}", peer.0))?;
            keep_places(place.durable, protocol, sas);
            specs.into_iter().for_each(|spec| source.push(SaEvent::Add(spec)));
        }
        begin_generation(place.durable, (peer, Generation::HAND_MADE), sas);
    }
    place.durable.top_up()?;
    associations.handle(now, &mut source, place.writer);
    if let Some((name, error)) = source.take_refused().into_iter().next() {
        bail!("hand-made keys of tunnel {}: {error}", name.peer.0);
    }
    Ok((associations, source))
}

/// Gives `source` all of `keys`, or nothing.
///
/// # Errors
/// See [`Obstacle`].
pub fn replace<C: Backend, B>(
    now: Now,
    keys: &[NewKeys],
    (source, associations): (&mut HandMadeSource, &Associations),
    place: &mut Place<'_, C, B>,
) -> Result<(), Obstacle> {
    let each = || {
        let protocols = |new| move |protocol: &SaProtocol| (new, *protocol);
        keys.iter()
            .flat_map(move |new| new.protocols.iter().map(protocols(new)))
    };
    for (new, protocol) in each() {
        check(now, (new, protocol), (source, associations), place)?;
    }
    let ah = each().filter(|(_, protocol)| *protocol == SaProtocol::Ah);
    for (earlier, (new, protocol)) in ah.enumerate() {
        if !place.writer.may_begin(new.peer, earlier) {
            return Err(obstacle(new.peer, (SaDirection::In, protocol), Why::Full));
        }
    }
    let mut pairs = Vec::new();
    for (new, protocol) in each() {
        let generation = source.next_generation();
        let tunnel = (&new.tunnel, &new.tunnel.keys);
        let specs = pair(new.peer, tunnel, (protocol, generation), place)?;
        pairs.push((specs, new, protocol, generation));
    }
    let Some((_, first, protocol, _)) = pairs.first() else {
        return Ok(());
    };
    let not_saved = |error: DurableError| obstacle(first.peer, (SaDirection::Out, *protocol), error.into());
    place.durable.check_room(pairs.len()).map_err(not_saved)?;
    for (_, new, protocol, _) in &pairs {
        keep_places(place.durable, *protocol, &new.tunnel.keys);
    }
    place.durable.top_up().map_err(not_saved)?;
    for (specs, new, protocol, generation) in pairs {
        if protocol == SaProtocol::Ah {
            begin_generation(place.durable, (new.peer, generation), &new.tunnel.keys);
        }
        source.replace(now, specs);
    }
    Ok(())
}

/// The packet path has taken what [`replace`] gave.
///
/// # Errors
/// [`Why::Refused`] for the first that it has not.
pub fn taken(source: &mut HandMadeSource) -> Result<(), Obstacle> {
    match source.take_refused().into_iter().next() {
        Some((sa, error)) => Err(obstacle(sa.peer, (sa.direction, sa.protocol), error.into())),
        None => Ok(()),
    }
}

/// Logs what became of keys.
pub fn warn_of(source: &mut HandMadeSource) {
    for (sa, error) in source.take_refused() {
        warn!(?sa.direction, ?sa.protocol, %error, "a hand-made key cannot be used");
    }
    for (sa, expiry) in source.take_expired() {
        warn!(?sa.direction, ?sa.protocol, ?expiry, "a hand-made key is used up: make a new one and reload");
    }
}

const fn obstacle(peer: PeerId, (direction, protocol): (SaDirection, SaProtocol), why: Why) -> Obstacle {
    Obstacle {
        peer,
        direction,
        protocol,
        why,
    }
}

/// Nothing is in the way of new keys of a tunnel's `protocol`.
fn check<C: Backend, B>(
    now: Now,
    (new, protocol): (&NewKeys, SaProtocol),
    (source, associations): (&HandMadeSource, &Associations),
    place: &Place<'_, C, B>,
) -> Result<(), Obstacle> {
    let peer = new.peer;
    if let Some(until) = source.changing_until(peer, protocol) {
        let left_s = until.since(now).div_ceil(Now::SECOND);
        return Err(obstacle(peer, (SaDirection::Out, protocol), Why::Changing(left_s)));
    }
    for (direction, sa) in [SaDirection::In, SaDirection::Out]
        .into_iter()
        .zip(new.tunnel.keys.pair(protocol))
    {
        let name = SaName {
            peer,
            direction,
            protocol,
            spi: sa.spi,
        };
        let is_looked_up = (direction, protocol) == (SaDirection::In, SaProtocol::Ah);
        if associations.has(name) || is_looked_up && !place.writer.is_free(peer, sa.spi) {
            return Err(obstacle(peer, (direction, protocol), Why::SpiInUse));
        }
    }
    Ok(())
}

fn begin_generation(durable: &mut Durable, of: (PeerId, Generation), sas: &HandMade) {
    durable.begin_generation(of, [&sas.ah_in.key, &sas.ah_out.key]);
}

fn keep_places(durable: &mut Durable, protocol: SaProtocol, sas: &HandMade) {
    let keys = sas.pair(protocol).map(|sa| &sa.key);
    for place in KeyPlace::of_pair(protocol, keys) {
        durable.keep_place(&place);
    }
}

/// The inbound and the outbound association of a tunnel's `protocol`, with numbers that no earlier one under the same key has used.
fn pair<C: Backend, B, K>(
    peer: PeerId,
    (tunnel, sas): (&Tunnel<K>, &HandMade),
    (protocol, generation): (SaProtocol, Generation),
    place: &mut Place<'_, C, B>,
) -> Result<[SaSpec; 2], Obstacle> {
    let [sa_in, sa_out] = sas.pair(protocol);
    let at = |direction| move |error: DurableError| obstacle(peer, (direction, protocol), error.into());
    let (inbound, outbound) = (at(SaDirection::In), at(SaDirection::Out));
    let durable = &mut *place.durable;
    let [place_in, place_out] = KeyPlace::of_pair(protocol, [&sa_in.key, &sa_out.key]);
    durable.check_place(&place_in).map_err(inbound)?;
    durable.check_place(&place_out).map_err(outbound)?;
    let kind = match protocol {
        SaProtocol::Esp => SaKind::Esp(tunnel.esp),
        SaProtocol::Ah => SaKind::Ah {
            algorithm: tunnel.ah,
            generation,
            spi_counter: Some(durable.spi_counter([&sa_in.key, &sa_out.key]).map_err(inbound)?),
        },
    };
    let ah_ivs = match (protocol, tunnel.ah) {
        (SaProtocol::Ah, MacAlgorithm::Aes128Gmac) => durable.ivs(&sa_out.key, place.workers).map_err(outbound)?,
        _ => Vec::new(),
    };
    let spec = |sa: &Sa, numbers| SaSpec {
        peer,
        spi: sa.spi,
        kind,
        key: Zeroizing::new(sa.key.expose().to_vec()),
        esn: tunnel.esn,
        numbers,
        lifetime: Lifetime::NONE,
    };
    let highest = durable.highest(&sa_in.key).map_err(inbound)?;
    let grant = durable.sequence(&sa_out.key).map_err(outbound)?;
    Ok([
        spec(sa_in, Numbers::In { highest }),
        spec(sa_out, Numbers::Out { grant, ah_ivs }),
    ])
}

#[cfg(test)]
mod tests;
