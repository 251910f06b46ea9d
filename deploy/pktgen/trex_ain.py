"""TRex, stateless: the capture of `ain-bench pcap` out of port 0, packet by packet, over and over.

    ./t-rex-64 -i                                      on the generator
    trex> start -f trex_ain.py -p 0 -m 100% -t pcap=/srv/ain-intermediate/packets.pcap
    trex> stats

One stream a packet, which sends it and starts the next, so that packets of all AIVTs alternate as in the capture. TRex holds some
20000 streams: give `ain-bench pcap` fewer packets than that. `-m` sets the rate; lower it until the appliance drops nothing.
"""

import argparse

from trex.stl.api import STLPktBuilder, STLStream, STLTXSingleBurst
from scapy.utils import RawPcapReader


class Ain:
    """The profile."""

    def get_streams(self, direction=0, tunables=(), **kwargs):
        """All packets of the capture as a ring of streams."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--pcap", default="packets.pcap")
        path = kwargs.get("pcap") or parser.parse_args(tunables).pcap
        frames = [frame for frame, _ in RawPcapReader(path)]
        return [
            STLStream(
                name=f"p{at}",
                self_start=at == 0,
                packet=STLPktBuilder(pkt_buffer=frame),
                mode=STLTXSingleBurst(total_pkts=1, percentage=100),
                next=f"p{(at + 1) % len(frames)}",
            )
            for at, frame in enumerate(frames)
        ]


def register():
    """What TRex calls."""
    return Ain()
