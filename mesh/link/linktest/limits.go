package linktest

const (
	// MaxQueue is how many trains wait at one socket; the oldest is dropped.
	MaxQueue = 4096
	// MaxInFlight is how many trains fly in one network; further ones are lost.
	MaxInFlight = 1 << 16
)
