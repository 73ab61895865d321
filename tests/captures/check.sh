#!/usr/bin/env bash
# Checks the captures in this folder with tshark, a witness that shares no code with us. Needs no root.
# Prints a line per file. Fails if a checksum is wrong, a packet is cut or larger than the MTU, or a kind of packet that
# the file is there for is missing. Needs the Debian package tshark.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

failed=0
checked=()

count() { # count FILE FILTER: how many packets match
    tshark -r "$1" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE \
        -Y "$2" -T fields -e frame.number 2>/dev/null | wc -l
}

# A quoted header inside an ICMP error has a status too, and one bad one is enough. Not so for a quoted TCP segment: of
# that the error holds only the beginning, and tshark takes the sum over what is there. See quotes().
readonly BAD='ip.checksum.status == "Bad" || udp.checksum.status == "Bad" || icmp.checksum.status == "Bad"
    || (tcp.checksum.status == "Bad" && !icmp)'
# fragments; tshark puts them together and checks the checksum of the whole
readonly FRAGMENTS='ip.flags.mf == 1 || ip.frag_offset > 0'

# A quoted TCP segment must bear the checksum of a segment that was sent before. Prints how many do not.
quotes() { # quotes FILE
    tshark -r "$1" -Y 'tcp' -T fields -E occurrence=l -e icmp.type -e ip.id -e tcp.checksum 2>/dev/null |
        awk -F '\t' '$1 == "" { sent[$2, $3] = 1; next } !(($2, $3) in sent) { n++ } END { print n + 0 }'
}

# Segments of one connection that come after one with a higher IP identification were overtaken: unlike a retransmission,
# which gets a new one. Linux counts it up per connection. (The compare is of hexadecimal numbers of equal width.)
overtaken() { # overtaken FILE SOURCE
    tshark -r "$1" -Y "tcp.len > 0 && ip.src == $2" -T fields -e tcp.stream -e ip.id 2>/dev/null |
        awk '($1 in highest) && $2 < highest[$1] { n++; next } { highest[$1] = $2 } END { print n + 0 }'
}

