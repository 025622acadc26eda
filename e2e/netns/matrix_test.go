//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// envMatrix asks for the whole matrix; else every pair of settings meets once.
const envMatrix = "MESHCRYPT_E2E_MATRIX"

// TestMatrix: IP family outside and inside, egress kind, number of agents and
// MTU, each with each, and TCP, UDP and HTTP over them both ways. The table of
// what was carried stands at its end.
func TestMatrix(t *testing.T) {
	rows := allRows()
	if os.Getenv(envMatrix) != "all" {
		rows = coverPairs(rows)
	}
	begin := time.Now()
	var table results
	for len(rows) > 0 {
		world := rows[:sameWorld(rows)]
		rows = rows[len(world):]
		t.Run(world[0].world(), func(t *testing.T) { table.cross(t, world) })
	}
	t.Logf("the matrix, in Mbit/s of what arrived (two cores carry every host):\n%s%d cells, %d failed, %.1f minutes",
		&table, table.cells, table.failed, time.Since(begin).Minutes())
}

// results is the lines of the table.
type results struct {
	lines         []string
	cells, failed int
}

func (r *results) String() string {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := "inner\touter\tegress\tagents\tMTU\t"
	for _, kind := range traffic {
		header += kind.name + " up\t" + kind.name + " down\t"
	}
	fmt.Fprintln(table, header)
	for _, line := range r.lines {
		fmt.Fprintln(table, line)
	}
	_ = table.Flush() // a strings.Builder takes all
	return out.String()
}

// cross builds one world and lets it grow from row to row.
func (r *results) cross(t *testing.T, rows []row) {
	w := newGrowing(t, rows[0])
	for _, row := range rows {
		w.become(row)
		r.measure(t, row, w.mesh, w.crossing(row))
	}
}

func (r *results) measure(t *testing.T, at row, m *mesh, c crossing) {
	line := fmt.Sprintf("%v\t%v\t%s\t%d\t%d\t", at.inner, at.outer, at.egress, at.agents, at.mtu)
	for _, kind := range traffic {
		for _, down := range []bool{false, true} {
			r.cells++
			var mbit float64
			err := lab.Again(m.t, func() (err error) {
				cost := m.quiet()
				mbit, err = kind.run(c, down)
				if l, ok := errors.AsType[lab.Late](err); ok {
					err = lab.Late{What: l.What, Beside: cost.Stall()}
				}
				return err
			})
			if err == nil {
				line += fmt.Sprintf("%.0f\t", mbit)
				continue
			}
			r.failed++
			line += "FAILED\t"
			t.Errorf("%v: %s, down %v: %v", at, kind.name, down, err)
		}
	}
	r.lines = append(r.lines, line)
}
