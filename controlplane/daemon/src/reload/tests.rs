//! Files that may be reloaded, and those that may not, with what is said of them.

use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use ain_dataplane::id::Spi;

use super::*;
use crate::config::tests::Samples;
use crate::control_thread::Request;
use crate::hand_made::Why;

type Asked = Vec<(PeerId, Vec<SaProtocol>)>;

/// The samples, a process that runs with one of them, and what its control thread is asked.
struct Running {
    samples: Samples,
    file: &'static str,
    reloader: Option<Reloader>,
    asked: Receiver<Asked>,
    control: Option<JoinHandle<()>>,
}

impl Running {
    /// Its control thread refuses what `refuse` says.
    fn new(file: &'static str, refuse: impl Fn(&NewKeys) -> Option<Obstacle> + Send + 'static) -> Self {
        let samples = Samples::new();
        let load: Load = if file == "ain.toml" { of_node } else { of_endpoint };
        let (asker, requests) = Asker::new(thread::current());
        let (tell, asked) = channel();
        let control = thread::spawn(move || {
            while let Ok(Request::ReplaceKeys(keys, answer)) = requests.recv() {
                let names = keys.iter().map(|new| (new.peer, new.protocols.clone())).collect();
                tell.send(names).unwrap();
                let outcome = keys.iter().find_map(&refuse).map_or(Ok(()), Err);
                answer.send(outcome).unwrap();
            }
        });
        let path = samples.path(file);
        let text = read(&path).unwrap();
        let loaded = load(&path, &text).unwrap();
        let known = Known::of(&text, loaded.iter().map(|one| (one.peer, &one.tunnel.keys)));
        Self {
            reloader: Some(Reloader::new(&path, load, known, Arc::new(asker))),
            samples,
            file,
            asked,
            control: Some(control),
        }
    }

    /// Another SPI and another key for one SA of the samples.
    fn renew(&self, spi: &str, key: &str, bytes: u8) -> &Self {
        self.renew_spi(spi).renew_key(key, bytes)
    }

    fn renew_spi(&self, spi: &str) -> &Self {
        self.samples
            .edit(self.file, &format!("spi = {spi}"), &format!("spi = {spi}0"));
        self
    }

    fn renew_key(&self, key: &str, bytes: u8) -> &Self {
        let other: Vec<u8> = (0..bytes)
            .map(|at| at ^ key.bytes().fold(0x5a, |sum, byte| sum ^ byte << 1))
            .collect();
        self.samples.write_private(&format!("keys/{key}"), &hex::encode(other));
        self
    }

    fn reload(&self) -> Result<String, String> {
        let prefix = format!("{}/", self.samples.path("").display());
        let outcome = self.reloader.as_ref().unwrap().reload();
        outcome.map_err(|error| error.replace(&prefix.replace("//", "/"), ""))
    }

    /// What is said of a line that begins with `marker`, in the file as it is.
    fn at(&self, marker: &str, problem: &str) -> String {
        let text = std::fs::read_to_string(self.samples.path(self.file)).unwrap();
        let line = text.lines().position(|line| line.starts_with(marker)).unwrap() + 1;
        format!("{}:{line}: {problem}", self.file)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reloader = None;
        self.control.take().unwrap().join().unwrap();
    }
}

#[test]
fn line_1_new_keys_are_brought_to_the_control_thread_once() {
    let node = Running::new("ain.toml", |_| None);
    assert_eq!(node.reload().unwrap(), "nothing has changed");
    node.renew("0x1001", "ain2.ah_in", 20)
        .renew("0x1002", "ain2.ah_out", 20);
    node.renew("0x2003", "alice.esp_in", 20)
        .renew("0x2004", "alice.esp_out", 20);
    node.renew("0x2001", "alice.ah_in", 32)
        .renew("0x2002", "alice.ah_out", 32);
    let words = node.reload().unwrap();
    assert!(words.starts_with("new keys of tunnels (AH 2, ESP 1)"), "{words}");
    let asked = node.asked.recv().unwrap();
    assert_eq!(
        asked,
        [(PeerId(0), vec![SaProtocol::Ah]), (PeerId(1), PROTOCOLS.to_vec())]
    );
    assert_eq!(node.reload().unwrap(), "nothing has changed");
    assert!(node.asked.try_recv().is_err());
    assert_eq!(node.reloader.as_ref().unwrap().counts().read(), [3, 0]);
}

#[test]
fn line_1_a_host_has_its_keys_replaced_too() {
    let host = Running::new("endpoint-initiator.toml", |_| None);
    let text = std::fs::read_to_string(host.samples.path(host.file)).unwrap();
    let spi = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split(['=', ',']).nth(2).unwrap().trim().to_owned()
    };
    host.renew(&spi("esp_in"), "esp_in", 20)
        .renew(&spi("esp_out"), "esp_out", 20);
    host.reload().unwrap();
    assert_eq!(host.asked.recv().unwrap(), [(PeerId(0), vec![SaProtocol::Esp])]);
    host.samples.edit(host.file, "inner_mtu = 1386", "inner_mtu = 1300");
    let refused = host.reload().unwrap_err();
    assert_eq!(
        refused,
        host.at("inner_mtu", "endpoint.inner_mtu: has changed: that takes a restart")
    );
}

