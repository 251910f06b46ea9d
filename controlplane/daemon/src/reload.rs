//! `ain reload` and SIGHUP: the running process reads its configuration file again and takes the hand-made keys that have changed.
//! Whatever else has changed is refused, and then nothing changes.
//!
//! ```text
//!   admin socket, SIGHUP ─► Reloader: read, check, compare ─► the control thread: hand_made::replace ─► words for who asked
//! ```
//! Of the file as it was, what is kept has no key in it, but hashes of keys.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use ain_controlplane::limits::HAND_MADE_PATIENCE;
use ain_controlplane::sa::{SaDirection, SaProtocol};
use ain_dataplane::id::{Now, PeerId, Spi};
use anyhow::bail;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tracing::{info, warn};

use crate::config::report::{Checker, Problems};
use crate::config::{EndpointConfig, HandMade, NodeConfig, SA_FIELDS, Sa, Tunnel, parse, read};
use crate::control_thread::Asker;
use crate::hand_made::{NewKeys, Obstacle, PROTOCOLS};
use crate::{admin, endpoint};

/// What the admin socket is asked.
pub const REQUEST: &str = "reload";

/// A tunnel with hand-made keys.
pub struct Loaded {
    /// The other end.
    pub peer: PeerId,
    /// Where the file has it, `"tunnel."` or `"hosts[3]."`.
    pub field: String,
    /// The tunnel.
    pub tunnel: Tunnel<HandMade>,
}

/// What reads and checks a file with this text.
pub type Load = fn(&Path, &str) -> Result<Vec<Loaded>, Problems>;

/// Of a node's file.
///
/// # Errors
/// What is wrong with it. A node with `[benchmark]` takes no other keys.
pub fn of_node(path: &Path, text: &str) -> Result<Vec<Loaded>, Problems> {
    let config = NodeConfig::of_text(path, text, SystemTime::now())?;
    if config.benchmark.is_some() {
        return Err(Problems::of_file(
            path,
            "a node with [benchmark] keeps its keys until it ends",
        ));
    }
    let neighbours = config.neighbours.into_iter().map(|one| one.tunnel).enumerate();
    let neighbours = neighbours.map(|(at, tunnel)| (format!("neighbours[{at}]."), tunnel));
    let hosts = config.hosts.into_iter().map(|one| one.tunnel).enumerate();
    let hosts = hosts.map(|(at, tunnel)| (format!("hosts[{at}]."), tunnel));
    let all = neighbours.chain(hosts).zip((0..).map(PeerId));
    let loaded = |((field, tunnel), peer): ((String, Tunnel), PeerId)| {
        let tunnel = tunnel.into_hand_made()?;
        Some(Loaded { peer, field, tunnel })
    };
    Ok(all.filter_map(loaded).collect())
}

/// Of a host's file.
///
/// # Errors
/// What is wrong with it.
pub fn of_endpoint(path: &Path, text: &str) -> Result<Vec<Loaded>, Problems> {
    let config = EndpointConfig::of_text(path, text, SystemTime::now())?;
    Ok(vec![Loaded {
        peer: PeerId(0),
        field: "tunnel.".into(),
        tunnel: config.tunnel,
    }])
}

/// An SA as it is remembered: its SPI and a hash of its key.
type Mark = (Spi, [u8; 32]);

fn mark(sa: &Sa) -> Mark {
    (sa.spi, Sha256::digest(sa.key.expose()).into())
}

/// What a running process knows of its file.
pub struct Known {
    /// Everything but SAs, by field.
    fixed: BTreeMap<String, String>,
    sas: BTreeMap<(PeerId, SaProtocol), [Mark; 2]>,
}

impl Known {
    /// Of a good file with this text and these hand-made keys.
    pub fn of<'a>(text: &str, keys: impl Iterator<Item = (PeerId, &'a HandMade)>) -> Self {
        let fields = Fields::of(text).fixed.into_iter();
        let marks = |(peer, sas): (PeerId, &'a HandMade)| PROTOCOLS.map(|of| ((peer, of), sas.pair(of).map(mark)));
        Self {
            fixed: fields.map(|(field, (value, _))| (field, value)).collect(),
            sas: keys.flat_map(marks).collect(),
        }
    }
}

/// The fields of a file, each with its place.
#[derive(Default)]
struct Fields {
    fixed: BTreeMap<String, (String, Range<usize>)>,
    sas: BTreeMap<String, Range<usize>>,
}

