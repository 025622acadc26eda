package consensus

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// outlivedBy is the answer to a server of an incarnation that was given up, in raft's place:
// it learns no term here, in which it would elect somebody, nor is its own heard of. What it
// learns is that the mesh was recovered.
type outlivedBy uint64

const outlivedText = "consensus: the mesh was recovered, and is of incarnation "

func (o outlivedBy) Error() string { return outlivedText + strconv.FormatUint(uint64(o), 10) }

// errGivenUp is why a server of an earlier incarnation decides nothing.
var errGivenUp = errors.New("consensus: the mesh was recovered without this log")

// GivenUp says that the mesh was recovered without this replica, whose log is of before.
func (r *Raft) GivenUp() bool { return r.floor.givenUp() }

// givenUp says that the mesh was recovered in a later incarnation than this replica's. One
// that has none yet is a new one, or of the first: no other begins without a snapshot.
func (f *floor) givenUp() bool {
	heard := f.get().Incarnation
	return heard > 1 && heard > f.own()
}

const outlivedKey = "outlived"

// noteOutlived keeps on disk that the mesh was recovered: another process, which perhaps hears
// nothing of that for a while, must not decide with others of this log again.
func (r *Raft) noteOutlived() {
	if !r.GivenUp() {
		return
	}
	heard := r.floor.get().Incarnation
	if was, err := r.file.outlived(); err == nil && was >= heard {
		return
	}
	if err := r.file.recentLog.SetUint64([]byte(outlivedKey), heard); err != nil {
		r.log.Warn("it is not kept that the mesh was recovered without this node", "error", err)
	}
}

// outlived is the incarnation that was noted; zero: none was.
func (l *logStore) outlived() (incarnation uint64, err error) {
	incarnation, err = l.recentLog.GetUint64([]byte(outlivedKey))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return incarnation, err
}

// outlived is why a request does not come to raft: whoever sent it is of an earlier
// incarnation than this replica, or than one it heard of. Of a later one it hears so.
func (r *Raft) outlived(request any) error {
	said, server, told := wordIn(request)
	if !told {
		return nil
	}
	r.hear(said.incarnation, server)
	if newest := max(r.incarnation(), r.floor.get().Incarnation); newest > max(said.incarnation, 1) {
		return outlivedBy(newest)
	}
	return nil
}

// wordIn is what a request says beside itself, and who sent it; false: nothing, as an older
// build's.
func wordIn(request any) (said word, server raft.ServerID, told bool) {
	var raw []byte
	switch ask := request.(type) {
	case *raft.AppendEntriesRequest:
		//lint:ignore SA1019 raft takes the leader from the header, so this field is free for the word
		raw, server = ask.Leader, raft.ServerID(ask.ID)
	case *raft.InstallSnapshotRequest:
		raw, server = ask.Leader, raft.ServerID(ask.ID)
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 raft takes the candidate from the header, so this field is free for the word
		_, raw = readReigns(ask.Candidate)
		server = raft.ServerID(ask.ID)
	case *raft.RequestPreVoteRequest:
		_, raw = readReigns(ask.Addr)
		raw, server = raw[max(0, bytes.Index(raw, []byte(wordMagic))):], raft.ServerID(ask.ID)
	}
	said, told = readWord(raw)
	return said, server, told
}

// heed takes from an answer that whoever gave it is of a later incarnation.
func (r *Raft) heed(server raft.ServerID, err error) error {
	if err == nil {
		return nil
	}
	if text, is := strings.CutPrefix(err.Error(), outlivedText); is {
		if incarnation, err := strconv.ParseUint(text, 10, 64); err == nil {
			r.hear(incarnation, server)
		}
	}
	return err
}

// hear notes a later incarnation, by which this replica decides nothing any more: its log
// gives way to the recovered one.
func (r *Raft) hear(incarnation uint64, server raft.ServerID) {
	if incarnation <= max(r.incarnation(), r.floor.get().Incarnation, 1) {
		return
	}
	r.Learn(Known{Incarnation: incarnation})
	by, _ := nodeID(server)
	r.log.Warn("the mesh was recovered without this node: by its own log it decides nothing any more; the recovered mesh has it vote again by itself",
		"incarnation", incarnation, "node", by.Short())
}
