//! Every limit of the control plane in one place. Times are nanoseconds unless the name says otherwise.

use ain_dataplane::id::Now;

/// Nodes on a path at least: an entrance and an exit.
pub const MIN_PATH_NODES: usize = 2;
/// Nodes on a path at most: an entrance and [`ain_dataplane::limits::MAX_HOPS`] after it.
pub const MAX_PATH_NODES: usize = ain_dataplane::limits::MAX_HOPS + 1;

/// AIVTs this node takes part in, in any role, unless configured; see [`crate::config::Quotas`].
pub const AIVTS: usize = 1 << 16;
/// AIVTs that can be configured at most.
pub const AIVTS_MAX: usize = crate::by_aivt::PLACES;
/// CREATEs of one neighbour that are under way through this node.
pub const PENDING_CREATES_PER_NEIGHBOUR: usize = 4096;
/// CREATEs of one neighbour that this node opens (one public-key operation each) in a second, unless configured.
pub const CREATES_PER_SECOND_PER_NEIGHBOUR: u32 = 12_000;
/// Percent of this node's AIVTs that one neighbour may have asked for, unless configured.
pub const AIVTS_PERCENT_OF_A_NEIGHBOUR: u32 = 50;
/// Creating signals of one neighbour that wait to be opened; more are refused.
pub const OPENINGS_WAITING_PER_NEIGHBOUR: usize = 1024;
/// Creating signals handed out to be opened and not back yet, of all neighbours: what one that comes last in turn waits for.
pub const OPENINGS_AT_A_TIME: usize = 64;
/// Flows at the entrance that have or wait for an AIVT, unless configured.
pub const FLOWS: usize = 1 << 16;
/// Flows remembered for their address and token, for each one that there may be.
pub const FLOWS_REMEMBERED: usize = 4;
/// How long the exit knows the pair of a flow whose AIVT ended: the patience of the entrance.
pub const PAIR_MEMORY: u64 = FLOW_PATIENCE;
/// Pairs of flows without an AIVT that the exit knows, beside as many as it has bindings.
pub const PAIRS_REMEMBERED: usize = 1 << 16;
/// AIVTs that are looked at at a time, of lost neighbours or because their time is over: a million at once
/// would keep this node from answering its neighbours.
pub const ENDS_AT_A_TIME: usize = 2048;
/// Time between two such looks at a lost neighbour's AIVTs: other neighbours' ACKs make room for their DESTROYs meanwhile.
pub const LOST_EVERY: u64 = Now::SECOND / 1000;
/// How long the end of AIVTs waits at most for other neighbours' room for DESTROYs.
pub const TOLD_WITHIN: u64 = 60 * Now::SECOND;
/// How long a host's tunnel may be without keys before all that the host has ends: an end that begins anew, and one that breaks before
/// it makes, have new ones within a few round trips.
pub const HOST_AWAY: u64 = 5 * Now::SECOND;
/// Time after [`HOST_AWAY`] within which all of it ends, each at a random moment: an end of many at once would show that they are one host's.
pub const HOST_ENDS_WITHIN: u64 = 8 * Now::SECOND;
/// Verdict cells that tell an entrance of its responder's wish, at most.
pub const CLOSING_WORDS: u8 = 3;
/// Time between two of them, and after the last one.
pub const CLOSING_EVERY: u64 = Now::SECOND / 4;
/// How long cells that are under way may still pass an AIVT of a node that goes down, after the entrance's side was told.
pub const SHUTDOWN_GRACE: u64 = Now::SECOND / 4;
/// Age up to which an AIVT may be younger than the neighbour's news that it knows none: a few KEEPALIVEs that were lost.
pub const FRESH: u64 = 5 * KEEPALIVE_EVERY;
/// Requests to one neighbour that wait for their ACK.
pub const PENDING_REQUESTS: usize = 16384;
/// Message ids remembered for one neighbour: a minute of as many CREATEs as it may send, and as many DESTROYs. Requests beyond are
/// dropped without ACK, so that they come again.
pub const REMEMBERED_IDS: usize = 3 << 19;
/// Parts of one signal at most: those of the longest creating signal.
pub const PARTS_MAX: usize = 6;
/// Signals of one neighbour of which some parts are there; the oldest gives way.
pub const HALF_RECEIVED_PER_NEIGHBOUR: usize = 256;
/// How long parts of a signal wait for the others: until its sender has given it up.
pub const HALF_RECEIVED_MEMORY: u64 = 8 * Now::SECOND;
/// Tags in the replay cache of creating signals.
pub const REPLAY_TAGS: usize = 1 << 20;
/// Failed nodes, links and ways that path choice remembers.
pub const PENALTIES: usize = 4096;
/// Guards of a node.
pub const GUARDS: usize = 3;
/// The same, with those added for exits that no other leads to.
pub const GUARDS_MAX: usize = 6;
/// How long a guard may be down, or no path may lead over it, before another takes its place for good: a day.
pub const GUARD_PATIENCE: u64 = 86_400 * Now::SECOND;
/// Steps of one search for a path.
pub const PATH_SEARCH_STEPS: usize = 20_000;
/// Random paths compared when every path touches something that failed lately.
pub const PATH_SAMPLES: usize = 16;