#[test]
fn line_1_other_changes_are_refused_by_file_line_and_field() {
    type Change = fn(&Running);
    let cases: [(Change, &str, &str); 8] = [
        (
            |node| {
                node.samples.edit("ain.toml", "192.0.2.10", "192.0.2.11");
            },
            "remote = \"192.0.2.11\"",
            "hosts[0].remote: has changed: that takes a restart",
        ),
        (
            |node| {
                node.samples.edit("ain.toml", "# rate = 200", "rate = 200");
            },
            "rate = 200",
            "neighbours[0].rate: has changed: that takes a restart",
        ),
        (
            |node| {
                node.renew_key("ain2.ah_in", 20);
            },
            "ah_in   = { spi = 0x1001",
            "neighbours[0].ah_in: another key needs another SPI",
        ),
        (
            |node| {
                node.renew_spi("0x2004");
            },
            "esp_out = { spi = 0x20040",
            "hosts[0].esp_out: another SPI needs another key",
        ),
        (
            |node| {
                node.renew("0x2006", "web.ah_out", 32);
            },
            "ah_in   = { spi = 0x2005",
            "hosts[1].ah_in: stays, though the other direction changes: both do or none",
        ),
        (
            |node| {
                node.renew("0x2005", "web.ah_in", 32);
            },
            "ah_out  = { spi = 0x2006",
            "hosts[1].ah_out: stays, though the other direction changes: both do or none",
        ),
        (
            |node| {
                node.renew("0x1001", "ain2.ah_in", 19);
            },
            "ah_in   = { spi = 0x10010",
            "neighbours[0].ah_in.key_file: 19 bytes where aes-128-gmac takes 20 (16 of key, 4 of salt)",
        ),
        (
            |node| {
                node.samples.edit("ain.toml", "name = \"wan\"", "name = 7");
            },
            "name = 7",
            "ports[0].name: invalid type: integer `7`, expected a string",
        ),
    ];
    for (change, marker, problem) in cases {
        let node = Running::new("ain.toml", |_| None);
        change(&node);
        let refused = node.reload().unwrap_err();
        assert_eq!(refused, node.at(marker, problem));
        assert!(node.asked.try_recv().is_err(), "nothing is asked");
        assert_eq!(node.reloader.as_ref().unwrap().counts().read(), [0, 1]);
    }
}

#[test]
fn line_1_a_field_that_is_gone_is_named() {
    let node = Running::new("ain.toml", |_| None);
    node.samples.edit("ain.toml", "metrics = ", "# metrics = ");
    assert_eq!(
        node.reload().unwrap_err(),
        "ain.toml: node.metrics is gone: that takes a restart"
    );
}

#[test]
fn line_1_what_the_control_thread_refuses_has_a_place_and_may_be_tried_again() {
    let refuse = |new: &NewKeys| {
        let is_bad = new.tunnel.keys.esp_in.spi == Spi::new(0x10030).unwrap();
        is_bad.then_some(Obstacle {
            peer: new.peer,
            direction: SaDirection::In,
            protocol: SaProtocol::Esp,
            why: Why::Changing(7),
        })
    };
    let node = Running::new("ain.toml", refuse);
    node.renew("0x1003", "ain2.esp_in", 20)
        .renew("0x1004", "ain2.esp_out", 20);
    for _ in 0..2 {
        let refused = node.reload().unwrap_err();
        let begins = node.at(
            "esp_in  = { spi = 0x10030",
            "neighbours[0].esp_in: these keys are being changed",
        );
        assert!(refused.starts_with(&begins) && refused.ends_with("in 7 s"), "{refused}");
    }
    node.samples.edit("ain.toml", "0x10030", "0x1f030");
    node.reload().unwrap();
}

#[test]
fn what_is_remembered_has_no_key() {
    let samples = Samples::new();
    let (path, key) = (samples.path("ain.toml"), "00112233445566778899aabbccddeeff00112233");
    samples.edit(
        "ain.toml",
        "key_file = \"keys/ain2.ah_in\"",
        &format!("key = \"{key}\""),
    );
    let fields = Fields::of(&read(&path).unwrap());
    assert_eq!(fields.sas.len(), 12);
    assert!(fields.fixed.len() > 50);
    for (field, (value, _)) in &fields.fixed {
        assert!(
            !value.contains(key) && !SA_FIELDS.iter().any(|sa| field.contains(sa)),
            "{field}"
        );
    }
}
