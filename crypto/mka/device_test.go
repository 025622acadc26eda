package mka

import "testing"

// TestDeviceIsBound: the proof is of this connection, hello, device and key, and none
// of the hello's own.
func TestDeviceIsBound(t *testing.T) {
	s := newScene(t)
	exporter, id := make([]byte, ExporterSize), DeviceID{7}
	sig := SignDevice(s.session, exporter, s.hello, id)
	if !VerifyDevice(s.session.Public(), exporter, s.hello, id, sig) {
		t.Fatal("a true proof does not hold")
	}
	other := append([]byte{1}, exporter[1:]...)
	for what, holds := range map[string]bool{
		"connection":     VerifyDevice(s.session.Public(), other, s.hello, id, sig),
		"short exporter": VerifyDevice(s.session.Public(), exporter[1:], s.hello, id, SignDevice(s.session, exporter[1:], s.hello, id)),
		"hello":          VerifyDevice(s.session.Public(), exporter, s.hello[1:], id, sig),
		"device":         VerifyDevice(s.session.Public(), exporter, s.hello, DeviceID{8}, sig),
		"key":            VerifyDevice(s.arbiter.Public(), exporter, s.hello, id, sig),
		"hello's proof":  VerifyDevice(s.session.Public(), exporter, s.hello, id, SignHello(s.session, exporter, s.hello)),
		"for the hello":  VerifyHello(s.session.Public(), exporter, s.hello, sig),
	} {
		if holds {
			t.Errorf("it holds for another %s", what)
		}
	}
}
