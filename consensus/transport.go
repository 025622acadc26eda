package consensus

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's own, which says beside a request what raft does not: see word. And
// before raft's queue it has a filter, for raft compares no more than indices and terms.
type transport struct {
	*raft.NetworkTransport
	replica *Raft
	passed  chan raft.RPC
}

// Consumer is what raft reads.
func (t transport) Consumer() <-chan raft.RPC { return t.passed }

// SetHeartbeatHandler takes raft's short way for heartbeats, which goes past its queue and
// past its one goroutine: a busy disk is to end no leader's lease. Two of different terms
// took it at a time, and each wrote its own: the term went back where the older one's write
// ended last, and a replica whose term goes back votes twice in one, and follows leaders that
// were deposed. So only that takes it which changes no term; all else waits in the queue.
func (t transport) SetHeartbeatHandler(short func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		select {
		case <-t.replica.started:
		case <-t.replica.closing:
			return
		}
		if err := t.replica.outlived(rpc.Command); err != nil {
			rpc.Respond(nil, err)
			return
		}
		if ask, is := rpc.Command.(*raft.AppendEntriesRequest); is && t.replica.follows(ask.Term) {
			short(rpc)
			return
		}
		select {
		case t.passed <- rpc:
		case <-t.replica.closing:
		}
	})
}

// follows says that the replica follows in this term already.
func (r *Raft) follows(term uint64) bool {
	return r.raft.State() == raft.Follower && r.raft.CurrentTerm() == term
}

// RequestPreVote asks for no vote while the log is behind: so the replica stands, and knows
// no leader that is dead, but is not elected. An only voter waits instead: see suffer. What it
// says of its log stands behind its address, for there is no field that raft does not read;
// the filter takes it off, and an older build compares that address with its leader's alone.
func (t transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, ask *raft.RequestPreVoteRequest,
	answer *raft.RequestPreVoteResponse) error {
	if t.replica.Behind() {
		answer.RPCHeader = t.replica.header() // not granted
		return nil
	}
	said := *ask
	if word, ok := t.replica.candidate(ask.LastLogIndex, ask.LastLogTerm); ok {
		said.Addr = slices.Concat(ask.Addr, word)
	}
	return t.replica.heed(id, t.NetworkTransport.RequestPreVote(id, target, &said, answer))
}

// RequestVote is the same for one whom its leader hands the lead to. It says who led
// this log.
func (t transport) RequestVote(id raft.ServerID, target raft.ServerAddress, ask *raft.RequestVoteRequest,
	answer *raft.RequestVoteResponse) error {
	if t.replica.Behind() {
		answer.RPCHeader = t.replica.header()
		return nil
	}
	said := *ask
	if word, ok := t.replica.candidate(ask.LastLogIndex, ask.LastLogTerm); ok {
		//lint:ignore SA1019 raft takes the candidate from the header, so this field is free for the word
		said.Candidate = word
	}
	return t.replica.heed(id, t.NetworkTransport.RequestVote(id, target, &said, answer))
}

// AppendEntries sends entries, with whose the one before them is.
func (t transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, ask *raft.AppendEntriesRequest,
	answer *raft.AppendEntriesResponse) error {
	said, err := t.replica.vouch(ask)
	if err != nil {
		return err
	}
	err = t.replica.heed(id, t.NetworkTransport.AppendEntries(id, target, said, answer))
	if err == nil {
		t.replica.refusers.ends(id, answer.LastLog)
		t.replica.answers.of(id).Store(time.Now().UnixNano())
	}
	return err
}

// InstallSnapshot sends a snapshot, with whose entry it ends with.
func (t transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, ask *raft.InstallSnapshotRequest,
	answer *raft.InstallSnapshotResponse, data io.Reader) error {
	by, err := t.replica.file.snapshotOrigin(mark{ask.LastLogIndex, ask.LastLogTerm})
	if t.replica.GivenUp() {
		err = errGivenUp
	}
	if err != nil {
		return err
	}
	if !t.replica.refusers.due(id, time.Now()) {
		return errRefused
	}
	said := *ask
	said.Leader = word{t.replica.incarnation(), by}.bytes()
	err = t.replica.heed(id, t.NetworkTransport.InstallSnapshot(id, target, &said, answer, data))
	if err == nil && !answer.Success && answer.Term <= ask.Term && t.replica.refusers.refused(id, time.Now()) {
		t.replica.log.Warn("a voter does not take this leader's snapshot: its log may hold changes that this one lacks, see meshcrypt status there; "+
			"it is offered again from time to time", "node", id)
	}
	return err
}

