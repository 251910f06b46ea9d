//! `ain endpoint --close`: asks the AIN, through the tunnel of the endpoint that runs, to end what carries datagrams of a pair.
//!
//! ```text
//!   ain endpoint --close ──unix socket──► the endpoint that runs ──UDP 4797 in its tunnel──► AIN
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use ain_controlplane::request::{Answer, Close, Outcome, open, wrap};
use ain_controlplane::signal::ends::Ends;
use ain_dataplane::id::Pair;
use anyhow::{Context, bail};

use crate::admin;
use crate::config::{EndpointConfig, Tunnel};
use crate::listen::SocketFile;
use crate::reload::{self, Reloader};

/// Time after which a request goes out again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it goes out in all.
const SENDINGS: u8 = 4;
/// How long an asker waits at most: until the last sending has had its time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests that wait for the endpoint's thread, and that it has under way.
const AT_A_TIME: usize = 16;

/// Asks the running endpoint that the file at `path` describes to have the AIVT of `pair` ended. Returns what came of it, in words.
///
/// # Errors
/// The file, no endpoint that runs, or no answer of the AIN; an outcome other than closed.
pub fn close(path: &Path, pair: Pair) -> anyhow::Result<String> {
    let config = EndpointConfig::load(path, SystemTime::now())?;
    let Pair { source, destination } = pair;
    Ok(admin::ask(
        &socket(&config.state_dir),
        &format!("close {source} {destination}"),
    )?)
}

/// Where the running endpoint with this state directory listens.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("endpoint.sock")
}

type Asked = (Pair, Sender<Outcome>);

/// The running endpoint's side.
pub struct Closer {
    ends: Ends,
    asked: Receiver<Asked>,
    under_way: BTreeMap<u32, UnderWay>,
    _socket: SocketFile,
}

struct UnderWay {
    pair: Pair,
    asker: Sender<Outcome>,
    again: Instant,
    left: u8,
}

impl Closer {
    /// Listens for askers, also for those of a reload.
    ///
    /// # Errors
    /// The socket.
    pub fn listen(config: &EndpointConfig, reloader: Arc<Reloader>) -> anyhow::Result<Self> {
        let Tunnel { local, remote, .. } = config.tunnel;
        let (to, asked) = sync_channel(AT_A_TIME);
        let socket = admin::serve_words(&socket(&config.state_dir), move |words| match words {
            reload::REQUEST => reloader.reload(),
            _ => answer(&to, words),
        })?;
        Ok(Self {
            ends: Ends::between(local, remote).context("a tunnel's addresses are of one family")?,
            asked,
            under_way: BTreeMap::new(),
            _socket: socket,
        })
    }

    /// Datagrams for the AIN that are due at `now`; `draw` makes ids.
    pub fn due(&mut self, now: Instant, mut draw: impl FnMut() -> u32) -> Vec<Vec<u8>> {
        while self.under_way.len() < AT_A_TIME
            && let Ok((pair, asker)) = self.asked.try_recv()
        {
            let (again, left) = (now, SENDINGS);
            self.under_way.insert(
                draw(),
                UnderWay {
                    pair,
                    asker,
                    again,
                    left,
                },
            );
        }
        // Who waits for one that was sent often enough sees the channel close.
        self.under_way.retain(|_, one| one.left > 0 || one.again > now);
        let due = self.under_way.iter_mut().filter(|(_, one)| one.again <= now);
        due.map(|(id, one)| {
            (one.again, one.left) = (now + AGAIN, one.left - 1);
            let close = Close {
                id: *id,
                pair: one.pair,
            };
            wrap(&self.ends, &close.to_bytes())
        })
        .collect()
    }

    /// A datagram of the AIN to this endpoint itself.
    pub fn heard(&mut self, datagram: &[u8]) {
        let answer = open(datagram).and_then(|(_, payload)| Answer::parse(payload));
        let Ok(Answer { id, outcome }) = answer else { return };
        if let Some(one) = self.under_way.remove(&id) {
            // An asker that has gone away is no trouble.
            let _gone = one.asker.send(outcome);
        }
    }
}

/// Answers "close SOURCE DESTINATION".
fn answer(to: &SyncSender<Asked>, words: &str) -> Result<String, String> {
    let pair = asked_pair(words).map_err(|error| error.to_string())?;
    let (asker, outcome) = channel();
    to.try_send((pair, asker))
        .map_err(|_| "too many requests at once".to_owned())?;
    match outcome.recv_timeout(PATIENCE) {
        Ok(Outcome::Closed) => Ok("closed".to_owned()),
        Ok(Outcome::Unknown) => Err("no AIVT carries datagrams of this host between these addresses".to_owned()),
        Ok(Outcome::NotUnderstood) => Err("the AIN does not understand the request".to_owned()),
        Err(_) => Err("the AIN does not answer".to_owned()),
    }
}

fn asked_pair(words: &str) -> anyhow::Result<Pair> {
    let mut words = words.split_whitespace();
    let (Some("close"), Some(source), Some(destination), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("no such request");
    };
    let (source, destination): (IpAddr, IpAddr) = (source.parse()?, destination.parse()?);
    if source.is_ipv4() != destination.is_ipv4() {
        bail!("{source} and {destination} are of two families");
    }
    Ok(Pair { source, destination })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closer() -> (Closer, SyncSender<Asked>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (to, asked) = sync_channel(AT_A_TIME);
        let _socket = admin::serve_words(&dir.path().join("endpoint.sock"), |_| Err(String::new())).unwrap();
        let ends = Ends::between("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()).unwrap();
        let under_way = BTreeMap::new();
        (
            Closer {
                ends,
                asked,
                under_way,
                _socket,
            },
            to,
            dir,
        )
    }

    fn pair() -> Pair {
        asked_pair("close 10.0.0.1 10.0.0.2").unwrap()
    }

    #[test]
    fn a_request_is_sent_again_and_given_up() {
        let (mut closer, to, _dir) = closer();
        let (asker, outcome) = channel();
        to.send((pair(), asker)).unwrap();
        let begun = Instant::now();
        for time in 0..u32::from(SENDINGS) {
            let at = begun + time * AGAIN;
            assert_eq!(
                (closer.due(at, || 7).len(), closer.due(at, || 8).len()),
                (1, 0),
                "{time}"
            );
        }
        assert!(closer.due(begun + u32::from(SENDINGS) * AGAIN, || 9).is_empty());
        assert!(closer.under_way.is_empty() && outcome.recv().is_err());
    }

    #[test]
    fn the_answer_with_its_id_reaches_the_asker() {
        let (mut closer, to, _dir) = closer();
        let (asker, outcome) = channel();
        to.send((pair(), asker)).unwrap();
        let sent = closer.due(Instant::now(), || 7);
        let (ends, payload) = open(&sent[0]).unwrap();
        assert_eq!(Close::parse(payload), Ok(Close { id: 7, pair: pair() }));
        for (id, outcome) in [(8, Outcome::Closed), (7, Outcome::Unknown)] {
            closer.heard(&wrap(&ends, &Answer { id, outcome }.to_bytes()));
        }
        assert_eq!(outcome.recv(), Ok(Outcome::Unknown));
    }

    #[test]
    fn words() {
        assert!(asked_pair("close 2001:db8::1 2001:db8::2").is_ok());
        for wrong in [
            "close",
            "close 10.0.0.1",
            "open 10.0.0.1 10.0.0.2",
            "close 10.0.0.1 ::1",
            "close 10.0.0.1 10.0.0.2 x",
            "close a b",
        ] {
            assert!(asked_pair(wrong).is_err(), "{wrong}");
        }
    }
}
