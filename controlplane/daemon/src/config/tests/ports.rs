use super::*;

/// The kernel has the interface of drivers that read along, and gets a tap for the others.
#[test]
fn the_device_tells_whether_the_kernel_needs_a_tap() {
    let device = "net_af_packet0,iface=eth0,qdisc_bypass=1";
    let kernel = "# kernel = \"shared\"";
    let cases = [
        (device, kernel, KernelSide::Shared),
        ("net_pcap0,rx_iface_in=eth0,tx_iface=eth0", kernel, KernelSide::Shared),
        ("net_af_xdp0,iface=eth0", kernel, KernelSide::Tap),
        ("net_memif0", kernel, KernelSide::Tap),
        ("0000:00:05.0", kernel, KernelSide::Tap),
        (device, "kernel = \"tap\"", KernelSide::Tap),
        ("0000:00:05.0", "kernel = \"shared\"", KernelSide::Shared),
    ];
    for (to, line, side) in cases {
        let samples = Samples::new();
        samples.edit("ain.toml", device, to).edit("ain.toml", kernel, line);
        let checked = samples.check("ain.toml");
        assert!(matches!(checked, Ok(AnyConfig::Node(node)) if node.ports[0].kernel == side));
    }
    one_problem(
        "ain.toml",
        kernel,
        "kernel = \"none\"",
        "@: ports[0].kernel: unknown variant `none`, expected `shared` or `tap`",
    );
}