check() { # check FILE TYPE LINK [NAME MINIMUM FILTER]...
    local file=$1 type=$2 link=$3 is_type is_link packets found problems=() kinds=()
    shift 3
    checked+=("$file")
    IFS=$'\t' read -r _ is_type is_link packets < <(capinfos -T -r -t -E -c "$file")
    [[ $is_type == "$type" ]] || problems+=("file type is $is_type, not $type")
    [[ $is_link == "$link" ]] || problems+=("link type is $is_link, not $link")
    found=$(count "$file" "$BAD")
    ((found == 0)) || problems+=("$found bad checksums")
    found=$(quotes "$file")
    ((found == 0)) || problems+=("$found quoted TCP checksums of nothing that was sent")
    found=$(count "$file" 'frame.cap_len < frame.len || ip.len > 1500')
    ((found == 0)) || problems+=("$found cut or too large")
    while (($#)); do
        case $3 in
            overtaken) found=$(overtaken "$file" 100.100.100.100) ;;
            *) found=$(count "$file" "$3") ;;
        esac
        kinds+=("$1 $found")
        ((found >= $2)) || problems+=("$1: $found, fewer than $2")
        shift 3
    done
    local IFS=,
    echo "$file: $packets packets, $is_link, ${kinds[*]}: ${problems[*]:-ok}"
    ((${#problems[@]} == 0)) || failed=1
}

check http.pcap pcap ether \
    SYN 8 'tcp.flags.syn == 1 && tcp.flags.ack == 0' \
    GET 9 'http.request.method == "GET"' \
    HEAD 1 'http.request.method == "HEAD"' \
    "download bytes" 1 'http.content_length == 60000 && tcp.segment.count > 30' \
    RST 1 'tcp.flags.reset == 1 && tcp.srcport == 81'
check dns.pcap pcap ether \
    A 1 'dns.qry.type == 1 && udp' AAAA 1 'dns.qry.type == 28' TXT 1 'dns.qry.type == 16' \
    NXDOMAIN 1 'dns.flags.rcode == 3' truncated 1 'dns.flags.truncated == 1' \
    "over TCP" 4 'dns && tcp' fragments 2 "$FRAGMENTS" "port unreachable" 1 'icmp.type == 3 && icmp.code == 3'
check ping.pcap pcap ether \
    requests 20 'icmp.type == 8' replies 20 'icmp.type == 0' fragments 12 "$FRAGMENTS" \
    "record route" 4 'ip.opt.type == 7' "time stamp" 4 'ip.opt.type == 68' \
    "time exceeded" 1 'icmp.type == 11' "host unreachable" 1 'icmp.type == 3 && icmp.code == 1' \
    prohibited 1 'icmp.type == 3 && icmp.code == 13'
check traceroute.pcap pcap ether \
    "time exceeded from the router" 9 'icmp.type == 11 && ip.src == 1.2.3.1' \
    "time exceeded from beyond it" 9 'icmp.type == 11 && ip.src == 5.6.7.2' \
    "port unreachable" 3 'icmp.type == 3 && icmp.code == 3 && ip.src == 100.100.100.100' \
    "echo replies" 3 'icmp.type == 0' "SYN-ACK" 3 'tcp.flags.syn == 1 && tcp.flags.ack == 1' \
    "quoted TCP" 6 'icmp.type == 11 && tcp' "quoted echo" 6 'icmp.type == 11 && icmp.type == 8'
check iperf-udp-fragments.pcap pcap ether \
    "fragments there" 60 "($FRAGMENTS) && ip.src == 1.2.3.4" \
    "fragments back" 60 "($FRAGMENTS) && ip.src == 100.100.100.100" TCP 20 tcp
check iperf-tcp.pcap pcap ether \
    "retransmissions there" 2 'tcp.analysis.retransmission && ip.src == 1.2.3.4' \
    "retransmissions back" 2 'tcp.analysis.retransmission && ip.src == 100.100.100.100' \
    "SACK from the client" 2 'tcp.options.sack.count > 0 && ip.src == 1.2.3.4' \
    "SACK from the server" 2 'tcp.options.sack.count > 0 && ip.src == 100.100.100.100' \
    "overtaken" 5 overtaken
check pmtu.pcap pcap ether \
    "fragmentation needed" 3 'icmp.type == 3 && icmp.code == 4 && icmp.mtu == 1300' \
    "of echo" 1 'icmp.code == 4 && icmp.type == 8' \
    "of UDP" 1 'icmp.code == 4 && udp' \
    "of TCP" 1 'icmp.code == 4 && tcp' \
    "retransmissions" 1 'tcp.analysis.retransmission'
check tftp.pcap pcap ether \
    "read requests" 2 'tftp.opcode == 1' "write requests" 1 'tftp.opcode == 2' data 40 'tftp.opcode == 3' \
    "from a fresh port" 40 'udp && ip.src == 100.100.100.100 && udp.srcport != 69' error 1 'tftp.opcode == 5'

mixture=(
    HTTP 2 http DNS 2 dns echo 4 'icmp.type == 8 || icmp.type == 0' fragments 8 "$FRAGMENTS"
    "time exceeded" 2 'icmp.type == 11' "port unreachable" 1 'icmp.type == 3 && icmp.code == 3'
)
check linux-cooked.pcap pcap linux-sll2 "${mixture[@]}"
check linux-cooked.pcapng pcapng linux-sll2 "${mixture[@]}"
check linux-cooked-v1.pcap pcap linux-sll "${mixture[@]}"
check vlan.pcap pcap ether tagged 30 'vlan.id == 7' "${mixture[@]}"
check vlan-qinq.pcap pcap ether "tagged twice" 30 'ieee8021ad.id == 70 && vlan.id == 7' "${mixture[@]}"
check raw-ip.pcap nsecpcap rawip "${mixture[@]}"
check raw-ip.pcapng pcapng rawip "${mixture[@]}"

for file in *.pcap *.pcapng; do
    if [[ " ${checked[*]} " != *" $file "* ]]; then
        echo "$file: not checked by check.sh"
        failed=1
    fi
done
exit $failed