impl Fields {
    fn of(text: &str) -> Self {
        let mut fields = Self::default();
        if let Ok(table) = DeTable::parse(text) {
            fields.table("", table.get_ref());
        }
        fields
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        let dot = if path.is_empty() { "" } else { "." };
        for (name, value) in table {
            let name = name.get_ref();
            let field = format!("{path}{dot}{name}");
            if SA_FIELDS.contains(&&**name) {
                self.sas.insert(field, value.span());
            } else {
                self.value(field, value);
            }
        }
    }

    fn value(&mut self, field: String, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => self.table(&field, table),
            DeValue::Array(array) if !array.is_empty() => {
                for (at, value) in array.iter().enumerate() {
                    self.value(format!("{field}[{at}]"), value);
                }
            }
            leaf => {
                self.fixed.insert(field, (format!("{leaf:?}"), value.span()));
            }
        }
    }

    /// The first field that is not as it was, with its place if it is still there.
    fn changed(&self, before: &BTreeMap<String, String>) -> Option<(String, Option<Range<usize>>)> {
        let other = self
            .fixed
            .iter()
            .filter(|(field, (value, _))| before.get(*field) != Some(value));
        if let Some((field, (_, span))) = other.min_by_key(|(_, (_, span))| span.start) {
            return Some((field.clone(), Some(span.clone())));
        }
        let gone = before.keys().find(|field| !self.fixed.contains_key(*field))?;
        Some((gone.clone(), None))
    }
}

/// Whether inbound and outbound SA are others than before; what is wrong with one of them if that is no new pair.
fn is_new(before: &[Mark; 2], now: &[Mark; 2]) -> Result<bool, (SaDirection, &'static str)> {
    let mut new = [false; 2];
    for (at, direction) in [SaDirection::In, SaDirection::Out].into_iter().enumerate() {
        new[at] = match (before[at].0 == now[at].0, before[at].1 == now[at].1) {
            (true, true) => false,
            (false, false) => true,
            (true, false) => return Err((direction, "another key needs another SPI")),
            (false, true) => return Err((direction, "another SPI needs another key")),
        };
    }
    if new[0] == new[1] {
        return Ok(new[0]);
    }
    let kept = if new[0] { SaDirection::Out } else { SaDirection::In };
    Err((kept, "stays, though the other direction changes: both do or none"))
}

/// Reloads since the start, taken and refused.
#[derive(Debug, Default)]
pub struct ReloadCounts([AtomicU64; 2]);

impl ReloadCounts {
    /// Taken, refused.
    pub fn read(&self) -> [u64; 2] {
        [0, 1].map(|at: usize| self.0[at].load(Ordering::Relaxed))
    }
}

/// What reads a running process's file again.
pub struct Reloader {
    path: PathBuf,
    load: Load,
    known: Mutex<Known>,
    asker: Arc<Asker>,
    counts: Arc<ReloadCounts>,
}

impl Reloader {
    /// For the file at `path`, of which the process knows `known`; `asker` brings new keys to the control thread.
    pub fn new(path: &Path, load: Load, known: Known, asker: Arc<Asker>) -> Self {
        Self {
            path: path.to_owned(),
            load,
            known: Mutex::new(known),
            asker,
            counts: Arc::default(),
        }
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<ReloadCounts> {
        Arc::clone(&self.counts)
    }

    /// Reads the file and has its new keys taken. What came of it, in words.
    ///
    /// # Errors
    /// What is in the way, with file, line and field; nothing has changed.
    pub fn reload(&self) -> Result<String, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.take(&mut known);
        self.counts.0[usize::from(outcome.is_err())].fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(words) => {
                info!("reload: {words}");
                Ok(words)
            }
            Err(problems) => {
                // What is wrong may name a host's address.
                for problem in &problems.0 {
                    warn!(
                        line = problem.line,
                        field = problem.field,
                        "reload refused; `ain reload` says why"
                    );
                }
                let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
                Err(lines.join("\n"))
            }
        }
    }

    fn take(&self, known: &mut Known) -> Result<String, Problems> {
        let text = read(&self.path)?;
        let loaded = (self.load)(&self.path, &text)?;
        let found = Known::of(&text, loaded.iter().map(|one| (one.peer, &one.tunnel.keys)));
        let mut file = File {
            checker: Checker::new(&self.path, &text),
            fields: Fields::of(&text),
            tunnels: loaded.iter().map(|one| (one.peer, one.field.clone())).collect(),
        };
        if let Some((field, span)) = file.fields.changed(&known.fixed) {
            match span {
                Some(span) => file.checker.at(span, field, "has changed: that takes a restart"),
                None => file
                    .checker
                    .whole(format_args!("{field} is gone: that takes a restart")),
            }
            return file.checker.finish(None);
        }
        let new = file.new_keys(loaded, (known, &found));
        if file.checker.has_found() {
            return file.checker.finish(None);
        }
        if new.is_empty() {
            return Ok("nothing has changed".into());
        }
        let words = words(&new);
        match self.asker.replace_keys(new) {
            Ok(Ok(())) => {
                *known = found;
                Ok(words)
            }
            Ok(Err(obstacle)) => {
                let Obstacle {
                    peer,
                    direction,
                    protocol,
                    why,
                } = obstacle;
                file.at_sa(peer, (direction, protocol), &why);
                file.checker.finish(None)
            }
            Err(stalled) => Err(Problems::of_file(&self.path, stalled)),
        }
    }
}

