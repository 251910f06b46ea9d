//! Network namespaces for tests, which vanish with the threads that hold them.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `ip` with these words in the calling thread's namespace.
pub fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `test` in a namespace whose `veth0` (192.0.2.1/24, 2001:db8::1/64) leads to another namespace (`veth1`, .2, ::2), where closures
/// are run by the second argument. Without root it says so and runs nothing.
pub fn two_hosts(test: impl FnOnce(&dyn Fn(Box<dyn FnOnce() + Send>)) + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    thread::scope(|scope| {
        let test = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let (jobs, work) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
            let (report, reports) = mpsc::channel();
            scope.spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                report.send(nix::unistd::gettid().as_raw()).unwrap();
                for job in work {
                    job();
                    report.send(0).unwrap();
                }
            });
            let other = reports.recv().unwrap();
            ip("link set lo up");
            ip(&format!("link add veth0 type veth peer name veth1 netns {other}"));
            ip("addr add 192.0.2.1/24 dev veth0");
            ip("addr add 2001:db8::1/64 dev veth0 nodad");
            ip("link set veth0 up");
            let there = |job: Box<dyn FnOnce() + Send>| {
                jobs.send(job).unwrap();
                reports.recv().expect("the job ran to its end");
            };
            there(Box::new(|| {
                ip("link set lo up");
                ip("addr add 192.0.2.2/24 dev veth1");
                ip("addr add 2001:db8::2/64 dev veth1 nodad");
                ip("link set veth1 up");
            }));
            test(&there);
        });
        test.join().unwrap();
    });
}
