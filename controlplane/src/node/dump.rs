//! Everything the control node and the table writer know, as text, for tests that search it: only in builds with the feature
//! `test-dump`. Keys are left out.

use std::fmt::Write;

use ain_crypto::Backend;

use super::Node;
use crate::aivt::Role;
use crate::table_writer::TableWriter;

impl Node {
    /// AIVTs with their paths, flows and bindings.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (id, aivt) in self.aivts.iter() {
            // Writing to a string cannot fail.
            let _ = write!(text, "aivt {} {}", id.0, aivt.role_name().name());
            if let Some(upstream) = &aivt.upstream {
                let _ = write!(text, " upstream {}", self.neighbour_name(upstream.link.peer));
            }
            if let Some(downstream) = &aivt.downstream {
                let _ = write!(text, " downstream {}", self.neighbour_name(downstream.link.peer));
            }
            match &aivt.role {
                Role::Entrance { path, .. } => {
                    let names = path
                        .iter()
                        .filter_map(|node| self.directory.entry(node))
                        .map(|e| e.name.as_str());
                    let _ = write!(text, " path {}", names.collect::<Vec<_>>().join(" "));
                }
                Role::Relay { .. } => {}
                Role::Exit { bound, .. } => {
                    let _ = write!(text, " bound {bound:?}");
                }
            }
            text.push('\n');
        }
        for flow in self.flows.iter() {
            let _ = writeln!(text, "flow {:?} shown {:?} {:?}", flow.pair, flow.shown, flow.carrier);
        }
        text
    }

    fn neighbour_name(&self, peer: ain_dataplane::id::PeerId) -> String {
        let id = self.neighbours.iter().find(|(_, at)| **at == peer).map(|(id, _)| id);
        id.and_then(|id| self.directory.entry(id))
            .map(|entry| entry.name.clone())
            .unwrap_or_default()
    }
}

impl<C: Backend, B> TableWriter<C, B> {
    /// Flows of the packet path.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (pair, shown) in self.known_flows() {
            let _ = writeln!(text, "path flow {pair:?} shown {shown:?}");
        }
        text
    }
}
