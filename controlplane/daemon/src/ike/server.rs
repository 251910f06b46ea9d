//! The socket at which charon's plugin talks to the node (`docs/ike-socket.md`).
//!
//! ```text
//!   plugin ─► thread: takes the connection, looks who it is, reads, decodes ─► bounded queue ─► control thread, woken
//!   plugin ◄────────────────────────── replies, never waited for ───────────────────────────── control thread
//! ```
//! One plugin at a time: a new connection replaces the old one. Only root and who runs the node may be one.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::libc::{MSG_DONTWAIT, MSG_NOSIGNAL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use socket2::{Socket, Type};
use tracing::{debug, info, warn};
use zeroize::{Zeroize, Zeroizing};

use super::message::{MESSAGE_BYTES_MAX, MessageError, Reply, Request, decode};
use crate::listen::{ListenError, SocketFile, listen};

/// Requests that wait for the control thread; the plugin waits when there are more.
const QUEUE: usize = 64;
/// Pause after the kernel had no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The way back to a plugin.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Socket>);

impl Connection {
    /// Sends, with the id of what is answered, 0 for nothing; whether it went out. A plugin that does not read loses its connection, and
    /// makes another one.
    pub fn send(&self, id: u32, reply: &Reply) -> bool {
        let sent = self.0.send_with_flags(&reply.encode(id), MSG_DONTWAIT | MSG_NOSIGNAL);
        if let Err(error) = &sent {
            debug!(%error, "charon's plugin does not take a reply");
            self.end();
        }
        sent.is_ok()
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn end(&self) {
        // It may have ended by itself.
        let _gone = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// What happens at the socket.
#[derive(Debug)]
pub enum Event {
    /// A request; the first one of a connection, and no other, is HELLO.
    Request {
        /// Where the answer goes.
        from: Connection,
        /// What the answer needs.
        id: u32,
        /// What is asked.
        request: Request,
    },
    /// A connection that has said HELLO is over.
    Ended(Connection),
}

/// The socket and what comes out of it.
#[derive(Debug)]
pub struct Server {
    _file: SocketFile,
    events: Receiver<Event>,
}

impl Server {
    /// Serves at `path` until the process ends. `control` is woken for each event.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn start(path: &Path, control: Thread) -> Result<Self, ListenError> {
        let (listener, file) = listen(path, Type::SEQPACKET)?;
        let (queue, events) = sync_channel(QUEUE);
        let mut reader = ReaderThread {
            listener,
            plugin: None,
            queue,
            control,
        };
        thread::Builder::new()
            .name("ike".into())
            .spawn(move || while reader.step().is_some() {})
            .map_err(|source| ListenError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { _file: file, events })
    }

    /// What has happened since, in order.
    pub fn poll(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

struct Plugin {
    connection: Connection,
    greeted: bool,
}

struct ReaderThread {
    listener: Socket,
    plugin: Option<Plugin>,
    queue: SyncSender<Event>,
    control: Thread,
}

impl ReaderThread {
    /// Waits for one thing and does it; `None` when nobody is there any more to hear of it.
    fn step(&mut self) -> Option<()> {
        let (is_new, has_message) = match self.wait() {
            Ok(ready) => ready,
            Err(nix::Error::EINTR) => return Some(()),
            Err(error) => {
                warn!(%error, "the socket for charon");
                thread::sleep(ACCEPT_PAUSE);
                return Some(());
            }
        };
        if has_message {
            self.read()?;
        }
        if is_new {
            match self.listener.accept() {
                Ok((socket, _)) => self.admit(socket)?,
                Err(error) => {
                    debug!(%error, "no connection of charon's plugin");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
        Some(())
    }

    /// Whether there is a new connection, and whether there is something of the old one.
    fn wait(&self) -> nix::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if let Some(plugin) = &self.plugin {
            fds.push(PollFd::new(plugin.connection.0.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut fds, PollTimeout::NONE)?;
        let ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any().unwrap_or(true));
        Ok((ready(0), ready(1)))
    }

    /// The plugin is this one from now on, if it may be.
    fn admit(&mut self, socket: Socket) -> Option<()> {
        match getsockopt(&socket, sockopt::PeerCredentials) {
            Ok(peer) if peer.uid() == 0 || peer.uid() == geteuid().as_raw() => {}
            Ok(peer) => {
                warn!(
                    uid = peer.uid(),
                    "a process of another user wants to be charon's plugin"
                );
                return Some(());
            }
            Err(error) => {
                warn!(%error, "who wants to be charon's plugin cannot be told");
                return Some(());
            }
        }
        self.drop_plugin()?;
        self.plugin = Some(Plugin {
            connection: Connection(Arc::new(socket)),
            greeted: false,
        });
        Some(())
    }

    fn drop_plugin(&mut self) -> Option<()> {
        match self.plugin.take() {
            Some(Plugin { connection, greeted }) => {
                connection.end();
                if greeted {
                    self.tell(Event::Ended(connection))
                } else {
                    Some(())
                }
            }
            None => Some(()),
        }
    }

    fn tell(&self, event: Event) -> Option<()> {
        self.queue.send(event).ok()?;
        self.control.unpark();
        Some(())
    }

    fn read(&mut self) -> Option<()> {
        let Some(plugin) = &mut self.plugin else {
            return Some(());
        };
        // One byte more than a message has: a longer one is known by it.
        let mut buffer = Zeroizing::new([0; MESSAGE_BYTES_MAX + 1]);
        let bytes = match (&*plugin.connection.0).read(&mut *buffer) {
            Ok(0) => return self.drop_plugin(),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(()),
            Err(error) => {
                debug!(%error, "charon's plugin");
                return self.drop_plugin();
            }
        };
        let decoded = decode(&buffer[..bytes]);
        buffer.zeroize();
        let from = plugin.connection.clone();
        match decoded {
            Ok((id, request)) if matches!(request, Request::Hello { .. }) != plugin.greeted => {
                plugin.greeted = true;
                self.tell(Event::Request { from, id, request })
            }
            Ok((id, _)) => {
                let why = "HELLO is the first message of a connection, and the only one of its kind";
                from.send(id, &Reply::Refused(why.into()));
                Some(())
            }
            Err(malformed) => {
                warn!(error = %malformed, "a message of charon's plugin is none");
                let why = match malformed.error {
                    MessageError::Value { field: "version", .. } => {
                        format!("{malformed}, and this node speaks {}", super::message::VERSION)
                    }
                    _ => malformed.to_string(),
                };
                from.send(malformed.id, &Reply::Refused(why));
                Some(())
            }
        }
    }
}

impl Drop for ReaderThread {
    fn drop(&mut self) {
        info!("the socket for charon is closed");
    }
}

#[cfg(test)]
pub(super) mod tests;
