#!/usr/bin/env bash
# Makes the captures in this folder from real clients and servers. Run as root: ./make.sh [SCENARIO...]
#
# Needs these Debian packages, and installs none of them:
#   iproute2 ethtool nftables tcpdump tshark tcpreplay nginx-light curl dnsmasq-base bind9-dnsutils
#   iputils-ping traceroute iperf3 tftpd-hpa tftp-hpa
#
# Each scenario gets its own network namespaces, so that no cached route, path MTU or port leaks into the next one, and
# so that nothing can leave the machine:
#
#   client 1.2.3.4 --- 1.2.3.1 router 5.6.7.1 === 5.6.7.2 transit 100.100.100.1 --- 100.100.100.100 server
#                      ^ recorded here        (and 5.6.8.1 === 5.6.8.2)
#
# There are two routers, so that ICMP errors come from the place of the translator and also from beyond it. The second
# link between them is used only where packets shall overtake each other.
set -euo pipefail

readonly SERVER=100.100.100.100
readonly ALL=(http dns ping traceroute iperf-udp-fragments iperf-tcp pmtu tftp linux-cooked vlan raw-ip)
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TMP=$(mktemp -d)
chmod 755 "$TMP" # nginx and in.tftpd may read it after they gave up root
NS=byway-$$      # unique: two runs at a time do not meet
SERVERS=()
CAPTURE=""

PATH=$PATH:/usr/sbin:/sbin

# --- namespaces ------------------------------------------------------------------------------------------------------

on() { # on HOST COMMAND...
    local host=$1
    shift
    ip netns exec "$NS-$host" "$@"
}

# link HOST DEVICE ADDRESS HOST DEVICE ADDRESS: a veth pair. All offloads are off, because with them the kernel hands
# over segments larger than the MTU, and leaves checksums for a network card to fill in that is not there.
link() {
    ip -n "$NS-$1" link add name "$2" type veth peer name "$5" netns "$NS-$4"
    local host device address
    for _ in 1 2; do
        host=$1 device=$2 address=$3
        shift 3
        on "$host" ethtool -K "$device" tx off rx off sg off tso off gso off gro off >"$TMP/ethtool.log" 2>&1
        ip -n "$NS-$host" address add "$address" dev "$device"
        ip -n "$NS-$host" link set "$device" mtu 1500 up
    done
}

setup() {
    local host
    for host in client router transit server; do
        ip netns add "$NS-$host"
        ip -n "$NS-$host" link set lo up
        # Answers may come by another way than the question went, and ICMP errors are wanted complete, not rate-limited.
        on "$host" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
            net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=10000
    done
    link client toserver 1.2.3.4/24 router toclient 1.2.3.1/24
    link router toserver 5.6.7.1/30 transit toclient 5.6.7.2/30
    link router slow 5.6.8.1/30 transit slow 5.6.8.2/30
    link transit toserver 100.100.100.1/24 server toclient 100.100.100.100/24
    for host in router transit; do
        on "$host" sysctl -qw net.ipv4.ip_forward=1
    done
    ip -n "$NS-client" route add default via 1.2.3.1
    ip -n "$NS-router" route add default via 5.6.7.2
    ip -n "$NS-transit" route add default via 5.6.7.1
    ip -n "$NS-server" route add default via 100.100.100.1
}

teardown() {
    local pid host
    for pid in $CAPTURE "${SERVERS[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    CAPTURE=""
    SERVERS=()
    for host in client router transit server; do
        ip netns del "$NS-$host" 2>/dev/null || true
    done
}

finish() {
    local status=$?
    teardown
    if ((status)); then
        tail -n 20 "$TMP"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$TMP"
}
trap finish EXIT

# --- servers and recording -------------------------------------------------------------------------------------------

serve() { # serve PROTOCOL PORT COMMAND...: starts a server and waits until its port is open
    local protocol=$1 port=$2 log=$TMP/$3.log
    shift 2
    ip netns exec "$NS-server" "$@" >"$log" 2>&1 & # not by on(): $! must be the server, no shell around it
    SERVERS+=($!)
    for _ in {1..100}; do
        if on server ss -Hln "--$protocol" "sport = :$port" | grep -q .; then return; fi
        sleep 0.05
    done
    echo "make.sh: $1 does not listen on $protocol port $port" >&2
    return 1
}

