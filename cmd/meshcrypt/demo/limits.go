package demo

import "time"

// Limits of a demo (I10).
const (
	MinNodes, MaxNodes     = 3, 9
	MinSeconds, MaxSeconds = 6, 3600
	MinRate, MaxRate       = 1_000_000, 100_000_000_000 // bit/s
)

// Times of a demo.
const (
	// BuildTimeout bounds everything before the transfers: mesh and session.
	BuildTimeout = 60 * time.Second
	// ExtraTime is what the transfers may take beyond their pace.
	ExtraTime = 30 * time.Second
	// MaxStall is the longest pause of either transfer that still passes: the
	// node that dies may be agent, gateway, egress and arbiter at once.
	MaxStall = 2 * time.Second
	// StopTime is how long the demo may take to end when told to.
	StopTime = 5 * time.Second

	// LateLeast is how late a timer must be until a FAIL names the machine.
	LateLeast = 250 * time.Millisecond

	watchEvery   = 20 * time.Millisecond
	pollEvery    = 100 * time.Millisecond
	statusEvery  = time.Second
	callTimeout  = time.Second
	reportEvery  = 100 * time.Millisecond // progress events of a transfer
	settle       = 1500 * time.Millisecond
	dialTimeout  = 15 * time.Second
	redialWithin = 250 * time.Millisecond
)

// From when on a FAIL says that the machine gave too little.
const (
	StolenLeast = 0.05 // of its CPU time
	LoadLeast   = 3.0  // tasks for each CPU
)

const (
	chunkMax = 64 << 10 // bytes written at a time
	chunkMin = 1 << 10
	// lastLines of each log are shown after FAIL.
	lastLines = 15
	maxLine   = 64 << 10 // bytes of one event
	// codeRefused is the exit code of a stage that lacks what the demo needs.
	codeRefused = 77
	// maxPortTries bounds the search for ports that are free.
	maxPortTries = 20
)
