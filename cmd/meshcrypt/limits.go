package main

import "time"

// Limits of the command line (I10).
const (
	// CallTimeout bounds one question to a daemon.
	CallTimeout = 15 * time.Second
	// LeaveTimeout bounds leave and drain, which wait for sessions to move.
	LeaveTimeout = 60 * time.Second
	// pollEvery is how often an end that must come is looked for.
	pollEvery = 20 * time.Millisecond
	// MaxConfig, MaxProfile and MaxSecret bound the files that are read.
	MaxConfig  = 1 << 20
	MaxProfile = 64 << 10
	MaxSecret  = 4 << 10
	// MaxCertificateFile bounds a file of certificates, or of one key.
	MaxCertificateFile = 64 << 10
	// MaxBandwidth is what --bandwidth accepts, in bit/s.
	MaxBandwidth = 100_000_000_000_000
	// MaxCapacity is what --capacity accepts, in CPUs.
	MaxCapacity = 4096
)

// DefaultPort is the one port of a node, UDP and TCP.
const DefaultPort = 6484

// DefaultProxy is where a client without root offers its tunnel.
const DefaultProxy = "127.0.0.1:1080"