record() { # record HOST DEVICE FILE [TCPDUMP ARGUMENT...]
    local host=$1 device=$2 file=$3
    shift 3
    : >"$TMP/tcpdump.log" # or the words of the recording before would count
    # 2048 bytes hold every frame whole; with tcpdump's own 256 kB per frame the buffer has place for eight of them.
    ip netns exec "$NS-$host" tcpdump -i "$device" -n -s 2048 -B 8192 -U --immediate-mode -Z root -w "$file" "$@" \
        2>"$TMP/tcpdump.log" &
    CAPTURE=$!
    for _ in {1..100}; do
        if grep -q 'listening on' "$TMP/tcpdump.log"; then return; fi
        sleep 0.05
    done
    echo "make.sh: tcpdump does not start" >&2
    return 1
}

stop() {
    sleep 0.5 # the last packets are on their way
    kill "$CAPTURE"
    wait "$CAPTURE"
    CAPTURE=""
    if ! grep -q '^0 packets dropped by kernel' "$TMP/tcpdump.log"; then
        echo "make.sh: the recording has gaps" >&2
        return 1
    fi
}

record_router() { record router toclient "$HERE/$1"; }

get() { on client curl -q --noproxy '*' -sS -o "$TMP/got" "$@"; }
lookup() { on client dig "@$SERVER" +tries=1 "$@" >"$TMP/dig.log"; }

serve_http() {
    mkdir -p "$TMP/www"
    echo 'hello' >"$TMP/www/hello.txt"
    seq -f '%.0f bottles' 100 120 >"$TMP/www/page.txt"
    seq -f 'line %06.0f' 1 5000 >"$TMP/www/60k.txt" # 5000 lines of 12 bytes
    cat >"$TMP/nginx.conf" <<END
daemon off;
master_process off;
pid $TMP/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $TMP/t1;
    proxy_temp_path $TMP/t2;
    fastcgi_temp_path $TMP/t3;
    uwsgi_temp_path $TMP/t4;
    scgi_temp_path $TMP/t5;
    server { listen $SERVER:80; root $TMP/www; }
}
END
    serve tcp 80 nginx -p "$TMP" -e stderr -c "$TMP/nginx.conf"
}

serve_dns() {
    local big=big.example.test
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
        big+=,$(printf "string $i %0230d" 0)
    done
    # edns-packet-max lets the large answer leave as one UDP datagram in fragments.
    serve udp 53 dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file --pid-file --user=root \
        --log-facility=- --edns-packet-max=4096 --local=/test/ --local-ttl=60 \
        --host-record=www.example.test,$SERVER,2001:db8::64 \
        --txt-record=example.test,"v=spf1 -all" --txt-record="$big"
}

# --- scenarios -------------------------------------------------------------------------------------------------------

http() {
    serve_http
    record_router http.pcap
    get "http://$SERVER/hello.txt"
    get "http://$SERVER/page.txt"
    get "http://$SERVER/missing.txt" # 404
    # one connection, three requests
    get "http://$SERVER/hello.txt" "http://$SERVER/page.txt" -o "$TMP/got2" "http://$SERVER/hello.txt" -o "$TMP/got3"
    get "http://$SERVER/60k.txt"
    cmp "$TMP/got" "$TMP/www/60k.txt"
    get --head "http://$SERVER/60k.txt"
    # two connections at the same time
    get "http://$SERVER/page.txt" &
    on client curl -q --noproxy '*' -sS -o "$TMP/got2" "http://$SERVER/page.txt"
    wait $!
    # nobody listens on port 81: a RST
    if get "http://$SERVER:81/" 2>"$TMP/curl.log"; then return 1; fi
    stop
}

dns() {
    serve_dns
    record_router dns.pcap
    lookup www.example.test A
    lookup www.example.test AAAA
    lookup example.test TXT
    lookup nothing.example.test A         # NXDOMAIN
    lookup +noedns www.example.test A
    lookup +tcp www.example.test A
    lookup +bufsize=4096 big.example.test TXT # 3 kB in fragments
    lookup +bufsize=512 big.example.test TXT  # truncated, asked again over TCP
    # nobody listens on port 54: ICMP port unreachable
    on client dig "@$SERVER" -p 54 +tries=1 +time=1 www.example.test A >"$TMP/dig.log" || true
    stop
}

