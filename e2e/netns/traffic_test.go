//go:build e2e

package netns

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Sizes of the traffic on one row of the matrix: each takes about a second at
// most, and is larger than what windows and queues hold.
const (
	streamBytes = 12 << 20
	webBytes    = 8 << 20
	udpBytes    = 1 << 20
	udpRate     = "20M"
	// udpLoss is the share that may be missing. UDP has no second try, iperf3's
	// socket holds 40 ms of it, and two cores serve every host of the world. A
	// slice that carries nothing loses all.
	udpLoss = 0.1
	// standing is the rate in Mbit/s below which something stood still for a
	// second or more: a whole row runs at several hundred.
	standing = 50
)

// stood says that what arrived whole was on its way for too long.
func stood(mbit float64) error {
	if mbit < standing {
		return lab.Late{What: fmt.Sprintf("%.0f Mbit/s: it stood still on the way", mbit)}
	}
	return nil
}

// crossing is a client and a server beyond the mesh, by one of its addresses.
type crossing struct {
	client  *lab.Space
	address string
	web     *lab.Web
	upload  string // file of webBytes, lab.Content
	page    string // file to write
}

// traffic is what goes over every row, each one up and down; it answers in
// Mbit/s of what arrived.
var traffic = []struct {
	name string
	run  func(crossing, bool) (float64, error)
}{
	{"TCP", crossing.stream}, {"UDP", crossing.datagrams}, {"HTTP", crossing.fetch},
}

func (c crossing) stream(down bool) (mbit float64, err error) {
	report, err := c.client.Iperf(c.address, reversed(down, "--bytes", strconv.Itoa(streamBytes))...)
	received := report.End.Received
	// iperf3's server stops counting when the client has handed over the last
	// byte; that all arrive unchanged is what the page shows.
	if err == nil && received.Bytes < streamBytes/2 {
		err = fmt.Errorf("%.0f bytes arrived of %d", received.Bytes, streamBytes)
	}
	if err == nil {
		err = stood(received.Rate / 1e6)
	}
	return received.Rate / 1e6, err
}

func (c crossing) datagrams(down bool) (mbit float64, err error) {
	report, err := c.client.Iperf(c.address, reversed(down, "--udp", "--bitrate", udpRate, "--bytes", strconv.Itoa(udpBytes))...)
	sum := report.End.Sum
	if err == nil && (sum.Packets == 0 || sum.Lost > udpLoss*sum.Packets) {
		err = lab.Late{What: fmt.Sprintf("%.0f of %.0f datagrams were lost", sum.Lost, sum.Packets)}
	}
	return report.End.Received.Rate / 1e6, err
}

func reversed(down bool, flags ...string) []string {
	if down {
		return append(flags, "--reverse")
	}
	return flags
}

// fetch is a file fetched or brought by curl; both ends must have the same one.
func (c crossing) fetch(down bool) (mbit float64, err error) {
	url := "http://" + net.JoinHostPort(c.address, strconv.Itoa(c.web.Port)) + "/"
	args := []string{"curl", "--fail", "--silent", "--show-error", "--max-time", "20", "--output", c.page, "--write-out", "%{speed_download}", url + strconv.Itoa(webBytes)}
	if !down {
		args = []string{"curl", "--fail", "--silent", "--show-error", "--max-time", "20", "--output", c.page, "--write-out", "%{speed_upload}", "--upload-file", c.upload, url}
	}
	r := c.client.Try(nil, args...)
	if r.Code != 0 {
		return 0, fmt.Errorf("curl: exit %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	got, err := arrived(c.page, down)
	if want := lab.ContentHash(webBytes); err == nil && got != want {
		err = fmt.Errorf("SHA-256 is %s, sent was %s", got, want)
	}
	speed, _ := strconv.ParseFloat(r.Out, 64)
	mbit = speed * 8 / 1e6
	if err == nil {
		err = stood(mbit)
	}
	return mbit, err
}

// arrived is the hash of what curl fetched, or the hash that the server told.
func arrived(path string, down bool) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if !down {
		told, err := io.ReadAll(io.LimitReader(file, 1<<10))
		return string(told), err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), err
}