/// A file under comparison.
struct File {
    checker: Checker,
    fields: Fields,
    /// Where each tunnel is.
    tunnels: BTreeMap<PeerId, String>,
}

impl File {
    /// Notes a problem with an SA.
    fn at_sa(&mut self, peer: PeerId, (direction, protocol): (SaDirection, SaProtocol), message: impl fmt::Display) {
        let sa = match (protocol, direction) {
            (SaProtocol::Ah, SaDirection::In) => "ah_in",
            (SaProtocol::Ah, SaDirection::Out) => "ah_out",
            (SaProtocol::Esp, SaDirection::In) => "esp_in",
            (SaProtocol::Esp, SaDirection::Out) => "esp_out",
        };
        let field = format!("{}{sa}", self.tunnels.get(&peer).map_or("", String::as_str));
        let place = self.fields.sas.get(&field).cloned();
        self.checker.at(place.unwrap_or_default(), field, message);
    }

    /// The tunnels whose keys are others; the same ones as before, for nothing else has changed.
    fn new_keys(&mut self, loaded: Vec<Loaded>, (before, now): (&Known, &Known)) -> Vec<NewKeys> {
        let mut new = Vec::new();
        for Loaded { peer, tunnel, .. } in loaded {
            let mut protocols = Vec::new();
            for protocol in PROTOCOLS {
                match is_new(&before.sas[&(peer, protocol)], &now.sas[&(peer, protocol)]) {
                    Ok(true) => protocols.push(protocol),
                    Ok(false) => {}
                    Err((direction, what)) => self.at_sa(peer, (direction, protocol), what),
                }
            }
            if !protocols.is_empty() {
                new.push(NewKeys {
                    peer,
                    tunnel,
                    protocols,
                });
            }
        }
        new
    }
}

fn words(new: &[NewKeys]) -> String {
    let count = |protocol| new.iter().filter(|one| one.protocols.contains(&protocol)).count();
    format!(
        "new keys of tunnels (AH {}, ESP {}): inbound they are good from now on; outbound they are used once the other end is heard under \
         them, or in {} s: it must have them by then",
        count(SaProtocol::Ah),
        count(SaProtocol::Esp),
        HAND_MADE_PATIENCE / Now::SECOND
    )
}

/// From now on SIGHUP asks for a reload, whose outcome is logged.
///
/// # Errors
/// The kernel takes no handler, or starts no thread.
pub fn on_hangup(reloader: Arc<Reloader>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let work = move || {
        for _ in signals.forever() {
            let _logged = reloader.reload();
        }
    };
    thread::Builder::new().name("reload".into()).spawn(work).map(drop)
}

/// What tells where a process listens, of either kind of file.
#[derive(Deserialize)]
struct Sockets {
    node: Option<NodeSocket>,
    endpoint: Option<EndpointState>,
}

#[derive(Deserialize)]
struct NodeSocket {
    admin_socket: PathBuf,
}

#[derive(Deserialize)]
struct EndpointState {
    state_dir: PathBuf,
}

/// Asks the process that runs with the file at `path` to reload it. What came of it, in words.
///
/// # Errors
/// The file names no socket, nobody listens there, or the new keys are refused.
pub fn ask(path: &Path) -> anyhow::Result<String> {
    let (checker, sockets) = parse::<Sockets>(path)?;
    let socket = match (sockets.node, sockets.endpoint) {
        (Some(node), _) => checker.resolve(&node.admin_socket),
        (None, Some(endpoint)) => endpoint::socket(&checker.resolve(&endpoint.state_dir)),
        (None, None) => bail!(Problems::of_file(path, "neither [node] nor [endpoint]")),
    };
    Ok(admin::ask(&socket, REQUEST)?)
}

#[cfg(test)]
mod tests;
