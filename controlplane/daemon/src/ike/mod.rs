//! Keys made by IKE: charon of strongSwan, beside this process, negotiates them and hands them over at a unix socket.
//!
//! ```text
//!   charon ◄─► its plugin ◄─ socket ─► Server ─► IkeSource ─► Associations ─► packet path
//! ```

pub mod check;
pub mod message;
pub mod pairs;
pub mod server;
pub mod source;

use std::path::Path;
use std::sync::Arc;
use std::thread::Thread;

use ain_controlplane::hand_made::HandMadeSource;
use ain_controlplane::lifetime::Expiry;
use ain_controlplane::sa::{SaEvent, SaName, SaSource};
use ain_controlplane::table_writer::TableError;
use ain_dataplane::id::{Now, PeerId, Spi};
use ain_dataplane::usage::SaUse;
use rand::RngExt;
use rand::rngs::StdRng;
use tracing::info;

use crate::listen::ListenError;
use check::IkeTunnel;
use message::Request;
use server::{Connection, Event, Server};
use source::IkeSource;

/// charon as the control thread meets it.
pub struct Ike {
    server: Server,
    plugin: Option<Connection>,
    source: IkeSource,
    rng: StdRng,
}

impl Ike {
    /// Serves at `path` for `tunnels` of a node with `workers` workers. `control` is woken when charon asks for something.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn start(
        path: &Path,
        (tunnels, workers): (Vec<IkeTunnel>, u8),
        control: Thread,
        mut rng: StdRng,
    ) -> Result<Self, ListenError> {
        Ok(Self {
            server: Server::start(path, control)?,
            plugin: None,
            source: IkeSource::new(tunnels, workers, rng.random()),
            rng,
        })
    }

    /// Takes what has happened at the socket since, one thing at a time; whether there was any. `is_free`: whether no AH association
    /// from a peer, and no TVT, has an SPI.
    pub fn step(&mut self, now: Now, is_free: impl Fn(PeerId, Spi) -> bool) -> bool {
        let Some(event) = self.server.poll() else { return false };
        match event {
            Event::Request { from, id, request } => {
                if matches!(request, Request::Hello { .. }) {
                    self.plugin = Some(from.clone());
                }
                // What an older connection has asked, nobody waits for.
                if self.plugin.as_ref().is_some_and(|plugin| plugin.is(&from)) {
                    self.source.handle_request(now, (id, request), &mut self.rng, is_free);
                }
            }
            Event::Ended(connection) => {
                if self.plugin.take_if(|plugin| plugin.is(&connection)).is_some() {
                    info!("charon is gone");
                }
            }
        }
        true
    }

    /// Answers charon, and tells it what has expired; while it is away the latter waits.
    pub fn reply(&mut self) {
        while let Some(plugin) = &self.plugin
            && let Some((id, reply)) = self.source.poll_reply()
        {
            if !plugin.send(id, &reply) {
                self.plugin = None;
                self.source.not_told(id, reply);
            }
        }
        if self.plugin.is_none() {
            self.source.handle_gone();
        }
    }

    /// Once a second or so, at `now` and `wall`, Unix seconds.
    pub fn every_second(&mut self, now: Now, wall: u64) {
        self.source.handle_timeout(now, wall);
    }

    /// Whether charon is there.
    pub const fn is_connected(&self) -> bool {
        self.plugin.is_some()
    }

    /// What it makes.
    pub const fn source(&self) -> &IkeSource {
        &self.source
    }
}

/// Where all associations of a node come from.
#[derive(Default)]
pub struct Sources {
    /// The configuration.
    pub hand_made: HandMadeSource,
    /// charon, where some tunnel has its keys by IKE.
    pub ike: Option<Ike>,
}

impl SaSource for Sources {
    fn poll_event(&mut self) -> Option<SaEvent> {
        let of_ike = |ike: &mut Ike| ike.source.poll_event();
        self.hand_made
            .poll_event()
            .or_else(|| self.ike.as_mut().and_then(of_ike))
    }

    fn handle_added(&mut self, sa: SaName, outcome: Result<Arc<SaUse>, TableError>) {
        match &mut self.ike {
            Some(ike) if ike.source.makes(sa.peer) => ike.source.handle_added(sa, outcome),
            _ => self.hand_made.handle_added(sa, outcome),
        }
    }

    fn handle_expired(&mut self, sa: SaName, expiry: Expiry) {
        match &mut self.ike {
            Some(ike) if ike.source.makes(sa.peer) => ike.source.handle_expired(sa, expiry),
            _ => self.hand_made.handle_expired(sa, expiry),
        }
    }
}

#[cfg(test)]
mod tests;
