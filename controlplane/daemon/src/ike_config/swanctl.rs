//! The text of a `swanctl.conf`.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ipnet::IpNet;

use super::all_of;
use crate::config::{Auth, Rekey, Tunnel};
use crate::host_config::{AH_REQID, ESP_REQID};

/// With it begin the names of all files of credentials that are copies.
pub(super) const PREFIX: &str = "ain-";
/// Certificate and private key of the end that is told.
pub(super) const OWN_FILE: &str = "ain-own.pem";
/// Seconds that the negotiation of successors may take, at least.
const REKEY_ROOM_S: u64 = 30;
/// By how much the end that is not first rekeys later, at least.
const REKEY_LATER_MIN: u64 = 3;
/// Packets of a kernel's replay window.
const REPLAY_WINDOW: u16 = 1024;
/// Seconds of silence after which a peer is asked whether it lives.
const DPD_DELAY_S: u8 = 2;

/// File of the authority in place `at`.
pub(super) fn authority(at: usize) -> String {
    format!("{PREFIX}ca-{at}.pem")
}

/// One end of a tunnel.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// Outer address.
    pub(super) address: IpAddr,
    /// What it calls itself.
    pub(super) id: &'a str,
    /// Prefixes behind it.
    pub(super) inside: &'a [IpNet],
}

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An AIN, and the place of the tunnel among its own: its plugin makes tunnels when they are not there.
    Node(usize),
    /// A Linux kernel with policies of its own. The AIN begins: two that begin at once make a tunnel twice, and packets are lost when the
    /// second is taken down.
    Kernel,
}

/// A connection: one tunnel as one end is told.
pub(super) struct Connection<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The tunnel.
    pub(super) tunnel: &'a Tunnel,
    /// How the ends prove who they are.
    pub(super) auth: &'a Auth,
    /// When successors are negotiated.
    pub(super) rekey: Rekey,
    /// How many authorities are believed.
    pub(super) authorities: usize,
    /// Who is told.
    pub(super) role: Role,
    /// It is first to negotiate successors.
    pub(super) is_first: bool,
    /// Its own end, then the other one.
    pub(super) ends: [End<'a>; 2],
}

