package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestOutputsOfOlderBuild: what scripts read of e45f7b0's -o json, today's answers
// have, under the same names and in the same form.
func TestOutputsOfOlderBuild(t *testing.T) {
	types := map[string]any{
		"ca": &control.Authorities{}, "client-status": &control.ClientStatus{}, "clients": &control.Clients{},
		"ended": &control.Sessions{}, "init": &foundedReply{}, "members": &control.Members{}, "peers": &control.RaftPeers{},
		"profile": &control.Profile{}, "session": &sessionReply{}, "sessions": &control.Sessions{},
		"status": &control.Status{}, "token": &control.TokenCreated{}, "tokens": &control.Tokens{},
	}
	files, err := filepath.Glob("testdata/e45f7b0/*.json")
	if err != nil || len(files) != len(types) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		answer := types[strings.TrimSuffix(filepath.Base(file), ".json")]
		if answer == nil {
			t.Fatalf("%s is of no type", file)
		}
		if err := json.Unmarshal(raw, answer); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		again, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		var was, is any
		if json.Unmarshal(raw, &was) != nil || json.Unmarshal(again, &is) != nil {
			t.Fatalf("%s is no JSON", file)
		}
		for _, lost := range missing("", was, is) {
			t.Errorf("%s: %s", file, lost)
		}
	}
}

// missing lists what one value has and the other lacks or has otherwise.
func missing(at string, was, is any) (lost []string) {
	switch was := was.(type) {
	case map[string]any:
		object, _ := is.(map[string]any)
		for name, value := range was {
			if _, there := object[name]; !there {
				lost = append(lost, at+"."+name+" is not there")
				continue
			}
			lost = append(lost, missing(at+"."+name, value, object[name])...)
		}
	case []any:
		list, _ := is.([]any)
		if len(list) != len(was) {
			return []string{fmt.Sprintf("%s has %d elements, had %d", at, len(list), len(was))}
		}
		for i := range was {
			lost = append(lost, missing(fmt.Sprintf("%s[%d]", at, i), was[i], list[i])...)
		}
	default:
		if !reflect.DeepEqual(was, is) {
			lost = append(lost, fmt.Sprintf("%s is %v, was %v", at, is, was))
		}
	}
	return lost
}
