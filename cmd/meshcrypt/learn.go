package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// learnCluster asks the mesh its id, which a CA hash does not hold: the CA
// certifies one mesh only, so whoever proves to be its arbiter names it.
// It is as patient as a first login.
func (a *app) learnCluster(ctx context.Context, profile client.Profile) (identity.ClusterID, error) {
	wait := client.RedialMin
	for begin := time.Now(); ; wait = min(2*wait, client.FirstRedialMax) {
		cluster, err := askGateways(ctx, profile)
		if err == nil || errors.Is(err, pki.ErrAuthority) {
			return cluster, err
		}
		if time.Since(begin) >= client.FirstWithin || ctx.Err() != nil {
			return cluster, control.Errorf(control.CodeUnreachable,
				"check that a gateway listens there, and that TCP and UDP 6484 are open", "no gateway answers: %v", err)
		}
		if wait == client.RedialMin {
			a.sayWaiting(err, client.FirstWithin)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

func askGateways(ctx context.Context, profile client.Profile) (identity.ClusterID, error) {
	var errs []error
	for _, gateway := range profile.Gateways {
		cluster, err := askCluster(ctx, gateway.String(), profile.CAHash)
		if err == nil || errors.Is(err, pki.ErrAuthority) {
			return cluster, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", gateway, err))
	}
	return identity.ClusterID{}, errors.Join(errs...)
}

func askCluster(ctx context.Context, gateway string, caHash [32]byte) (cluster identity.ClusterID, err error) {
	ctx, cancel := context.WithTimeout(ctx, client.DialTimeout)
	defer cancel()
	// An earlier client may have left this host closed.
	dialer := tls.Dialer{NetDialer: &net.Dialer{Control: host.PastTunnel}, Config: pki.Client(port.ALPNClient, nil, func(raw [][]byte) error {
		peer, err := pki.LearnArbiter(raw, caHash, time.Now())
		cluster = peer.Cluster
		return err
	})}
	conn, err := dialer.DialContext(ctx, "tcp", gateway)
	if err != nil {
		return cluster, err
	}
	return cluster, conn.Close()
}