/// Connections and the keys they need.
pub(super) fn write(out: &mut String, connections: &[Connection<'_>]) -> fmt::Result {
    writeln!(out, "connections {{")?;
    connections.iter().try_for_each(|connection| connection.write(out))?;
    writeln!(out, "}}\nsecrets {{")?;
    connections
        .iter()
        .try_for_each(|connection| connection.write_secret(out))?;
    writeln!(out, "}}")
}

impl Connection<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let [own, other] = &self.ends;
        writeln!(
            out,
            "    {} {{\n        version = 2\n        local_addrs = {}\n        remote_addrs = {}",
            self.name, own.address, other.address
        )?;
        writeln!(
            out,
            "        proposals = aes256gcm16-prfsha256-x25519\n        mobike = no\n        unique = replace\n        \
             keyingtries = 0\n        dpd_delay = {DPD_DELAY_S}s\n        rekey_time = 4h"
        )?;
        self.write_auth(out)?;
        writeln!(out, "        children {{")?;
        let esp = match self.tunnel.esp {
            AeadAlgorithm::Aes128Gcm16 => "aes128gcm16",
            AeadAlgorithm::Aes256Gcm16 => "aes256gcm16",
        };
        let ah = match self.tunnel.ah {
            MacAlgorithm::HmacSha256_128 => "sha256",
            MacAlgorithm::AesCmac96 => "aescmac",
            MacAlgorithm::Aes128Gmac => "aes128gmac",
        };
        // charon tells traps apart by their reqid alone.
        let [esp_reqid, ah_reqid] = match self.role {
            Role::Node(at) => [2 * at + 1, 2 * at + 2],
            Role::Kernel => [ESP_REQID, AH_REQID].map(usize::from),
        };
        let inside = self.ends.map(|end| selectors(end.inside, ""));
        self.write_child(out, "esp", esp, ("tunnel", esp_reqid, &inside))?;
        let inside = self.ends.map(|end| selectors(&all_of(end.inside), "[esp]"));
        self.write_child(out, "ah", ah, ("transport_proxy", ah_reqid, &inside))?;
        writeln!(out, "        }}\n    }}")
    }

    fn write_auth(&self, out: &mut String) -> fmt::Result {
        let [own, other] = &self.ends;
        match self.auth {
            Auth::Psk(_) => {
                writeln!(
                    out,
                    "        local {{\n            auth = psk\n            id = \"{}\"\n        }}",
                    own.id
                )?;
                writeln!(
                    out,
                    "        remote {{\n            auth = psk\n            id = \"{}\"\n        }}",
                    other.id
                )
            }
            Auth::Cert => {
                let authorities: Vec<String> = (0..self.authorities).map(authority).collect();
                writeln!(
                    out,
                    "        local {{\n            auth = pubkey\n            id = \"{}\"\n            certs = {OWN_FILE}\n        }}",
                    own.id
                )?;
                writeln!(
                    out,
                    "        remote {{\n            auth = pubkey\n            id = \"{}\"\n            cacerts = {}\n        }}",
                    other.id,
                    authorities.join(", ")
                )
            }
        }
    }

    /// `protocol`: "ah" or "esp"; then mode, reqid, and what is inside at this end and the other.
    fn write_child(
        &self,
        out: &mut String,
        protocol: &str,
        algorithm: &str,
        (mode, reqid, [own, other]): (&str, usize, &[String; 2]),
    ) -> fmt::Result {
        let esn = if self.tunnel.esn { "esn" } else { "noesn" };
        let name = self.name;
        writeln!(
            out,
            "            {name}-{protocol} {{\n                {protocol}_proposals = {algorithm}-x25519-{esn}\n                \
             mode = {mode}\n                reqid = {reqid}\n                local_ts = {own}\n                remote_ts = {other}"
        )?;
        self.write_lifetime(out)?;
        match self.role {
            Role::Node(_) => writeln!(out, "                start_action = trap\n            }}"),
            Role::Kernel => writeln!(
                out,
                "                policies = no\n                replay_window = {REPLAY_WINDOW}\n            }}"
            ),
        }
    }

    /// Both ends may rekey, and two successors at once are one too many: the end that is not first waits a quarter longer.
    fn write_lifetime(&self, out: &mut String) -> fmt::Result {
        let later = |limit: u64| limit + (limit / 4).max(REKEY_LATER_MIN);
        let rekey = |limit: u64| if self.is_first { limit } else { later(limit) };
        let seconds = u64::from(self.rekey.seconds);
        writeln!(
            out,
            "                rekey_time = {}s\n                life_time = {}s\n                rand_time = {}s",
            rekey(seconds),
            later(seconds) + REKEY_ROOM_S.max(seconds / 10),
            seconds / 10
        )?;
        for (unit, limit) in [("packets", self.rekey.packets), ("bytes", self.rekey.octets)] {
            if limit > 0 {
                let life = later(later(limit));
                writeln!(
                    out,
                    "                rekey_{unit} = {}\n                life_{unit} = {life}",
                    rekey(limit)
                )?;
            }
        }
        Ok(())
    }

    fn write_secret(&self, out: &mut String) -> fmt::Result {
        let Auth::Psk(key) = self.auth else {
            return Ok(());
        };
        let [own, other] = &self.ends;
        write!(
            out,
            "    ike-{} {{\n        id-1 = \"{}\"\n        id-2 = \"{}\"\n        secret = 0x",
            self.name, own.id, other.id
        )?;
        key.expose().iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
        writeln!(out, "\n    }}")
    }
}

fn selectors(nets: &[IpNet], within: &str) -> String {
    let each: Vec<String> = nets.iter().map(|net| format!("{net}{within}")).collect();
    each.join(", ")
}