/// First wait for an ACK; doubles with every repetition (protocol section 6).
pub const RETRANSMIT_FIRST: u64 = Now::SECOND / 2;
/// Slots for which an ACK may have to wait, for each request under way, on a PVT with a rate.
pub const SLOTS_OF_A_REQUEST: u64 = 4;
/// The first wait for an ACK on a PVT with a rate, at most: the last repetition, 7 waits later, must still be remembered as one.
pub const RETRANSMIT_FIRST_MAX: u64 = ID_MEMORY / 8;
/// Repetitions of a request after its first sending.
pub const RETRANSMISSIONS: u8 = 3;
/// How long a message id is remembered.
pub const ID_MEMORY: u64 = 60 * Now::SECOND;
/// On a PVT with a rate one slot in so many is its own at most (protocol section 8).
pub const OWN_SLOT_EVERY_MAX: u32 = 64;
/// The same at low rates, at least: a quarter of the PVT is as much as signals may take.
pub const OWN_SLOT_EVERY_MIN: u32 = 4;
/// Own slots that a PVT with a rate has in a second where these limits let it.
pub const OWN_SLOTS_PER_SECOND: u32 = 25;
/// Silence after which a KEEPALIVE goes out, and the time between two of them.
pub const KEEPALIVE_EVERY: u64 = Now::SECOND;
/// KEEPALIVEs without answer that take a PVT down.
pub const KEEPALIVES_UNANSWERED: u8 = 3;

/// How long the entrance waits for CREATED.
pub const CREATE_TIMEOUT: u64 = 10 * Now::SECOND;
/// How long an intermediate waits for CREATED: past the entrance's patience, so that the entrance ends it first.
pub const CREATE_TIMEOUT_RELAY: u64 = 15 * Now::SECOND;
/// New SPIs tried for one CREATE after the neighbour reported a collision.
pub const SPI_REDRAWS: u8 = 3;
/// AIVTs made for one flow within [`REBUILD_WINDOW`] besides the first.
pub const REBUILDS: usize = 3;
/// See [`REBUILDS`].
pub const REBUILD_WINDOW: u64 = 60 * Now::SECOND;
/// Waits before the first, second and third rebuild within a window: a failed node's neighbours need a moment to notice, and a
/// restarted node refuses dates up to [`CREATED_STEP_S`] after its predecessor's end. A date is up to twice that old: with the three
/// seconds in which a killed node is missed, the third one comes 20 s after the end, and is not refused for it.
pub const REBUILD_DELAYS: [u64; REBUILDS] = [0, 2 * Now::SECOND, 15 * Now::SECOND];
/// Wait before path choice is tried again when the directory knows a way but no PVT on it is up.
pub const PATH_RETRY: u64 = Now::SECOND / 2;
/// Patience with a flow that no AIVT can be made for; then the initiator is told.
pub const FLOW_PATIENCE: u64 = 60 * Now::SECOND;
/// How long a failed node, link or guard is avoided.
pub const PENALTY: u64 = 60 * Now::SECOND;
/// AIVTs over one guard to one exit that fail in a row, no other node on two of them, until the guard is to blame.
pub const GUARD_FAILURES: usize = 3;
/// How long a flow's address and token outlive its last packet.
pub const FLOW_MEMORY: u64 = 3600 * Now::SECOND;

/// Granularity of `created` in a CREATE, seconds.
pub const CREATED_STEP_S: u64 = 10;
/// Age up to which a CREATE is accepted, seconds.
pub const CREATED_PAST_S: u64 = 60;
/// How far ahead of this node's clock a CREATE may be dated, seconds.
pub const CREATED_FUTURE_S: u64 = 10;
/// Granularity of `expires` in a CREATE, seconds.
pub const EXPIRES_STEP_S: u64 = 600;

