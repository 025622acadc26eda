# Seals and opens ESP in UDP by Scapy and OpenSSL: RFC 4303, 3948, 4106, 7634 as others wrote them down.
# A line in is "seal|open suite key+salt spi counter packet", in hex; a line out is the result, or "refused".
import sys

from scapy.all import IP, UDP, ESP, IPv6, raw
from scapy.layers.ipsec import IPSecIntegrityError, SecurityAssociation

ALGORITHMS = {"AES-256-GCM": "AES-GCM", "AES-128-GCM": "AES-GCM", "ChaCha20-Poly1305": "CHACHA20-POLY1305"}


def association(suite, key, spi):
    return SecurityAssociation(
        ESP, spi=spi, crypt_algo=ALGORITHMS[suite], crypt_key=key,
        tunnel_header=IP(src="192.0.2.1", dst="192.0.2.2"), nat_t_header=UDP(sport=4500, dport=4500))


def inner(packet):
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def answer(verb, sa, spi, counter, packet):
    if verb == "seal":
        sealed = sa.encrypt(inner(packet), seq_num=counter, iv=counter.to_bytes(8, "big"))
        return raw(sealed[UDP].payload)
    outer = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=4500, dport=4500) / ESP(packet)
    return raw(sa.decrypt(IP(raw(outer / b""))))


for line in sys.stdin:
    verb, suite, key, spi, counter, packet = line.split()
    sa = association(suite, bytes.fromhex(key), int(spi, 16))
    try:
        print(answer(verb, sa, int(spi, 16), int(counter), bytes.fromhex(packet)).hex(), flush=True)
    except IPSecIntegrityError:
        print("refused", flush=True)