ping() {
    # Addresses for which the transit router answers with other kinds of unreachable.
    on transit nft 'table ip filter {
        chain forward {
            type filter hook forward priority filter;
            ip daddr 100.100.100.98 reject with icmp type admin-prohibited
            ip daddr 100.100.100.97 reject with icmp type host-unreachable
        }
    }'
    record_router ping.pcap
    local size
    for size in 0 1 56 1000 1472 3000; do # 3000 goes in three fragments
        on client ping -n -q -c 2 -i 0.1 -s $size $SERVER >"$TMP/ping.log"
    done
    on client ping -n -q -c 4 -i 0.1 $SERVER >"$TMP/ping.log" & # two at the same time, with ids of their own
    on client ping -n -q -c 4 -i 0.1 $SERVER >"$TMP/ping2.log"
    wait $!
    on client ping -n -q -c 2 -i 0.1 -R $SERVER >"$TMP/ping.log"            # record route
    on client ping -n -q -c 2 -i 0.1 -T tsandaddr $SERVER >"$TMP/ping.log"  # time stamps
    on client ping -n -q -c 1 -t 2 $SERVER >"$TMP/ping.log" || true         # dies at the transit router
    on client ping -n -q -c 1 -W 1 100.100.100.98 >"$TMP/ping.log" || true  # prohibited
    on client ping -n -q -c 1 -W 1 100.100.100.97 >"$TMP/ping.log" || true  # host unreachable
    stop
}

traceroute() {
    serve_http # for -T, which asks port 80
    record_router traceroute.pcap
    on client traceroute -n -m 6 -w 1 $SERVER >"$TMP/traceroute.log"
    on client traceroute -n -m 6 -w 1 -I $SERVER >"$TMP/traceroute.log"
    on client traceroute -n -m 6 -w 1 -T -p 80 $SERVER >"$TMP/traceroute.log"
    on client traceroute -n -m 6 -w 1 -U -p 53 $SERVER >"$TMP/traceroute.log"
    stop
}

iperf-udp-fragments() {
    serve tcp 5201 iperf3 -s -B $SERVER
    record_router iperf-udp-fragments.pcap
    on client iperf3 -c $SERVER -u -l 4000 -b 1M -t 1 >"$TMP/iperf3-client.log" 2>&1
    on client iperf3 -c $SERVER -u -l 4000 -b 1M -t 1 -R >"$TMP/iperf3-client.log" 2>&1
    stop
}