/// How often associations are held to their lifetimes; numbers never wrap in between either.
pub const SA_LOOK_EVERY: u64 = Now::SECOND / 4;
/// How long an association is kept beside its successor, unless its source ends it earlier.
pub const SA_GRACE: u64 = 60 * Now::SECOND;
/// How long outbound hand-made keys are kept back while the other end is not heard under the new ones: the time that an operator has to
/// give them to it. Shorter than [`SA_GRACE`], or the old inbound ones would end first.
pub const HAND_MADE_PATIENCE: u64 = SA_GRACE * 3 / 4;
/// How long an AH pair is known after its associations: past the last repetition of a CREATE that was sent under it, 7 waits later, and
/// the time until its answer.
pub const GENERATION_GRACE: u64 = 7 * RETRANSMIT_FIRST_MAX + CREATE_TIMEOUT_RELAY;
/// Key generations of one peer that are not over: twice those within [`GENERATION_GRACE`] of a tunnel whose both ends rekey it every two
/// seconds. While half of all key slots are taken, no peer gets another one beyond [`ain_dataplane::limits::SAS_OF_A_KIND`].
pub const GENERATIONS_OF_A_PEER: usize = 128;
/// Key generations of one peer that are over and that AIVTs still use. When there are more, the AIVTs of the oldest one end: of those that
/// are younger than so many rekeyings, none does.
pub const GENERATIONS_KEPT: usize = 64;
/// SPI counter values reserved on disk at a time.
pub const SPI_BLOCK: u32 = 1 << 16;
/// Values left in the reserved block when the next one is asked for.
pub const SPI_LOW_WATER: u32 = 1 << 14;
/// SPIs drawn and passed over in search of one that is free.
pub const SPI_DRAWS: u32 = 64;
/// How much earlier than here an AIVT may expire at another node, ns: clocks differ.
pub const EXPIRY_SLACK: u64 = 10 * Now::SECOND;

/// Onion keys of a directory entry: all suites, a week of days ahead and more.
pub const ENTRY_ONION_KEYS: usize = 64;
/// Families of a directory entry.
pub const ENTRY_FAMILIES: usize = 16;
/// Prefixes of a directory entry, of either kind.
pub const ENTRY_PREFIXES: usize = 4096;
/// Ticket keys of a directory entry: for slices of an hour, more than a week of days.
pub const ENTRY_TICKET_KEYS: usize = 256;
/// How far a clock may be off without meeting an onion key that is not yet, or no more, in use; an eighth of the key's time if that
/// is shorter.
pub const KEY_SLACK_S: u64 = 30;

/// Tickets of one request, at most: as many as fit one datagram of a host tunnel.
pub const TICKETS_A_BATCH: usize = 32;
/// How much the clocks of an entrance and an issuer may differ about the slice they are in, seconds.
pub const TICKET_CLOCK_SLACK_S: u64 = 120;
/// Length of a slice, seconds, unless the network has another.
pub const TICKET_SLICE_S: u32 = 3600;
/// Tickets issued to one entrance in a slice, unless configured.
pub const TICKET_QUOTA: u32 = 4096;
/// Tickets of one issuer and slice that a wallet holds, unless configured.
pub const WALLET: usize = 64;
/// Spent tickets remembered of one slice; when there are more, further ones are refused.
pub const SPENT_TICKETS: usize = 1 << 20;
/// Requests for tickets whose signature is looked at in a second.
pub const REQUESTS_PER_SECOND: u32 = 256;
/// Batches that are evaluated in a second: a few milliseconds of the control thread each.
pub const BATCHES_PER_SECOND: u32 = 32;
/// Times that one request is answered.
pub const REQUEST_ANSWERS: u8 = 4;
/// How often the wallet is looked at.
pub const TICKET_TICK: u64 = Now::SECOND;
/// How often the directory is searched for a first issuer.
pub const NO_ISSUER_TICK: u64 = 10 * Now::SECOND;
/// How long an entrance waits for an answer of an issuer before it asks again.
pub const REQUEST_WAIT: u64 = 3 * Now::SECOND;
/// Requests without answer after which an issuer is left alone.
pub const REQUESTS_BEFORE_REST: u8 = 3;
/// For how long, the first time; doubles.
pub const ISSUER_REST: u64 = 15 * Now::SECOND;
/// For how long at most.
pub const ISSUER_REST_MAX: u64 = 240 * Now::SECOND;
/// Requests of one entrance under way.
pub const REQUESTS_AT_A_TIME: usize = 16;
/// AIVTs without a ticket, for issuance alone, that one neighbour may ask for in a second.
pub const TICKETLESS_PER_SECOND: u32 = 4;
