//! Line 2: the socket, with a plugin of a few lines at its other end.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use hex_literal::hex;
use socket2::{Domain, SockAddr};

use super::*;
use crate::ike::source::tests::hello;

/// A plugin that says what it is told to.
pub struct Client(Socket);

impl Client {
    pub fn connect(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    pub fn send(&self, bytes: &[u8]) {
        assert_eq!(self.0.send(bytes).unwrap(), bytes.len());
    }

    /// The next message; empty at the end of the connection.
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let bytes = (&self.0).read(&mut buffer).unwrap();
        buffer[..bytes].to_vec()
    }

    /// Why the node refused request `id`.
    fn refusal(&self, id: u8) -> String {
        let message = self.receive();
        assert_eq!(message[..8], [1, 129, 0, 0, 0, 0, 0, id]);
        String::from_utf8(message[8..].to_vec()).unwrap()
    }
}

/// The next event; they come by themselves.
fn next(server: &Server) -> Event {
    let begun = Instant::now();
    loop {
        if let Some(event) = server.poll() {
            return event;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing happened");
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn start() -> (tempfile::TempDir, std::path::PathBuf, Server) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/ike.sock");
    let server = Server::start(&path, thread::current()).unwrap();
    (dir, path, server)
}

#[test]
fn line_2_requests_come_in_order_and_answers_go_back() {
    let (_dir, path, server) = start();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let client = Client::connect(&path);
    client.send(&hello(5).encode(1));
    client.send(&Request::Flush.encode(2));
    let Event::Request { from, id: 1, request } = next(&server) else {
        panic!("no HELLO")
    };
    assert!(matches!(request, Request::Hello { session: 5, .. }));
    from.send(1, &Reply::Process(9));
    assert!(matches!(
        next(&server),
        Event::Request {
            id: 2,
            request: Request::Flush,
            ..
        }
    ));
    from.send(2, &Reply::Done);
    assert_eq!(client.receive(), hex!("01 80 0000 00000001 0000000000000009"));
    assert_eq!(client.receive(), hex!("01 80 0000 00000002"));
    drop(client);
    assert!(matches!(next(&server), Event::Ended(connection) if connection.is(&from)));
}

#[test]
fn line_2_what_is_no_request_is_refused_at_once() {
    let (_dir, path, server) = start();
    let client = Client::connect(&path);
    client.send(&Request::Flush.encode(1));
    assert!(client.refusal(1).starts_with("HELLO is the first message"));
    client.send(&hex!("02 01 0000 00000002"));
    assert_eq!(client.refusal(2), "`version` is 2, and this node speaks 1");
    client.send(&[hello(1).encode(3).to_vec(), vec![b'x'; MESSAGE_BYTES_MAX]].concat());
    assert!(client.refusal(3).contains("behind the last field"));
    client.send(&hello(1).encode(4));
    client.send(&hello(1).encode(5));
    assert!(client.refusal(5).starts_with("HELLO is the first message"));
    assert!(matches!(next(&server), Event::Request { id: 4, .. }));
    assert!(server.poll().is_none());
}

#[test]
fn line_2_a_new_plugin_replaces_the_old_one() {
    let (_dir, path, server) = start();
    let old = Client::connect(&path);
    old.send(&hello(1).encode(1));
    let Event::Request { from, .. } = next(&server) else {
        panic!("no HELLO")
    };
    let new = Client::connect(&path);
    assert!(old.receive().is_empty());
    assert!(matches!(next(&server), Event::Ended(connection) if connection.is(&from)));
    new.send(&hello(1).encode(1));
    assert!(matches!(next(&server), Event::Request { from: other, .. } if !other.is(&from)));
}

#[test]
fn line_2_a_plugin_that_does_not_read_loses_its_connection() {
    let (_dir, path, server) = start();
    let client = Client::connect(&path);
    client.send(&hello(1).encode(1));
    let Event::Request { from, .. } = next(&server) else {
        panic!("no HELLO")
    };
    let reply = Reply::Refused("x".repeat(4000));
    assert!((0..1000).any(|_| !from.send(1, &reply)));
    assert!(matches!(next(&server), Event::Ended(connection) if connection.is(&from)));
}

#[test]
fn line_2_a_second_node_does_not_take_the_socket_and_a_stale_one_is_replaced() {
    let (_dir, path, server) = start();
    assert!(matches!(
        Server::start(&path, thread::current()),
        Err(ListenError::InUse(_))
    ));
    drop(server);
    assert!(!path.exists());
    let stale = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    stale.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    drop(stale);
    let _server = Server::start(&path, thread::current()).unwrap();
    Client::connect(&path);
}
