//! `/metrics` for Prometheus and `/healthz`, over a server of plain HTTP/1.1 GETs: four connections at a time, each for two seconds
//! at most, so that nobody can keep a scrape waiting for long.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts, TextEncoder};
use tracing::debug;

use crate::report::{IkeReport, Report, Source, Sum};

/// Connections served at a time.
const CONNECTIONS: usize = 4;
/// Time a connection may take in all.
const CONNECTION_TIME: Duration = Duration::from_secs(2);
/// Longest request, bytes.
const REQUEST_BYTES_MAX: usize = 8192;

/// Serves on `address` until the process ends. Returns the address served, whose port was chosen if 0 was asked for.
///
/// # Errors
/// The address is not to be had.
pub fn serve(address: SocketAddr, source: &Arc<dyn Source>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let served = listener.local_addr()?;
    for _ in 0..CONNECTIONS {
        let (listener, source) = (listener.try_clone()?, Arc::clone(source));
        thread::Builder::new().name("metrics".into()).spawn(move || {
            for connection in listener.incoming() {
                if let Err(error) = connection.and_then(|connection| answer(connection, &*source)) {
                    debug!(%error, "a request for metrics came to nothing");
                }
            }
        })?;
    }
    Ok(served)
}

/// Status line and body of an answer.
type Answer = (&'static str, String);

fn answer(mut connection: TcpStream, source: &dyn Source) -> io::Result<()> {
    let deadline = Instant::now() + CONNECTION_TIME;
    let (status, body) = match read_request(&mut connection, deadline)? {
        Some(line) => route(&line, source),
        None => ("400 Bad Request", "not a request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    connection.set_write_timeout(Some(left(deadline)?))?;
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// The request line, once the whole head is there. `None` if it is too long or no text.
fn read_request(connection: &mut TcpStream, deadline: Instant) -> io::Result<Option<String>> {
    let mut head = Vec::with_capacity(1024);
    let mut part = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        connection.set_read_timeout(Some(left(deadline)?))?;
        match connection.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => head.extend_from_slice(&part[..bytes]),
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8(line.to_vec()).ok())
}

fn route(line: &str, source: &dyn Source) -> Answer {
    let mut words = line.split(' ');
    let (method, target) = (
        words.next(),
        words.next().map(|target| target.split('?').next().unwrap_or_default()),
    );
    match (method, target) {
        (Some("GET"), Some("/metrics")) => match source.report() {
            Ok(report) => ("200 OK", render(&report)),
            Err(stalled) => ("503 Service Unavailable", format!("{stalled}\n")),
        },
        (Some("GET"), Some("/healthz")) => match source.report() {
            Ok(_) => ("200 OK", "ok\n".to_owned()),
            Err(stalled) => ("503 Service Unavailable", format!("{stalled}\n")),
        },
        (Some("GET"), Some(_)) => ("404 Not Found", "/metrics and /healthz are here\n".to_owned()),
        (Some(_), Some(_)) => ("405 Method Not Allowed", "GET only\n".to_owned()),
        _ => ("400 Bad Request", "not a request\n".to_owned()),
    }
}

/// A report in Prometheus' text format.
pub fn render(report: &Report) -> String {
    // Names and labels are made here and checked by a test: the encoder has nothing to refuse.
    TextEncoder::new()
        .encode_to_string(&families(report))
        .unwrap_or_default()
}

/// Builds families in the order they are shown.
struct Families(Vec<MetricFamily>);

impl Families {
    /// A counter with the given labels; a row is its label values and its figure.
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) {
        if let Ok(family) = IntCounterVec::new(Opts::new(format!("ain_{name}_total"), help), labels) {
            for (values, figure) in rows {
                family.with_label_values(&values).inc_by(figure);
            }
            self.0.extend(family.collect());
        }
    }

    /// A counter by name.
    fn sums(&mut self, name: &str, help: &str, label: &str, sums: &[Sum]) {
        self.counter(
            name,
            help,
            &[label],
            sums.iter().map(|sum| (vec![sum.name.as_str()], sum.count)),
        );
    }

    /// A gauge with the given labels.
    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) {
        if let Ok(family) = GaugeVec::new(Opts::new(format!("ain_{name}"), help), labels) {
            for (values, figure) in rows {
                family.with_label_values(&values).set(figure as f64);
            }
            self.0.extend(family.collect());
        }
    }
}

fn families(report: &Report) -> Vec<MetricFamily> {
    let mut all = Families(Vec::new());
    all.gauge(
        "build_info",
        "Version of the node; always 1.",
        &["version"],
        [(vec![report.version.as_str()], 1)],
    );
    let crypto = &report.crypto;
    all.gauge(
        "crypto_backend_info",
        "Whose cryptography the workers run; always 1.",
        &["mac", "aead", "layer"],
        [(vec![crypto.mac.as_str(), &crypto.aead, &crypto.layer], 1)],
    );
    all.gauge(
        "uptime_seconds",
        "Seconds since the start.",
        &[],
        [(vec![], report.uptime_s)],
    );
    all.gauge(
        "benchmark_aivts",
        "Static AIVTs with keys that everybody knows; 0 on every node that serves users.",
        &[],
        [(vec![], report.benchmark_aivts)],
    );
    all.gauge(
        "benchmark_takes_replays",
        "1 where packets that have come before are taken again; 0 on every node that serves users.",
        &[],
        [(vec![], report.takes_replays.into())],
    );
    traffic(&mut all, report);
    signalling(&mut all, report);
    let aivts = report
        .aivts
        .iter()
        .map(|one| (vec![one.role.as_str(), one.state.as_str()], one.count));
    all.gauge(
        "aivts",
        "AIVTs this node is part of, by its role and their state.",
        &["role", "state"],
        aivts,
    );
    if let Some(one) = &report.ike {
        ike(&mut all, one);
    }
    all.gauge(
        "flows",
        "Flows at this entrance that have, or wait for, an AIVT.",
        &[],
        [(vec![], report.flows)],
    );
    all.gauge(
        "ah_keys",
        "AH key schedules in use: of associations, and of AIVTs that were made under earlier ones.",
        &[],
        [(vec![], report.ah_keys)],
    );
    all.gauge(
        "open_exit_mappings",
        "External ports of the open exit in use.",
        &[],
        [(vec![], report.open_exit_mappings)],
    );
    all.counter(
        "open_exit_mappings_made",
        "External ports that the open exit has given to AIVTs.",
        &[],
        [(vec![], report.open_exit_mappings_made)],
    );
    all.gauge(
        "wallet_tickets",
        "Tickets of other nodes that this entrance holds.",
        &[],
        [(vec![], report.wallet)],
    );
    all.sums(
        "aivts_ended",
        "AIVTs that stood and ended, by the reason first known here.",
        "reason",
        &report.ended,
    );
    all.sums(
        "aivts_failed",
        "AIVTs that ended before they stood.",
        "reason",
        &report.failed,
    );
    all.sums(
        "control_events",
        "What else the control node counts.",
        "event",
        &report.control,
    );
    let unknown = [(vec![], report.next_hops_unknown)];
    all.gauge(
        "next_hops_unknown",
        "Peers whose next hop has no known link-layer address.",
        &[],
        unknown,
    );
    let lost = [(vec![], report.next_hops_lost)];
    all.counter(
        "next_hops_lost",
        "Known link-layer addresses of next hops that were lost.",
        &[],
        lost,
    );
    all.gauge(
        "rate_mismatches",
        "Neighbours that keep another rate than their PVT has here.",
        &[],
        [(vec![], report.rate_mismatches)],
    );
    // A family without a row is nothing to show, and the encoder refuses it.
    all.0.retain(|family| !family.get_metric().is_empty());
    all.0
}

fn traffic(all: &mut Families, report: &Report) {
    let labels = ["role", "direction"];
    let rows = report
        .traffic
        .iter()
        .map(|one| (vec![one.role.as_str(), one.direction.as_str()], one));
    let packets = rows.clone().map(|(values, one)| (values, one.packets));
    all.counter("packets", "Packets moved, by role and direction.", &labels, packets);
    let bytes = rows.map(|(values, one)| (values, one.bytes));
    all.counter("bytes", "Bytes moved, by role and direction.", &labels, bytes);
    all.sums("drops", "Packets lost, by reason.", "reason", &report.drops);
    all.sums(
        "slots",
        "Slots of tunnels with a rate, by what they were used for.",
        "use",
        &report.slots,
    );
    let handovers = [(vec![], report.handovers)];
    all.counter(
        "handovers",
        "Packets handed to the worker that owns their association.",
        &[],
        handovers,
    );
    let ports = report.ports.iter().flat_map(|port| {
        port.counters
            .iter()
            .map(|sum| (vec![port.name.as_str(), sum.name.as_str()], sum.count))
    });
    all.counter(
        "port",
        "Counters of ports and their drivers.",
        &["port", "counter"],
        ports,
    );
    let exceptions = report.ports.iter().flat_map(|port| {
        let sums = port.exceptions.iter();
        sums.map(|sum| (vec![port.name.as_str(), sum.name.as_str()], sum.count))
    });
    all.counter(
        "exception",
        "What went between ports and the kernel, through taps.",
        &["port", "counter"],
        exceptions,
    );
    let spread = report
        .ports
        .iter()
        .map(|port| (vec![port.name.as_str(), port.spread.mode.as_str()], 1));
    all.gauge(
        "port_spread",
        "How a port's packets reach several workers; always 1.",
        &["port", "mode"],
        spread,
    );
}

fn ike(all: &mut Families, ike: &IkeReport) {
    all.gauge(
        "ike_connected",
        "Whether charon, which makes keys by IKE, is there.",
        &[],
        [(vec![], ike.connected.into())],
    );
    let [up, down] = ike.tunnels;
    all.gauge(
        "ike_tunnels",
        "Tunnels with keys by IKE, by whether they have all their associations.",
        &["state"],
        [(vec!["up"], up), (vec!["down"], down)],
    );
    all.gauge(
        "ike_associations",
        "Security associations that charon has made and that are there.",
        &[],
        [(vec![], ike.associations)],
    );
    all.sums(
        "ike_events",
        "Security associations by IKE installed, refused and expired; starts of charon met.",
        "event",
        &ike.events,
    );
}

fn signalling(all: &mut Families, report: &Report) {
    let signals = &report.signals;
    all.sums(
        "signals_sent",
        "Signals sent, repetitions included.",
        "kind",
        &signals.sent,
    );
    all.sums(
        "signals_received",
        "Signals received, repetitions included.",
        "kind",
        &signals.received,
    );
    all.counter(
        "signals_resent",
        "Requests sent again for want of an ACK.",
        &[],
        [(vec![], signals.resent)],
    );
    all.counter(
        "signals_repeated",
        "Requests received a second time.",
        &[],
        [(vec![], signals.repeated)],
    );
    all.sums(
        "creates_refused",
        "CREATEs that this node refused.",
        "reason",
        &signals.refused,
    );
    all.sums(
        "signal_problems",
        "Signals that came to nothing.",
        "problem",
        &signals.problems,
    );
    all.sums(
        "directories",
        "New directories of the network, taken or refused.",
        "outcome",
        &report.directories,
    );
    all.sums(
        "reloads",
        "Reloads of the configuration, taken or refused.",
        "outcome",
        &report.reloads,
    );
    let opened = report
        .neighbours
        .iter()
        .map(|one| (vec![one.name.as_str()], one.creates_opened));
    all.counter(
        "creates_opened",
        "Creating signals of the neighbour that were opened, one private-key operation each.",
        &["neighbour"],
        opened,
    );
    let pvts = report
        .neighbours
        .iter()
        .map(|one| (vec![one.name.as_str()], u64::from(one.up)));
    all.gauge(
        "pvt_up",
        "Whether the neighbour answers on its PVT.",
        &["neighbour"],
        pvts,
    );
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::report::Stalled;
    use crate::report::tests::sample;

    struct Fixed(Result<Report, Stalled>);

    impl Source for Fixed {
        fn report(&self) -> Result<Report, Stalled> {
            self.0.clone()
        }

        #[cfg(feature = "test-dump")]
        fn dump(&self) -> Result<String, Stalled> {
            Err(Stalled)
        }
    }

    fn ask(report: Result<Report, Stalled>, request: &str) -> String {
        let source: Arc<dyn Source> = Arc::new(Fixed(report));
        let address = serve("127.0.0.1:0".parse().unwrap(), &source).unwrap();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serves_metrics_and_health() {
        let answer = ask(Ok(sample()), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for line in [
            "ain_build_info{version=\"0.0.0\"} 1",
            "ain_crypto_backend_info{aead=\"ipsec-mb/avx512-vaes\",layer=\"ain/avx512\",mac=\"ipsec-mb/avx512-vaes\"} 1",
            "ain_packets_total{direction=\"forward\",role=\"intermediate\"} 2",
            "ain_bytes_total{direction=\"forward\",role=\"intermediate\"} 2888",
            "ain_drops_total{reason=\"ah_icv\"} 1",
            "ain_drops_total{reason=\"esp_icv\"} 0",
            "ain_aivts{role=\"exit\",state=\"standing\"} 4",
            "ain_signals_sent_total{kind=\"create\"} 7",
            "ain_signals_resent_total 8",
            "ain_directories_total{outcome=\"refused\"} 2",
            "ain_creates_opened_total{neighbour=\"ain2\"} 9",
            "ain_pvt_up{neighbour=\"ain2\"} 1",
            "ain_port_total{counter=\"rx_good_packets\",port=\"wan\"} 9",
            "ain_exception_total{counter=\"to_kernel_packets\",port=\"wan\"} 13",
            "ain_next_hops_lost_total 1",
            "ain_benchmark_aivts 12",
            "ain_ike_connected 1",
            "ain_ike_tunnels{state=\"down\"} 1",
            "ain_ike_events_total{event=\"refused\"} 3",
        ] {
            assert!(answer.lines().any(|one| one == line), "{line} in {answer}");
        }
        assert!(ask(Ok(sample()), "GET /healthz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
    }

    #[test]
    fn a_stalled_control_thread_is_unhealthy() {
        for path in ["/healthz", "/metrics"] {
            let answer = ask(Err(Stalled), &format!("GET {path} HTTP/1.1\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
    }

    #[test]
    fn other_requests_are_refused() {
        let refused = [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\r\n\r\n", "400"),
        ];
        for (request, status) in refused {
            let answer = ask(Ok(sample()), request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request:?}: {answer}"
            );
        }
        let long = ask(Ok(sample()), &"x".repeat(REQUEST_BYTES_MAX + 1));
        assert!(long.starts_with("HTTP/1.1 400 "), "{long}");
    }

    /// Connections that say nothing take all places; they lose them in time.
    #[test]
    fn silent_connections_do_not_keep_others_out() {
        let source: Arc<dyn Source> = Arc::new(Fixed(Ok(sample())));
        let address = serve("127.0.0.1:0".parse().unwrap(), &source).unwrap();
        let silent: Vec<TcpStream> = (0..2 * CONNECTIONS)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
        drop(silent);
    }

    /// Prometheus' own checker, where it is installed.
    #[test]
    fn promtool_has_nothing_to_say() {
        let spawned = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = spawned else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(render(&sample()).as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
