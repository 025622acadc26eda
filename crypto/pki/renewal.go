package pki

import "time"

// Renewal is when a certificate is to be renewed, for who asks often: to read it out of the
// certificate costs kilobytes. The zero Renewal is due.
type Renewal struct{ from, at time.Time }

// RenewalOf reads it out of a certificate; of one that cannot be read it is zero.
func RenewalOf(certDER []byte) Renewal {
	cert, err := parseCertificate(certDER)
	if err != nil {
		return Renewal{}
	}
	return Renewal{cert.NotBefore, cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)}
}

// Due reports whether the holder should ask for a new certificate: when two thirds of its
// life are over, however long ago that was; also when the certificate cannot be read or has
// not begun, since waiting would heal neither.
func (r Renewal) Due(now time.Time) bool { return now.Before(r.from) || !now.Before(r.at) }

// NeedsRenewal is Due of a certificate.
func NeedsRenewal(certDER []byte, now time.Time) bool { return RenewalOf(certDER).Due(now) }
