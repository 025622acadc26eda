# Opens the ESP packets of a capture by Scapy and OpenSSL: capture, key log, canary. Prints how many there
# are, how many opened, and how many of those carry the canary.
import sys

from scapy.all import ESP, IP, PcapReader, UDP, raw
from scapy.layers.ipsec import SecurityAssociation

ALGORITHMS = {"AES-256-GCM": "AES-GCM", "AES-128-GCM": "AES-GCM", "ChaCha20-Poly1305": "CHACHA20-POLY1305"}

capture, keys, canary = sys.argv[1], sys.argv[2], sys.argv[3].encode()
associations = {}
for line in open(keys):
    spi, key, suite = line.split()
    associations[int(spi, 16)] = SecurityAssociation(
        ESP, spi=int(spi, 16), crypt_algo=ALGORITHMS[suite], crypt_key=bytes.fromhex(key[2:]),
        tunnel_header=IP(src="192.0.2.1", dst="192.0.2.2"))

seen = opened = canaries = 0
for packet in PcapReader(capture):
    if UDP not in packet or raw(packet[UDP].payload)[:4] == bytes(4):
        continue
    seen += 1
    frame = ESP(raw(packet[UDP].payload))
    if frame.spi not in associations:
        continue
    try:
        inner = raw(associations[frame.spi].decrypt(IP(src="192.0.2.1", dst="192.0.2.2", proto=50) / frame))
    except Exception:  # whatever it is, the packet was not opened
        continue
    opened += 1
    canaries += canary in inner
print(seen, opened, canaries)
