package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// plan is what the data files beside this program say, and what the generator
// found in the packages that they name.
type plan struct {
	found      []mutant
	named      []mutant
	extra      map[string][]string // by package: others whose tests may notice
	equivalent map[string]string   // by a mutant's name: why it changes nothing
}

func readPlan(root string) (*plan, error) {
	p := &plan{extra: make(map[string][]string), equivalent: make(map[string]string)}
	here := filepath.Join(root, "e2e", "mutants")
	for _, step := range []struct {
		file string
		read func(root, text string) error
	}{
		{"packages.txt", p.readPackages}, {"named.txt", p.readNamed}, {"equivalent.txt", p.readEquivalent},
	} {
		text, err := os.ReadFile(filepath.Join(here, step.file))
		if err == nil {
			err = step.read(root, string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.file, err)
		}
	}
	return p, nil
}

// meant are the lines that are no comment and not empty.
func meant(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// readPackages takes lines of a package and of others that use it.
func (p *plan) readPackages(root, text string) error {
	for _, line := range meant(text) {
		names := strings.Fields(line)
		p.extra[names[0]] = names[1:]
		files, err := filepath.Glob(filepath.Join(root, names[0], "*.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("no package %s", names[0])
		}
		slices.Sort(files)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, "_insecure.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			found, err := find(names[0]+"/"+filepath.Base(file), text)
			if err != nil {
				return err
			}
			p.found = append(p.found, found...)
		}
	}
	return nil
}

// readNamed takes blocks of this form, "tests" being further packages, and "by" in its place
// those that have to notice alone:
//
//	name: what is planted
//	file: node/client/dial.go
//	tests: node
//	--- before
//	text that the file has once
//	--- after
//	text in its place
//	---
func (p *plan) readNamed(root, text string) error {
	m, part := mutant{kind: kindNamed}, ""
	for line := range strings.Lines(text) {
		switch plain := strings.TrimRight(line, "\n"); {
		case plain == "--- before" || plain == "--- after":
			part = plain
		case plain == "---":
			m.before, m.after = strings.TrimSuffix(m.before, "\n"), strings.TrimSuffix(m.after, "\n")
			if err := m.locate(root); err != nil {
				return fmt.Errorf("%q: %w", m.where, err)
			}
			p.named = append(p.named, m)
			m, part = mutant{kind: kindNamed}, ""
		case part == "--- before":
			m.before += line
		case part == "--- after":
			m.after += line
		case strings.HasPrefix(plain, "name: "):
			m.where = plain[len("name: "):]
		case strings.HasPrefix(plain, "file: "):
			m.file = plain[len("file: "):]
		case strings.HasPrefix(plain, "tests: "):
			m.tests = strings.Fields(plain[len("tests: "):])
		case strings.HasPrefix(plain, "by: "):
			m.by = strings.Fields(plain[len("by: "):])
		case plain != "" && !strings.HasPrefix(plain, "#"):
			return fmt.Errorf("line %q belongs to nothing", plain)
		}
	}
	return nil
}

// locate finds the one place of a named mutant's text.
func (m *mutant) locate(root string) error {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return err
	}
	if n := bytes.Count(text, []byte(m.before)); n != 1 || m.before == "" {
		return fmt.Errorf("%s has the text before %d times: bring it up to date", m.file, n)
	}
	m.from = bytes.Index(text, []byte(m.before))
	m.to, m.line = m.from+len(m.before), lineAt(text, m.from)
	return nil
}

// readEquivalent takes lines of a mutant's name, a tab, and a reason.
func (p *plan) readEquivalent(_, text string) error {
	for _, line := range meant(text) {
		name, reason, ok := strings.Cut(line, "\t")
		if reason = strings.TrimSpace(reason); !ok || reason == "" {
			return fmt.Errorf("no reason in %q", line)
		}
		p.equivalent[name] = reason
	}
	return nil
}