# Loss and overtaking without netem, which not every kernel has: nftables drops every 45th packet, and sends every 12th
# by the second link, where a token bucket lets it wait until others have passed.
disturb() {
    local host next
    for host in router:5.6.8.2 transit:5.6.8.1; do
        next=${host#*:} host=${host%:*}
        on "$host" nft -f - <<'END'
table ip disturb {
    chain prerouting {
        type filter hook prerouting priority mangle;
        ip length > 1000 numgen inc mod 12 == 11 meta mark set 1
    }
    chain forward {
        type filter hook forward priority filter;
        ip length > 1000 numgen inc mod 45 == 44 drop
    }
}
END
        ip -n "$NS-$host" rule add fwmark 1 lookup 100
        ip -n "$NS-$host" route add default via "$next" table 100
        on "$host" tc qdisc add dev slow root tbf rate 2mbit burst 1600 latency 500ms
        on "$host" tc qdisc add dev "$([[ $host == router ]] && echo toserver || echo toclient)" root \
            tbf rate 20mbit burst 16000 latency 500ms
    done
    # A mark set at the transit router for a packet to the server must not send it back.
    ip -n "$NS-transit" route add 100.100.100.0/24 dev toserver table 100
    ip -n "$NS-router" route add 1.2.3.0/24 dev toclient table 100
}

iperf-tcp() {
    disturb
    serve tcp 5201 iperf3 -s -B $SERVER
    record_router iperf-tcp.pcap
    on client iperf3 -c $SERVER -l 8K -n 200K >"$TMP/iperf3-client.log" 2>&1
    on client iperf3 -c $SERVER -l 8K -n 200K -R >"$TMP/iperf3-client.log" 2>&1
    stop
}

pmtu() {
    # Only the router's end is small. The server still offers a segment size for 1500, so the client learns by ICMP.
    ip -n "$NS-transit" link set toserver mtu 1300
    serve tcp 5201 iperf3 -s -B $SERVER
    record_router pmtu.pcap
    on client ping -n -q -c 1 -W 1 -M "do" -s 1400 $SERVER >"$TMP/ping.log" || true
    on client ip route flush cache
    on client traceroute -n -m 6 -w 1 --mtu $SERVER >"$TMP/traceroute.log" # UDP that must not be fragmented
    on client ip route flush cache
    on client iperf3 -c $SERVER -l 8K -n 40K >"$TMP/iperf3-client.log" 2>&1     # TCP upload
    stop
}

tftp() {
    mkdir -p "$TMP/tftp"
    seq -f 'line %06.0f' 1 1000 >"$TMP/tftp/small.txt"
    echo >"$TMP/tftp/upload.txt" # in.tftpd writes only to what is there and writable
    chmod 666 "$TMP/tftp/upload.txt"
    serve udp 69 in.tftpd --foreground --address $SERVER:69 --secure "$TMP/tftp"
    record_router tftp.pcap
    cd "$TMP"
    on client tftp -m binary $SERVER -c get small.txt
    cmp small.txt tftp/small.txt
    on client tftp -m binary $SERVER -c put small.txt upload.txt
    on client tftp -m binary $SERVER -c get missing.txt >"$TMP/tftp.log" 2>&1 || true
    stop
    cmp small.txt tftp/upload.txt
    cd "$HERE"
}

# A little of everything, for the captures that are about the file format.
mixture() {
    get "http://$SERVER/page.txt"
    lookup www.example.test A
    on client ping -n -q -c 2 -i 0.1 -s 2000 $SERVER >"$TMP/ping.log"
    on client traceroute -n -m 6 -w 1 -q 1 $SERVER >"$TMP/traceroute.log"
}

linux-cooked() {
    serve_http
    serve_dns
    # At the client, where `any` sees each packet once; at a router it would see each one twice.
    record client any "$HERE/linux-cooked.pcap" -y LINUX_SLL2
    mixture
    stop
    record client any "$HERE/linux-cooked-v1.pcap" -y LINUX_SLL
    mixture
    stop
    editcap -F pcapng "$HERE/linux-cooked.pcap" "$HERE/linux-cooked.pcapng"
}

# The tags are added to a recorded file: the kernel of the machine where this was written has no 802.1Q.
vlan() {
    serve_http
    serve_dns
    record router toclient "$TMP/plain.pcap"
    mixture
    stop
    tcprewrite --enet-vlan=add --enet-vlan-tag=7 --enet-vlan-pri=0 --enet-vlan-cfi=0 \
        -i "$TMP/plain.pcap" -o "$HERE/vlan.pcap" 2>"$TMP/tcprewrite.log"
    # 802.1ad: a service tag around the customer's
    tcprewrite --enet-vlan=add --enet-vlan-tag=70 --enet-vlan-pri=0 --enet-vlan-cfi=0 --enet-vlan-proto=802.1ad \
        -i "$HERE/vlan.pcap" -o "$HERE/vlan-qinq.pcap" 2>"$TMP/tcprewrite.log"
}

# Raw IP, with nanoseconds: the 14 bytes of Ethernet are cut off a recorded file. ARP would make no sense without them.
raw-ip() {
    serve_http
    serve_dns
    record router toclient "$TMP/plain.pcap" --time-stamp-precision=nano ip
    mixture
    stop
    editcap -F nsecpcap -C 14 -L -T rawip "$TMP/plain.pcap" "$HERE/raw-ip.pcap"
    editcap -F pcapng "$HERE/raw-ip.pcap" "$HERE/raw-ip.pcapng"
}

if ((EUID != 0)); then
    echo "make.sh: needs root, for network namespaces" >&2
    exit 1
fi
if (($#)); then wanted=("$@"); else wanted=("${ALL[@]}"); fi
for scenario in "${wanted[@]}"; do
    if [[ " ${ALL[*]} " != *" $scenario "* ]]; then
        echo "make.sh: no scenario '$scenario'; there are: ${ALL[*]}" >&2
        exit 1
    fi
    echo "$scenario"
    setup
    "$scenario"
    teardown
done
