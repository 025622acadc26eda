package pki

import "time"

// RenewAt is when two thirds of the certificate's life are over.
func RenewAt(certDER []byte) (time.Time, error) {
	cert, err := parseCertificate(certDER)
	if err != nil {
		return time.Time{}, err
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life / 3 * 2), nil
}

// NeedsRenewal reports whether the holder should ask for a new certificate:
// from RenewAt on, however long ago that was; also when the certificate cannot
// be read or has not begun, since waiting would heal neither.
func NeedsRenewal(certDER []byte, now time.Time) bool {
	cert, err := parseCertificate(certDER)
	if err != nil || now.Before(cert.NotBefore) {
		return true
	}
	at, err := RenewAt(certDER)
	return err != nil || !now.Before(at)
}
