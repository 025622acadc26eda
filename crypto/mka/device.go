package mka

import "github.com/meshcrypt/meshcrypt/crypto/identity"

// DeviceID is what a client's device calls itself, beside its Hello: a login of the
// same device takes the place of its earlier session. It is random and no secret.
type DeviceID [16]byte

const deviceContext = "mka/1 device"

// SignDevice proves that the sender of a hello on this TLS connection, who holds its
// session key, says which device it is. It stands beside M1 and not in it: an
// arbiter of before devices reads no longer M1, and passes over what is beside it.
func SignDevice(sessionKey identity.Key, exporter, hello []byte, id DeviceID) []byte {
	return sessionKey.Sign(deviceContext, appendPrefixed(possession(exporter, hello), id[:]))
}

// VerifyDevice checks the proof of SignDevice.
func VerifyDevice(pub identity.PublicKey, exporter, hello []byte, id DeviceID, sig []byte) bool {
	return len(exporter) == ExporterSize &&
		pub.Verify(deviceContext, appendPrefixed(possession(exporter, hello), id[:]), sig)
}
