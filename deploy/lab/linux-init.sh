#!/bin/sh
# The first process of a Linux in user mode (deploy/lab/linux.py). Variables come from the kernel's command line: LINUX_DIR, the folder of
# the machine that both share; LINUX_MODULES, the kernel's modules; LINUX_ADDRESS, address and prefix length of eth0.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for place in /run /tmp; do mount -t tmpfs tmpfs "$place"; done
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mkdir -p /tmp/shared /tmp/kernel/lib/modules
mount -t hostfs hostfs /tmp/shared -o "$LINUX_DIR"
mount -t hostfs hostfs /tmp/kernel/lib/modules -o "$LINUX_MODULES"

# The machine's own folder of modules is another kernel's.
printf '#!/bin/sh\nexec /sbin/modprobe -d /tmp/kernel "$@"\n' >/tmp/modprobe
chmod +x /tmp/modprobe
echo /tmp/modprobe >/proc/sys/kernel/modprobe
/tmp/modprobe -a xfrm_user esp4 esp6 ah4 ah6 hmac cmac ctr gcm ghash-generic seqiv echainiv

for switch in accept_dad accept_ra router_solicitations; do echo 0 >"/proc/sys/net/ipv6/conf/default/$switch"; echo 0 >"/proc/sys/net/ipv6/conf/eth0/$switch"; done
ip link set lo up
ethtool -K eth0 gro off gso off tso off tx off sg off >/dev/null 2>&1
ip address add "$LINUX_ADDRESS" dev eth0
ip link set eth0 up

# Each file N.run is a command; its output comes into N.out, and after that its exit status into N.status.
cd /tmp/shared || exit
echo up >up
while [ ! -e halt ]; do
    for command in *.run; do
        [ -e "$command" ] || continue
        name="${command%.run}"
        mv "$command" "$name.running"
        (
            sh "$name.running" >"$name.out" 2>&1 </dev/null
            echo $? >"$name.done"
            mv "$name.done" "$name.status"
        ) &
    done
    sleep 0.02
done
echo o >/proc/sysrq-trigger
sleep 5