// errMoved means that the log changed under a request: this server leads no more.
var errMoved = errors.New("consensus: the log is not what it was")

// vouch adds the word to a request; of a heartbeat, which names no entry, the incarnation. Who
// leads by a log that was given up says nothing more, and its lease runs out.
func (r *Raft) vouch(ask *raft.AppendEntriesRequest) (*raft.AppendEntriesRequest, error) {
	if r.GivenUp() {
		return nil, errGivenUp
	}
	before := led{by: origin{known: ask.PrevLogEntry > 0 || len(ask.Entries) > 0}}
	if ask.PrevLogEntry > 0 {
		var err error
		if before, err = r.file.at(ask.PrevLogEntry); err != nil || before.term != ask.PrevLogTerm {
			return nil, errors.Join(errMoved, err)
		}
	}
	said := *ask
	//lint:ignore SA1019 raft takes the leader from the header, so this field is free for the word
	said.Leader = word{r.incarnation(), before.by}.bytes()
	for _, entry := range ask.Entries {
		next := led{entry.Term, originOf(entry)}
		if next.term < before.term || next.term == before.term && next.by.differs(before.by) {
			return nil, fmt.Errorf("%w at %d", errMoved, entry.Index)
		}
		before = next
	}
	return &said, nil
}

// filter passes on what is asked until the replica closes, one after the other: each is
// held against the log as those before it left it.
func (r *Raft) filter(t transport) {
	<-r.started
	for {
		select {
		case <-r.closing:
			return
		case rpc := <-t.NetworkTransport.Consumer():
			r.pass(t, rpc)
		}
	}
}

func (r *Raft) pass(t transport, rpc raft.RPC) {
	heard := func(raft.RPCResponse) {}
	err := r.outlived(rpc.Command)
	if malformed(rpc.Command) {
		err = errMalformed
	}
	if err != nil {
		if rpc.Reader != nil {
			_, _ = io.Copy(io.Discard, rpc.Reader) // the next request is behind it
		}
		rpc.Respond(nil, err)
		return
	}
	switch ask := rpc.Command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		if r.refusesVote(rpc) {
			return
		}
	case *raft.InstallSnapshotRequest:
		if r.refusesSnapshot(ask) {
			_, _ = io.Copy(io.Discard, rpc.Reader) // the next request is behind it
			rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: r.header(), Term: r.raft.CurrentTerm()}, nil)
			return
		}
	case *raft.AppendEntriesRequest:
		heard = r.compare(ask)
	}
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.passed <- raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: answer}:
	case <-r.closing:
		return
	}
	select {
	case said := <-answer:
		heard(said)
		rpc.Respond(said.Response, said.Error)
	case <-r.closing:
	}
}

// errMalformed answers what raft would panic at.
var errMalformed = errors.New("consensus: malformed request")

// malformed says that a request has an entry that is none or that raft does not know, one
// that does not follow the one before it, or servers that cannot be read.
func malformed(request any) bool {
	switch ask := request.(type) {
	case *raft.AppendEntriesRequest:
		index := ask.PrevLogEntry
		return slices.ContainsFunc(ask.Entries, func(entry *raft.Log) bool {
			index++
			return entry == nil || entry.Index != index || entry.Type > raft.LogConfiguration ||
				entry.Type == raft.LogConfiguration && !readable(entry.Data)
		})
	case *raft.InstallSnapshotRequest:
		return ask.SnapshotVersion > 0 && !readable(ask.Configuration)
	}
	return false
}

// readable says that raft can read servers; it panics where it cannot.
func readable(servers []byte) (so bool) {
	defer func() { so = recover() == nil }()
	raft.DecodeConfiguration(servers)
	return so
}

func (r *Raft) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(r.id)), Addr: []byte(serverAddress(r.id)),
	}
}
